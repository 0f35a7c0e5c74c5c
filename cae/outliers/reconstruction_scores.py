"""Anomaly scores that compare an image with its reconstruction."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from etils import epy

from cae.metrics import squared_error, ssim
from cae.outliers.forward import ModelOutputs
from cae.outliers.score import Score

with epy.lazy_imports():
    import tensorflow as tf


class MeanSquaredError(Score):
    """The mean squared error of the reconstruction."""

    two_sided = True

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        return squared_error(outputs.image, outputs.output).numpy()


class SSIMScore(Score):
    """1 - SSIM of image and reconstruction (Bergmann et al. 2019): 0 to 2."""

    two_sided = True

    @functools.cached_property
    def _ssim(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        return tf.function(ssim, reduce_retracing=True)

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        return 1.0 - self._ssim(outputs.image, outputs.output).numpy()


class TopKPixelError(Score):
    """The mean squared error of the pixels with the largest errors, since an anomaly may be small."""

    two_sided = True
    fraction = 0.05

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        return self.compute(outputs).numpy()

    def compute(self, outputs: ModelOutputs) -> tf.Tensor:
        """Returns the scores of a batch, in a graph, too."""
        errors = tf.reduce_mean(tf.math.squared_difference(outputs.image, outputs.output), axis=-1)
        errors = tf.reshape(errors, [-1, math.prod(errors.shape[1:])])
        k = max(1, round(self.fraction * errors.shape[1]))
        return tf.reduce_mean(tf.math.top_k(errors, k, sorted=False)[0], axis=1)


class DenoisingError(Score):
    """The squared error of images denoised after Gaussian noise was added, mean over noise levels.

    All images get the same noise, so that a score does not depend on the other images. Graham et al. 2023 use many
    noise levels of a diffusion model.
    """

    two_sided = True
    levels = (0.2, 0.4, 0.6)

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        return self.compute(outputs, self.noise(outputs.image.shape[1:])).numpy()

    def noise(self, image_shape: Sequence[int]) -> list[tf.Tensor]:
        """Returns the noise of each level, [height, width, channels]."""
        levels = enumerate(self.levels)
        return [tf.random.stateless_normal(image_shape, seed=[0, index], stddev=level) for index, level in levels]

    def compute(self, outputs: ModelOutputs, noises: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the scores of a batch, in a graph, too."""
        noisy = [tf.clip_by_value(outputs.image + noise, 0.0, 1.0) for noise in noises]
        errors = [squared_error(outputs.image, outputs.reconstruct(each)) for each in noisy]
        return sum(errors) / len(errors)
