"""Anomaly scores of images under a trained model: larger for outliers, fitted to the training split alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from etils import epy

from cae.errors import UserError, unknown_choice_error
from cae.metrics import squared_error, ssim
from cae.outliers.forward import ForwardBatches, ModelOutputs, make_batches

# All of these take seconds to import; names are looked up before they are needed.
with epy.lazy_imports():
    import faiss
    import tensorflow as tf
    from scipy import stats
    from sklearn import covariance, decomposition

    from cae.outliers import hog, neighbor_index

MIN_LOG_ARGUMENT = 1e-12
"""Smaller scores are not distinguished where the logarithm of a score is taken."""


class Score:
    """An anomaly score of single images.

    Attributes:
      two_sided: Whether small values are anomalous as well: blank images are reconstructed better than any other.
      needs_latents: Whether it needs a model with latent vectors.
      state: All that `fit` learned, arrays by name, so that a detector is saved without a pickle.
    """

    two_sided = False
    needs_latents = False

    def __init__(self, **state: np.ndarray):
        self.state: dict[str, np.ndarray] = state

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        """Learns from training images, uint8 [n, height, width, channels]; many scores need no fitting."""

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        """Returns the scores of a batch, [batch]."""
        raise NotImplementedError

    @functools.cached_property
    def index(self) -> faiss.Index:
        """The index of training vectors, for scores that have one in `state`."""
        return neighbor_index.load(self.state["index"])


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


class Mahalanobis(Score):
    """The squared Mahalanobis distance of the latent vector from those of training (Lee et al. 2018, one class)."""

    needs_latents = True

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        estimator = covariance.EmpiricalCovariance().fit(_encode(images, forward_batches))
        self.state = {"mean": estimator.location_, "precision": estimator.precision_}

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        offsets = outputs.latent.numpy() - self.state["mean"]
        return np.einsum("ni,ij,nj->n", offsets, self.state["precision"], offsets)


class KNNScore(Score):
    """The root mean square distance of the latent vector from its nearest training vectors (Sun et al. 2022)."""

    needs_latents = True
    n_neighbors = 5

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        latents = _encode(images, forward_batches)
        scale = latents.std(axis=0) + 1e-6
        self.state = {"scale": scale, "index": neighbor_index.build(latents / scale)}

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        distances, neighbors = self.index.search(outputs.latent.numpy() / self.state["scale"], self.n_neighbors)
        found = neighbors >= 0  # The lists that are searched may contain fewer.
        return np.sqrt(np.where(found, distances, 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1))


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


class HOGScore(Score):
    """The `hog.local_hyperplane_distance` of HOG descriptors from those of nearby training images."""

    n_neighbors = 30
    ridge = 0.3
    n_components = 64

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        descriptors = np.concatenate([hog.hog_descriptors(batch).numpy() for batch in make_batches(images)])
        n_components = min(self.n_components, *descriptors.shape)
        pca = decomposition.PCA(n_components, svd_solver="covariance_eigh").fit(descriptors)
        index = neighbor_index.build(pca.transform(descriptors))
        self.state = {"mean": pca.mean_, "components": pca.components_, "index": index}

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        return self.distances(outputs.image)[0]

    def distances(self, *images: tf.Tensor) -> np.ndarray:
        """Returns the distances of several batches of n images from the neighbors of the first batch: [batches, n]."""
        descriptors = hog.hog_descriptors(tf.concat(images, axis=0)).numpy() - self.state["mean"]
        points = descriptors @ self.state["components"].T
        points = points.astype(np.float32).reshape(len(images), -1, points.shape[-1])
        n_neighbors = min(self.n_neighbors, self.index.ntotal)
        _, indices, neighbors = self.index.search_and_reconstruct(points[0], n_neighbors)
        # The lists that are searched may contain fewer: the nearest neighbor takes the others' place.
        neighbors = np.where(indices[..., None] < 0, neighbors[:, :1], neighbors)
        # In any other memory order NumPy multiplies without BLAS, several times slower.
        points = np.ascontiguousarray(points.transpose(1, 0, 2))
        return hog.local_hyperplane_distance(points, neighbors, self.ridge).T


class FisherCombination(Score):
    """Combines three scores: HOG of the image, HOG of the reconstruction, and SSIM between them.

    The logarithm of each is standardized on held-out training images, taken as normally distributed, and converted to
    an upper tail probability; the score is the sum of the negative logarithms of these (Fisher 1932). The second score
    finds anomalous reconstructions, the others normal reconstructions of anomalous images.
    """

    holdout_fraction = 0.1
    max_holdout = 5000

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        num_holdout = max(2, min(int(self.holdout_fraction * len(images)), self.max_holdout))
        hog_score = HOGScore()
        hog_score.fit(images[:-num_holdout], forward_batches)
        self.state = hog_score.state
        logs = np.concatenate([self._log_scores(outputs) for outputs in forward_batches(images[-num_holdout:])], axis=1)
        self.state |= {"log_mean": logs.mean(axis=1), "log_std": logs.std(axis=1) + 1e-6}

    @functools.cached_property
    def hog_score(self) -> HOGScore:
        """The score of HOG descriptors."""
        return HOGScore(**{name: self.state[name] for name in ("mean", "components", "index")})

    @functools.cached_property
    def _ssim_score(self) -> SSIMScore:
        return SSIMScore()

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        z = (self._log_scores(outputs) - self.state["log_mean"][:, None]) / self.state["log_std"][:, None]
        return -stats.norm.logsf(z).sum(axis=0)

    def _log_scores(self, outputs: ModelOutputs) -> np.ndarray:
        """Returns the logarithms of the three scores, [3, batch]."""
        values = [*self.hog_score.distances(outputs.image, outputs.output), self._ssim_score(outputs)]
        return np.log(np.maximum(np.stack(values).astype(np.float64), MIN_LOG_ARGUMENT))


# The names in `--score`; the first is the default. To add one, write a subclass of `Score`:
#
#   class MaxError(Score):
#       def __call__(self, outputs):
#           return tf.reduce_max(tf.abs(outputs.image - outputs.output), axis=[1, 2, 3]).numpy()
#
#   SCORES["max_error"] = MaxError
SCORES: dict[str, type[Score]] = {
    "fisher": FisherCombination,
    "mse": MeanSquaredError,
    "ssim": SSIMScore,
    "top_pixels": TopKPixelError,
    "mahalanobis": Mahalanobis,
    "knn": KNNScore,
    "denoising": DenoisingError,
    "hog": HOGScore,
}


def get_score(name: str, has_latents: bool = True) -> type[Score]:
    """Returns the class of a score; raises `UserError` for an unknown name, or if it needs latents that are missing."""
    if name not in SCORES:
        raise unknown_choice_error("--score", name, SCORES)
    if SCORES[name].needs_latents and not has_latents:
        available = ", ".join(other for other, score in SCORES.items() if not score.needs_latents)
        raise UserError(f"--score={name} needs latent vectors, which this model does not have; available: {available}")
    return SCORES[name]


def compute_scores(score: Score, images: np.ndarray, forward_batches: ForwardBatches) -> np.ndarray:
    """Returns the scores of images, float64 [n]."""
    values = [score(outputs) for outputs in forward_batches(images)]
    return np.concatenate([np.zeros(0), *values])


def _encode(images: np.ndarray, forward_batches: ForwardBatches) -> np.ndarray:
    return np.concatenate([outputs.latent.numpy() for outputs in forward_batches(images)])
