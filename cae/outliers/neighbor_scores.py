"""Anomaly scores that compare an image with training images: by latent vectors, embeddings or HOG descriptors."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
from etils import epy

from cae.outliers.forward import ForwardBatches, ModelOutputs, make_batches
from cae.outliers.score import Score

with epy.lazy_imports():
    import faiss
    import tensorflow as tf
    from sklearn import covariance, decomposition

    from cae.outliers import hog, neighbor_index


class Mahalanobis(Score):
    """The squared Mahalanobis distance of the latent vector from those of training (Lee et al. 2018, one class)."""

    needs = "latents"

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        estimator = covariance.EmpiricalCovariance().fit(_encode(images, forward_batches))
        self.state = {"mean": estimator.location_, "precision": estimator.precision_}

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        offsets = outputs.latent.numpy() - self.state["mean"]
        return np.einsum("ni,ij,nj->n", offsets, self.state["precision"], offsets)


class KNNScore(Score):
    """The root mean square distance of the latent vector from its nearest training vectors (Sun et al. 2022)."""

    needs = "latents"
    n_neighbors = 5

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        latents = _encode(images, forward_batches)
        scale = latents.std(axis=0) + 1e-6
        self.state = {"scale": scale, "index": neighbor_index.build(latents / scale)}

    def __call__(self, outputs: ModelOutputs) -> np.ndarray:
        vectors = outputs.latent.numpy() / self.state["scale"]
        distances, neighbors = neighbor_index.search(self.index, vectors, self.n_neighbors)
        found = neighbors >= 0  # The lists that are searched may contain fewer.
        return np.sqrt(np.where(found, distances, 0).sum(axis=1) / np.maximum(found.sum(axis=1), 1))


class EmbeddingDistances:
    """Distances of the embeddings of a `DeepCluster` model from those of training images.

    Of each embedding, the mean over the nearest training vectors of the Euclidean distance between centered unit
    vectors, which is a function of the cosine (Sun et al. 2022; Sehwag et al. 2021, "SSD").
    """

    n_neighbors = 5

    def __init__(self, **state: np.ndarray):
        self.state: dict[str, np.ndarray] = state

    @property
    def names(self) -> list[str]:
        """The names of the embeddings."""
        return [name.removesuffix("_index") for name in self.state if name.endswith("_index")]

    def fit(self, images: np.ndarray, forward_batches: ForwardBatches) -> None:
        """Learns from training images."""
        batches = [outputs.embeddings for outputs in forward_batches(images)]
        for name in batches[0]:
            vectors = np.concatenate([batch[name].numpy() for batch in batches])
            self.state[f"{name}_mean"] = vectors.mean(axis=0)
            self.state[f"{name}_index"] = neighbor_index.build(self.normalize(name, vectors))

    def normalize(self, name: str, vectors: np.ndarray) -> np.ndarray:
        """Returns centered unit vectors of an embedding."""
        offsets = vectors - self.state[f"{name}_mean"]
        return offsets / np.maximum(np.linalg.norm(offsets, axis=1, keepdims=True), 1e-12)

    def compute(self, embeddings: Mapping[str, tf.Tensor]) -> np.ndarray:
        """Returns the distances of a batch, [embeddings, batch]."""
        return np.stack([self._distance(name, embeddings[name].numpy()) for name in self.names])

    def _distance(self, name: str, vectors: np.ndarray) -> np.ndarray:
        vectors = self.normalize(name, vectors)
        squared, neighbors = neighbor_index.search(self._indices[name], vectors, self.n_neighbors)
        found = neighbors >= 0  # The lists that are searched may contain fewer.
        distances = np.sqrt(np.where(found, np.maximum(squared, 0), 0))
        return distances.sum(axis=1) / np.maximum(found.sum(axis=1), 1)

    @functools.cached_property
    def _indices(self) -> dict[str, faiss.Index]:
        return {name: neighbor_index.load(self.state[f"{name}_index"]) for name in self.names}


@dataclasses.dataclass(frozen=True)
class HOGDistances:
    """What `HOGScore` computes of m batches of n images.

    Attributes:
      descriptors: HOG descriptors, [m, n, dimensions].
      points: Their principal components, [m, n, components].
      distances: Their local hyperplane distances, [m, n].
    """

    descriptors: np.ndarray
    points: np.ndarray
    distances: np.ndarray


class HOGScore(Score):
    """The `hog.local_hyperplane_distance` of HOG descriptors from those of nearby training images."""

    min_images = 2
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
        return self.compute(outputs.image).distances[0]

    def compute(self, *images: tf.Tensor) -> HOGDistances:
        """Returns the distances of several batches of n images from the neighbors of the first batch."""
        descriptors = hog.hog_descriptors(tf.concat(images, axis=0)).numpy()
        points = (descriptors - self.state["mean"]) @ self.state["components"].T
        points = points.astype(np.float32).reshape(len(images), -1, points.shape[-1])
        n_neighbors = min(self.n_neighbors, self.index.ntotal)
        _, indices, neighbors = neighbor_index.search(self.index, points[0], n_neighbors, reconstruct=True)
        # The lists that are searched may contain fewer: the nearest neighbor takes the others' place.
        neighbors = np.where(indices[..., None] < 0, neighbors[:, :1], neighbors)
        # In any other memory order NumPy multiplies without BLAS, several times slower.
        by_image = np.ascontiguousarray(points.transpose(1, 0, 2))
        distances = hog.local_hyperplane_distance(by_image, neighbors, self.ridge).T
        return HOGDistances(descriptors.reshape(len(images), -1, descriptors.shape[1]), points, distances)


def _encode(images: np.ndarray, forward_batches: ForwardBatches) -> np.ndarray:
    return np.concatenate([outputs.latent.numpy() for outputs in forward_batches(images)])
