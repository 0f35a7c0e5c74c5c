"""A residual U-Net for photographs: residual blocks of one width at every scale, and thin features at full resolution.

After DRUNet (Zhang et al. 2021, "Plug-and-Play Image Restoration with Deep Denoiser Prior"), whose width doubles from
scale to scale and whose blocks at full resolution take most of the time: of the networks that were compared at equal
training time (docs/denoising.md), this one denoised best.
"""

import keras
import tensorflow as tf

from cae.models import layers
from cae.models.base import ImageModel

ACTIVATION = "leaky_relu"

NUM_SCALES = 4
"""Full resolution and three that are downsampled by 2 each."""

NUM_BLOCKS = 2
"""Residual blocks at each downsampled scale, on the way down and on the way up."""


def residual_blocks(filters: int) -> list[layers.ResidualBlock]:
    """Returns residual blocks that are the identity before training."""
    return [layers.ResidualBlock(filters, ACTIVATION, zero_init=True) for _ in range(NUM_BLOCKS)]


@keras.saving.register_keras_serializable("cae")
class ResUNet(ImageModel):
    """Denoises images [batch, height, width, channels] in 0..1, of any height and width."""

    def __init__(self, image_shape: tuple[int, int, int], base_filters: int = 32, **kwargs):
        """Creates the model; features have half of `base_filters` at full resolution, and twice as many below."""
        super().__init__(image_shape, base_filters, **kwargs)
        self.multiple = 2 ** (NUM_SCALES - 1)
        thin, wide = max(1, base_filters // 2), 2 * base_filters
        self.first = layers.conv2d(thin, activation=ACTIVATION)
        self.down = [self._down(wide) for _ in range(1, NUM_SCALES)]
        self.up = [self._up(wide, residual_blocks(wide)) for _ in range(1, NUM_SCALES - 1)] + [self._up(thin, [])]
        self.last = layers.conv2d(image_shape[2], kernel_initializer="zeros")

    def _down(self, filters: int) -> list[keras.layers.Layer]:
        return [layers.conv2d(filters, strides=2, activation=ACTIVATION), *residual_blocks(filters)]

    def _up(self, filters: int, blocks: list[keras.layers.Layer]) -> tuple[keras.layers.Layer, list]:
        return layers.conv2d(4 * filters, kernel_size=1), [layers.conv2d(filters, activation=ACTIVATION), *blocks]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        features, skips = self.first(layers.pad_to_multiple(images, self.multiple, "SYMMETRIC")), []
        for stage in self.down:
            skips.append(features)
            features = layers.apply_all(stage, features)
        for (expand, merge), skip in zip(self.up, reversed(skips)):
            features = layers.apply_all(merge, tf.concat([layers.depth_to_space(expand(features)), skip], axis=-1))
        output = layers.crop_from_multiple(self.last(features), *layers.spatial_shape(images), self.multiple)
        return layers.apply_output_activation(output, self.output_activation, training)
