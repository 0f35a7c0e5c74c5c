"""Histograms of oriented gradients, and their distance from the span of their nearest neighbors."""

import numpy as np
import tensorflow as tf

DIRECTIONS = 8

# An image's descriptor has a histogram for each of 7x7 overlapping windows.
CELLS = 7


def hog_descriptors(images: tf.Tensor) -> tf.Tensor:
    """Returns signed histograms of oriented gradients (Dalal and Triggs 2005) of the mean over channels.

    Windows are Gaussian, so that small shifts change little. Values are square roots, so that Euclidean distances are
    Hellinger distances between distributions.

    Args:
      images: [batch, height, width, channels] in 0..1.

    Returns:
      float32 [batch, CELLS * CELLS * DIRECTIONS].
    """
    return _histograms(images, *(tf.constant(_window_weights(side)) for side in images.shape[1:3]))


@tf.function(reduce_retracing=True)
def _histograms(images: tf.Tensor, row_weights: tf.Tensor, column_weights: tf.Tensor) -> tf.Tensor:
    gray = tf.reduce_mean(tf.cast(images, tf.float32), axis=-1, keepdims=True)
    # Symmetric padding, so that a bright border is not an edge.
    padded = tf.pad(gray, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    gradients = tf.nn.relu(tf.nn.conv2d(padded, _gradient_kernel(), 1, "VALID"))
    # Rows first, then columns: twice as fast as one einsum.
    height, width = tf.shape(row_weights)[0], tf.shape(column_weights)[0]
    by_row = tf.matmul(row_weights, tf.reshape(gradients, [-1, height, width * DIRECTIONS]), transpose_a=True)
    by_window = tf.matmul(column_weights, tf.reshape(by_row, [-1, width, DIRECTIONS]), transpose_a=True)
    return tf.sqrt(tf.reshape(by_window, [-1, CELLS * CELLS * DIRECTIONS]))


def _gradient_kernel() -> np.ndarray:
    """Returns central differences along each direction, [3, 3, 1, DIRECTIONS]."""
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    kernel = np.zeros([3, 3, 1, DIRECTIONS], np.float32)
    kernel[1, 2, 0], kernel[1, 0, 0] = np.cos(angles) / 2, -np.cos(angles) / 2
    kernel[2, 1, 0], kernel[0, 1, 0] = np.sin(angles) / 2, -np.sin(angles) / 2
    return kernel


def _window_weights(side: int) -> np.ndarray:
    """Returns the weights of the pixels along a side in each window, [side, CELLS], with a sum of 1 per window."""
    pitch = side / CELLS
    centers = pitch * (np.arange(CELLS) + 0.5) - 0.5
    weights = np.exp(-0.5 * ((np.arange(side)[:, None] - centers) / (pitch / 2)) ** 2)
    return (weights / weights.sum(axis=0)).astype(np.float32)


def local_hyperplane_distance(points: np.ndarray, neighbors: np.ndarray, ridge: float) -> np.ndarray:
    """Returns the K-local hyperplane distance (Vincent and Bengio 2001): that of points from their neighbors' span.

    Their ridge penalizes points of the span that are far from the neighbors' mean.

    Args:
      points: [n, m, d], m points for each group of neighbors.
      neighbors: [n, k, d].
      ridge: Relative to the neighbors' mean squared distance from their mean.

    Returns:
      Squared distances, [n, m].
    """
    mean = neighbors.mean(axis=1, keepdims=True)
    centered, offsets = neighbors - mean, points - mean
    gram = centered @ centered.transpose(0, 2, 1)
    variance = np.trace(gram, axis1=1, axis2=2) / gram.shape[1]
    # If all neighbors are the same image, their span is that point.
    gram += (ridge * variance + 1e-9)[:, None, None] * np.eye(gram.shape[1], dtype=gram.dtype)
    projections = centered @ offsets.transpose(0, 2, 1)
    weights = np.linalg.solve(gram, projections)
    return np.maximum(np.square(offsets).sum(axis=2) - (weights * projections).sum(axis=1), 0.0)
