"""Anomaly scores as functions of tensors, whose constants are what a fitted score learned."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cae.errors import UserError
from cae.export import graph_math
from cae.metrics import squared_error
from cae.outliers import hog, neighbor_index
from cae.outliers.fisher import MIN_LOG_ARGUMENT, EmbeddingCombination, FisherCombination, HOGCombination
from cae.outliers.forward import ModelOutputs
from cae.outliers.neighbor_scores import HOGDistances, HOGScore, KNNScore
from cae.outliers.reconstruction_scores import DenoisingError, TopKPixelError
from cae.outliers.score import Score

GraphScore = Callable[[ModelOutputs], tf.Tensor]
"""A batch, whose height and width are known, to its scores, float32 [batch]."""


def make_graph_score(name: str, score: Score) -> GraphScore:
    """Returns a fitted score as a function of tensors.

    It computes in float32, and searches all training vectors where the score searches the most likely lists of them:
    values differ, so thresholds have to be calibrated again.

    Args:
      name: A key of `scores.SCORES`.
      score: The score of that name, fitted.

    Raises:
      UserError: The score is none of this package's own.
    """
    if name not in GRAPH_SCORES:
        raise UserError(f"--functions=detect: the score '{name}' can't be exported; {', '.join(GRAPH_SCORES)} can")
    return GRAPH_SCORES[name](score)


def mse(score: Score) -> GraphScore:
    """Returns `MeanSquaredError` as a function of tensors."""
    return lambda outputs: squared_error(outputs.image, outputs.output)


def ssim(score: Score) -> GraphScore:
    """Returns `SSIMScore` as a function of tensors."""
    return lambda outputs: graph_math.structural_dissimilarity(outputs.image, outputs.output)


def top_pixels(score: TopKPixelError) -> GraphScore:
    """Returns `TopKPixelError` as a function of tensors."""
    return score.compute


def denoising(score: DenoisingError) -> GraphScore:
    """Returns `DenoisingError` as a function of tensors."""

    def compute(outputs: ModelOutputs) -> tf.Tensor:
        with tf.init_scope():  # Outside of the graph, whose constants the random numbers become.
            noises = [each.numpy() for each in score.noise(outputs.image.shape[1:])]
        return score.compute(outputs, noises)

    return compute


def mahalanobis(score: Score) -> GraphScore:
    """Returns `Mahalanobis` as a function of tensors: a sum of squares, which has no cancellation."""
    # A Cholesky factor does not exist for a precision matrix of fewer images than dimensions.
    values, vectors = np.linalg.eigh(score.state["precision"].astype(np.float64))
    factor = (vectors * np.sqrt(values.clip(0))).astype(np.float32)
    mean = score.state["mean"].astype(np.float32)
    return lambda outputs: tf.reduce_sum(tf.square(tf.matmul(outputs.latent - mean, factor)), axis=1)


def knn(score: KNNScore) -> GraphScore:
    """Returns `KNNScore` as a function of tensors."""
    references, scale = neighbor_index.references(score.state["index"]), score.state["scale"].astype(np.float32)
    center = references.mean(axis=0, dtype=np.float64).astype(np.float32)
    references, n_neighbors = references - center, min(score.n_neighbors, len(references))

    def compute(outputs: ModelOutputs) -> tf.Tensor:
        points = outputs.latent / scale - center
        offsets = graph_math.nearest_neighbors(points, references, n_neighbors) - points[:, None]
        return tf.sqrt(tf.reduce_sum(tf.square(offsets), axis=[1, 2]) / n_neighbors)

    return compute


def hog_distance(score: HOGScore) -> GraphScore:
    """Returns `HOGScore` as a function of tensors."""
    compute = _hog_distances(score)
    return lambda outputs: compute(outputs.image).distances[:, 0]


def fisher(score: HOGCombination) -> GraphScore:
    """Returns `HOGCombination` as a function of tensors."""
    compute, context_points = _hog_distances(score.hog_score), score.state["context_points"]
    context_logs, n_neighbors = score.state["context_logs"][:, None], min(score.n_neighbors, len(context_points))

    def terms(outputs: ModelOutputs) -> list[tf.Tensor]:
        result = compute(outputs.image, outputs.output)
        neighbors = graph_math.nearest_neighbors(result.points[:, 0], context_points, n_neighbors, context_logs)
        usual = tf.exp(score.locality * tf.reduce_mean(neighbors, axis=[1, 2]))
        dissimilarity = graph_math.structural_dissimilarity(outputs.image, outputs.output)
        hog_error = tf.reduce_sum(tf.square(result.descriptors[:, 0] - result.descriptors[:, 1]), axis=1)
        return [result.distances[:, 0] / usual, result.distances[:, 1], dissimilarity, hog_error]

    return _combine(score, terms)


def deep_cluster(score: EmbeddingCombination) -> GraphScore:
    """Returns `EmbeddingCombination` as a function of tensors."""
    distances = score.distances
    state = {name: array.astype(np.float32) for name, array in distances.state.items() if name.endswith("_mean")}
    references = {name: neighbor_index.references(distances.state[f"{name}_index"]) for name in distances.names}

    def distance(name: str, vectors: tf.Tensor) -> tf.Tensor:
        offsets = vectors - state[f"{name}_mean"]
        points = offsets / tf.maximum(tf.norm(offsets, axis=1, keepdims=True), 1e-12)
        n_neighbors = min(distances.n_neighbors, len(references[name]))
        neighbors = graph_math.nearest_neighbors(points, references[name], n_neighbors)
        return tf.reduce_mean(tf.norm(neighbors - points[:, None], axis=2), axis=1)

    return _combine(score, lambda outputs: [distance(name, outputs.embeddings[name]) for name in distances.names])


def _combine(score: FisherCombination, terms: Callable[[ModelOutputs], list[tf.Tensor]]) -> GraphScore:
    """Returns Fisher's combination of terms, each [batch]."""
    mean, std = (score.state[name].astype(np.float32) for name in ("log_mean", "log_std"))
    weights = np.array(score.weights, np.float32)

    def compute(outputs: ModelOutputs) -> tf.Tensor:
        z = (tf.math.log(tf.maximum(tf.stack(terms(outputs), axis=1), MIN_LOG_ARGUMENT)) - mean) / std
        return -tf.reduce_sum(weights * graph_math.log_normal_sf(z), axis=1)

    return compute


def _hog_distances(score: HOGScore) -> Callable[..., HOGDistances]:
    """Returns `HOGScore.compute` as a function of tensors, with the batch as first axis: [n, m, ...]."""
    references = neighbor_index.references(score.state["index"])
    mean, components = (score.state[name].astype(np.float32) for name in ("mean", "components"))

    def compute(*images: tf.Tensor) -> HOGDistances:
        descriptors = [hog.hog_descriptors(each) for each in images]
        points = [tf.matmul(each - mean, components.T) for each in descriptors]
        neighbors = graph_math.nearest_neighbors(points[0], references, min(score.n_neighbors, len(references)))
        points = tf.stack(points, axis=1)
        distances = graph_math.local_hyperplane_distance(points, neighbors, score.ridge)
        return HOGDistances(tf.stack(descriptors, axis=1), points, distances)

    return compute


GRAPH_SCORES: dict[str, Callable[[Score], GraphScore]] = {
    "fisher": fisher,
    "mse": mse,
    "ssim": ssim,
    "top_pixels": top_pixels,
    "mahalanobis": mahalanobis,
    "knn": knn,
    "denoising": denoising,
    "hog": hog_distance,
    "deep_cluster": deep_cluster,
}
"""The scores of `scores.SCORES` by name."""
