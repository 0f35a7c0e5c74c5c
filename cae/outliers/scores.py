"""How odd an image is to a fitted model: per-image scores, larger for outliers, fitted on the training split alone.

To add one, write a class with `fit` and `__call__` as `Score` has them, and name it in `SCORES`. All that `fit` learns
stays in `state`, one dict of arrays, so that a detector is saved without a pickle.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
from etils import epy

from cae.errors import UserError, unknown_name
from cae.metrics import squared_error, ssim

# All of these take seconds to import; names are looked up before they are needed.
with epy.lazy_imports():
    import faiss
    import keras
    import tensorflow as tf
    from scipy import stats
    from sklearn import covariance, decomposition

    from cae.outliers import gradients, index

PIXELS_AT_ONCE = 2048 * 28 * 28
"""How much is scored at once: at every turn threads of TensorFlow, of the index and of BLAS get in each other's way."""

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Passed:
    """Images and what the model makes of them: image, output [n, h, w, c] in 0..1; latent [n, latent_dim], or nothing.

    `again` passes other images through the same model and returns its outputs.
    """

    image: tf.Tensor
    output: tf.Tensor
    latent: tf.Tensor | None
    again: Callable[[tf.Tensor], tf.Tensor]


def make_passes(model: keras.Model) -> Callable[[np.ndarray], Iterator[Passed]]:
    """Returns a function that passes images, uint8 or float32 in 0..1 [n, h, w, c], through a model batch by batch."""
    has_latents = hasattr(model, "encode")

    @tf.function(reduce_retracing=True)
    def forward(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if not has_latents:
            return model(images), tf.zeros([tf.shape(images)[0], 0])
        latents = model.encode(images)
        return model.decode(latents), latents

    def passes(images: np.ndarray) -> Iterator[Passed]:
        for batch in batches(images):
            output, latent = forward(batch)
            yield Passed(batch, output, latent if has_latents else None, lambda other: forward(other)[0])

    return passes


def batches(images: np.ndarray) -> Iterator[tf.Tensor]:
    """Yields images, uint8 or float32 in 0..1 [n, h, w, c], in batches as `scaled` returns them."""
    count = max(1, PIXELS_AT_ONCE // math.prod(images.shape[1:3]))
    for start in range(0, len(images), count):
        yield scaled(images[start : start + count])


def scaled(images: np.ndarray) -> tf.Tensor:
    """Returns images as float32 in 0..1: those of uint8 divided by 255, others as they are."""
    values = tf.cast(tf.convert_to_tensor(images), tf.float32)
    return values / 255.0 if images.dtype == np.uint8 else values


class Score:
    """A per-image score; one that needs no fitting has but a `__call__`."""

    two_sided = False
    """Whether a very small value is odd as well: a blank image is reconstructed better than any other."""

    needs_latents = False

    def __init__(self, **state: np.ndarray):
        self.state: Arrays = state

    def fit(self, images: np.ndarray, passes: Callable[[np.ndarray], Iterator[Passed]]) -> None:
        """Learns from training images, uint8 [n, h, w, c], what `__call__` needs."""

    def __call__(self, passed: Passed) -> np.ndarray:
        """Returns a batch's scores, [batch]."""
        raise NotImplementedError


class MeanSquaredError(Score):
    """The mean squared error of the reconstruction."""

    two_sided = True

    def __call__(self, passed: Passed) -> np.ndarray:
        return squared_error(passed.image, passed.output).numpy()


class Dissimilarity(Score):
    """1 - SSIM of image and reconstruction (Bergmann et al. 2019): 0 to 2."""

    two_sided = True

    @functools.cached_property
    def _ssim(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        return tf.function(ssim, reduce_retracing=True)

    def __call__(self, passed: Passed) -> np.ndarray:
        return 1.0 - self._ssim(passed.image, passed.output).numpy()


class TopPixels(Score):
    """The mean squared error of an image's worst pixels: what is wrong may be small."""

    two_sided = True
    share = 0.05

    def __call__(self, passed: Passed) -> np.ndarray:
        errors = tf.reduce_mean(tf.math.squared_difference(passed.image, passed.output), axis=-1)
        errors = tf.reshape(errors, [tf.shape(errors)[0], -1])
        count = max(1, round(self.share * errors.shape[1]))
        return tf.reduce_mean(tf.math.top_k(errors, count, sorted=False)[0], axis=1).numpy()


class Mahalanobis(Score):
    """The squared Mahalanobis distance of the latent vector from those of training (Lee et al. 2018, one class)."""

    needs_latents = True

    def fit(self, images: np.ndarray, passes: Callable[[np.ndarray], Iterator[Passed]]) -> None:
        law = covariance.EmpiricalCovariance().fit(_latents(images, passes))
        self.state = {"mean": law.location_, "precision": law.precision_}

    def __call__(self, passed: Passed) -> np.ndarray:
        apart = passed.latent.numpy() - self.state["mean"]
        return np.einsum("ni,ij,nj->n", apart, self.state["precision"], apart)


class Neighbours(Score):
    """The root mean square distance of the latent vector from the nearest of training (Sun et al. 2022)."""

    needs_latents = True
    count = 5

    def fit(self, images: np.ndarray, passes: Callable[[np.ndarray], Iterator[Passed]]) -> None:
        latents = _latents(images, passes)
        scale = latents.std(axis=0) + 1e-6
        self.state = {"scale": scale, "index": index.build(latents / scale)}

    @functools.cached_property
    def _index(self) -> faiss.Index:
        return index.load(self.state["index"])

    def __call__(self, passed: Passed) -> np.ndarray:
        distances, _ = self._index.search(_rows(passed.latent.numpy() / self.state["scale"]), self.count)
        # The index fills up with infinity where it has seen fewer neighbours than were asked for.
        return np.sqrt(np.where(distances < _FAR, distances, 0).sum(1) / np.maximum((distances < _FAR).sum(1), 1))


class Denoising(Score):
    """The squared error after Gaussian noise was added and the model has removed it, mean over levels.

    Every image meets the same noise, so that its score does not depend on others (Graham et al. 2023 have many levels
    of a diffusion model).
    """

    two_sided = True
    levels = (0.2, 0.4, 0.6)

    def __call__(self, passed: Passed) -> np.ndarray:
        errors = []
        for number, level in enumerate(self.levels):
            noise = tf.random.stateless_normal(passed.image.shape[1:], seed=[0, number], stddev=level)
            errors.append(squared_error(passed.image, passed.again(tf.clip_by_value(passed.image + noise, 0.0, 1.0))))
        return (sum(errors) / len(errors)).numpy()


class Gradients(Score):
    """How far the image's strokes are from what nearby training images span: `gradients.distance_to_span`."""

    neighbours = 30
    ridge = 0.3
    components = 64

    def fit(self, images: np.ndarray, passes: Callable[[np.ndarray], Iterator[Passed]]) -> None:
        described = np.concatenate([gradients.describe(batch).numpy() for batch in batches(images)])
        pca = decomposition.PCA(min(self.components, *described.shape), svd_solver="covariance_eigh").fit(described)
        self.state = {
            "mean": pca.mean_,
            "components": pca.components_,
            "index": index.build(pca.transform(described)),
        }

    @functools.cached_property
    def _index(self) -> faiss.Index:
        return index.load(self.state["index"])

    def __call__(self, passed: Passed) -> np.ndarray:
        return self.distances(passed.image)[0]

    def distances(self, *images: tf.Tensor) -> np.ndarray:
        """Returns how far images [n, h, w, c] are from the span of the first's neighbours: [n] of each."""
        described = gradients.describe(tf.concat(images, axis=0)).numpy() - self.state["mean"]
        points = _rows(described @ self.state["components"].T).reshape(len(images), -1, len(self.state["components"]))
        count = min(self.neighbours, self._index.ntotal)
        _, positions, found = self._index.search_and_reconstruct(points[0], count)
        # Where fewer were found than were asked for, the nearest one stands in for the others.
        found = np.where(positions[..., None] < 0, found[:, :1], found)
        # In any other order of memory NumPy multiplies without BLAS, several times slower.
        return gradients.distance_to_span(_rows(points.transpose(1, 0, 2)), found, self.ridge).T


class Combined(Score):
    """Three questions in one: are the image's strokes known, are the reconstruction's, and is it faithful (SSIM)?

    Each answer's logarithm is standardised on training images that the first two do not refer to, taken for the normal
    law's, and turned into the probability of a larger one; the score is the sum of minus their logarithms (Fisher
    1932). A strange reconstruction is found by the second, a normal one of something strange by the others.
    """

    held_back = 10
    """One in so many training images is not referred to but sets the scales."""

    def fit(self, images: np.ndarray, passes: Callable[[np.ndarray], Iterator[Passed]]) -> None:
        count = max(2, min(len(images) // self.held_back, 5000))
        strokes = Gradients()
        strokes.fit(images[:-count], passes)
        self.state = strokes.state
        logs = np.concatenate([self._logs(passed) for passed in passes(images[-count:])], axis=1)
        self.state |= {"centre": logs.mean(axis=1), "scale": logs.std(axis=1) + 1e-6}

    @functools.cached_property
    def _faithful(self) -> Dissimilarity:
        return Dissimilarity()

    @functools.cached_property
    def _strokes(self) -> Gradients:
        return Gradients(**{name: self.state[name] for name in ("mean", "components", "index")})

    def __call__(self, passed: Passed) -> np.ndarray:
        standard = (self._logs(passed) - self.state["centre"][:, None]) / self.state["scale"][:, None]
        return -stats.norm.logsf(standard).sum(axis=0)

    def _logs(self, passed: Passed) -> np.ndarray:
        """Returns the logarithms of the three answers, [3, batch]."""
        answers = [*self._strokes.distances(passed.image, passed.output), self._faithful(passed)]
        return np.log(np.maximum(np.stack(answers).astype(np.float64), 1e-12))


SCORES: dict[str, type[Score]] = {
    "combined": Combined,
    "mse": MeanSquaredError,
    "ssim": Dissimilarity,
    "top_pixels": TopPixels,
    "mahalanobis": Mahalanobis,
    "neighbours": Neighbours,
    "denoising": Denoising,
    "gradients": Gradients,
}
"""What `--score` can name; the first is the default."""


def find(name: str, has_latents: bool = True) -> type[Score]:
    """Returns the score of that name; raises `UserError` for another, and for one that needs latents in vain."""
    if name not in SCORES:
        raise unknown_name("--score", name, SCORES)
    if SCORES[name].needs_latents and not has_latents:
        able = ", ".join(other for other, score in SCORES.items() if not score.needs_latents)
        raise UserError(f"--score={name} needs latent vectors, which this model has none of; without are {able}")
    return SCORES[name]


# What the index gives for a neighbour that it did not find is larger than any distance.
_FAR = 1e37


def _rows(vectors: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(vectors, np.float32)


def _latents(images: np.ndarray, passes: Callable[[np.ndarray], Iterator[Passed]]) -> np.ndarray:
    return np.concatenate([passed.latent.numpy() for passed in passes(images)])
