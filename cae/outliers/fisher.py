"""Anomaly scores that combine others by Fisher's method."""

from __future__ import annotations

import functools

import numpy as np
from etils import epy

from cae.outliers.forward import ForwardBatches, ModelOutputs, make_batches
from cae.outliers.neighbor_scores import EmbeddingDistances, HOGScore
from cae.outliers.reconstruction_scores import SSIMScore
from cae.outliers.score import Score

with epy.lazy_imports():
    import faiss
    from scipy import stats

MIN_LOG_ARGUMENT = 1e-12
"""Smaller scores are not distinguished where the logarithm of a score is taken."""


class FisherCombination(Score):
    """The base class of combinations of several scores, the terms.

    The logarithm of each term is standardized on held-out training images, taken as normally distributed, and converted
    to an upper tail probability; the score is the weighted sum of the negative logarithms of these (Fisher 1932; with
    weights, Good 1955).

    Attributes:
      weights: Of the terms.
    """

    weights: tuple[float, ...]
    holdout_fraction = 0.1
    max_holdout = 5000
    min_images = 3  # Two are held out.

    def fit_terms(self, images: np.ndarray, forward_batches: ForwardBatches) -> dict[str, np.ndarray]:
        """Fits the terms to training images, and returns their state."""
        raise NotImplementedError

    def terms(self, outputs: ModelOutputs) -> np.ndarray:
        """Returns the terms of a batch, [terms, batch]."""
        raise NotImplementedError

    def num_holdout(self, num_images: int) -> int:
        """Returns how many of some training images are held out."""
        return max(2, min(int(self.holdout_fraction * num_images), self.max_holdout))

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        num_holdout = self.num_holdout(len(images))
        self.state = self.fit_terms(images[:-num_holdout], forward_batches)
        logs = np.concatenate([self._log_terms(outputs) for outputs in forward_batches(images[-num_holdout:])], axis=1)
        self.state |= {"log_mean": logs.mean(axis=1), "log_std": logs.std(axis=1) + 1e-6}

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        z = (self._log_terms(outputs) - self.state["log_mean"][:, None]) / self.state["log_std"][:, None]
        return -np.array(self.weights) @ stats.norm.logsf(z)

    def _log_terms(self, outputs: ModelOutputs) -> np.ndarray:
        return np.log(np.maximum(self.terms(outputs).astype(np.float64), MIN_LOG_ARGUMENT))


class HOGCombination(FisherCombination):
    """Combines HOG of the image, HOG of the reconstruction, and the reconstruction error.

    HOG of the image is relative to what is usual for images like it: the distance is divided by the geometric mean
    distance of the nearest images that the score was not fitted to, to the power of `locality`. Else outliers among
    uniform images, such as the digit 1, would be hidden by the variety of others (cf. Breunig et al. 2000, "LOF").
    The reconstruction error is both that of SSIM and the squared distance of the HOG descriptors, with half the weight
    each.
    """

    version = 2
    min_images = 6  # Two neighbors, two for what is usual, and two for the scale of the terms.
    weights = (1.0, 1.0, 0.5, 0.5)
    n_neighbors = 30
    locality = 0.75

    def fit_terms(self, images: np.ndarray, forward_batches: ForwardBatches) -> dict[str, np.ndarray]:
        num_context, hog_score = self.num_holdout(len(images)), HOGScore()
        hog_score.fit(images[:-num_context], forward_batches)
        context = [hog_score.compute(batch) for batch in make_batches(images[-num_context:])]
        distances = np.concatenate([each.distances[0] for each in context])
        self.state = hog_score.state | {
            "context_points": np.concatenate([each.points[0] for each in context]),
            "context_logs": np.log(np.maximum(distances, MIN_LOG_ARGUMENT)).astype(np.float32),
        }
        return self.state

    @functools.cached_property
    def hog_score(self) -> HOGScore:
        """The score of HOG descriptors."""
        return HOGScore(**{name: self.state[name] for name in ("mean", "components", "index")})

    @functools.cached_property
    def _ssim_score(self) -> SSIMScore:
        return SSIMScore()

    def terms(self, outputs: ModelOutputs) -> np.ndarray:
        result, context_points = self.hog_score.compute(outputs.image, outputs.output), self.state["context_points"]
        _, neighbors = faiss.knn(result.points[0], context_points, min(self.n_neighbors, len(context_points)))
        usual = np.exp(self.locality * self.state["context_logs"][neighbors].mean(axis=1))
        image, reconstruction = result.distances
        hog_error = np.square(result.descriptors[0] - result.descriptors[1]).sum(axis=1)
        return np.stack([image / usual, reconstruction, self._ssim_score(outputs), hog_error])


class EmbeddingCombination(FisherCombination):
    """Combines the `EmbeddingDistances` of all embeddings of a `DeepCluster` model."""

    needs = "embeddings"
    weights = (1.0, 1.0, 1.0)

    def fit_terms(self, images: np.ndarray, forward_batches: ForwardBatches) -> dict[str, np.ndarray]:
        distances = EmbeddingDistances()
        distances.fit(images, forward_batches)
        return distances.state

    @functools.cached_property
    def distances(self) -> EmbeddingDistances:
        """The distances of embeddings from those of training images."""
        return EmbeddingDistances(**self.state)

    def terms(self, outputs: ModelOutputs) -> np.ndarray:
        return self.distances.compute(outputs.embeddings)
