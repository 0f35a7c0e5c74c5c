"""Anomaly scores as functions of tensors, whose constants are what a fitted score learned."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from cae.errors import UserError
from cae.export import graph_math
from cae.metrics import squared_error
from cae.outliers import hog, neighbor_index, scores
from cae.outliers.forward import ModelOutputs
from cae.outliers.scores import Score

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
    """Returns `scores.MeanSquaredError` as a function of tensors."""
    return lambda outputs: squared_error(outputs.image, outputs.output)


def ssim(score: Score) -> GraphScore:
    """Returns `scores.SSIMScore` as a function of tensors."""
    return lambda outputs: graph_math.structural_dissimilarity(outputs.image, outputs.output)


def top_pixels(score: scores.TopKPixelError) -> GraphScore:
    """Returns `scores.TopKPixelError` as a function of tensors."""
    return score.compute


def denoising(score: scores.DenoisingError) -> GraphScore:
    """Returns `scores.DenoisingError` as a function of tensors."""

    def compute(outputs: ModelOutputs) -> tf.Tensor:
        with tf.init_scope():  # Outside of the graph, whose constants the random numbers become.
            noises = [each.numpy() for each in score.noise(outputs.image.shape[1:])]
        return score.compute(outputs, noises)

    return compute


def mahalanobis(score: Score) -> GraphScore:
    """Returns `scores.Mahalanobis` as a function of tensors: a sum of squares, which has no cancellation."""
    factor = np.linalg.cholesky(score.state["precision"].astype(np.float64)).astype(np.float32)
    mean = score.state["mean"].astype(np.float32)
    return lambda outputs: tf.reduce_sum(tf.square(tf.matmul(outputs.latent - mean, factor)), axis=1)


def knn(score: scores.KNNScore) -> GraphScore:
    """Returns `scores.KNNScore` as a function of tensors."""
    references, scale = neighbor_index.references(score.state["index"]), score.state["scale"].astype(np.float32)
    center = references.mean(axis=0, dtype=np.float64).astype(np.float32)
    references, n_neighbors = references - center, min(score.n_neighbors, len(references))

    def compute(outputs: ModelOutputs) -> tf.Tensor:
        points = outputs.latent / scale - center
        offsets = graph_math.nearest_neighbors(points, references, n_neighbors) - points[:, None]
        return tf.sqrt(tf.reduce_sum(tf.square(offsets), axis=[1, 2]) / n_neighbors)

    return compute


def hog_distance(score: scores.HOGScore) -> GraphScore:
    """Returns `scores.HOGScore` as a function of tensors."""
    distances = _hog_distances(score)
    return lambda outputs: distances(outputs.image)[:, 0]


def fisher(score: scores.FisherCombination) -> GraphScore:
    """Returns `scores.FisherCombination` as a function of tensors."""
    distances = _hog_distances(score.hog_score)
    mean, std = (score.state[name].astype(np.float32) for name in ("log_mean", "log_std"))

    def compute(outputs: ModelOutputs) -> tf.Tensor:
        dissimilarity = graph_math.structural_dissimilarity(outputs.image, outputs.output)
        values = tf.concat([distances(outputs.image, outputs.output), dissimilarity[:, None]], axis=1)
        z = (tf.math.log(tf.maximum(values, scores.MIN_LOG_ARGUMENT)) - mean) / std
        return -tf.reduce_sum(graph_math.log_normal_sf(z), axis=1)

    return compute


def _hog_distances(score: scores.HOGScore) -> Callable[..., tf.Tensor]:
    """Returns a function of m batches of n images to distances from the first batch's neighbors, [n, m]."""
    references = neighbor_index.references(score.state["index"])
    mean, components = (score.state[name].astype(np.float32) for name in ("mean", "components"))

    def distances(*images: tf.Tensor) -> tf.Tensor:
        points = [tf.matmul(hog.hog_descriptors(each) - mean, components.T) for each in images]
        neighbors = graph_math.nearest_neighbors(points[0], references, min(score.n_neighbors, len(references)))
        return graph_math.local_hyperplane_distance(tf.stack(points, axis=1), neighbors, score.ridge)

    return distances


GRAPH_SCORES: dict[str, Callable[[Score], GraphScore]] = {
    "fisher": fisher,
    "mse": mse,
    "ssim": ssim,
    "top_pixels": top_pixels,
    "mahalanobis": mahalanobis,
    "knn": knn,
    "denoising": denoising,
    "hog": hog_distance,
}
"""The scores of `scores.SCORES` by name."""
