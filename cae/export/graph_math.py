"""What anomaly scores need beside TensorFlow's own operations, of operations that ONNX and LiteRT have as well.

Arrays are constants of the graph: they are converted where they are used, since a tensor that was made outside of a
function becomes an input of its graph.
"""

import math

import numpy as np
import tensorflow as tf

_SSIM_SIZE, _SSIM_SIGMA, _SSIM_K1, _SSIM_K2 = 11, 1.5, 0.01, 0.03

# Numerical Recipes' erfc, 6.2.2: t exp(-x^2 + a polynomial of t), whose relative error is 1.2e-7 at most.
_ERFC = (
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223,
    0.17087277,
)  # fmt: skip


def structural_dissimilarity(target: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
    """Returns 1 - SSIM, as of `tf.image.ssim`, of images in 0..1 whose height and width are 11 at least: [batch].

    Its two factors are subtracted from 1 before they are rounded, so that the difference of similar images is exact.
    """
    positions = np.arange(_SSIM_SIZE) - _SSIM_SIZE // 2
    weights = np.exp(-0.5 * (positions / _SSIM_SIGMA) ** 2)
    window = np.outer(weights, weights) / weights.sum() ** 2
    window = np.tile(window[:, :, None, None], [1, 1, target.shape[-1], 1]).astype(np.float32)

    def average(images: tf.Tensor) -> tf.Tensor:
        return tf.nn.depthwise_conv2d(images, window, [1, 1, 1, 1], "VALID")

    # Around gray, squares are small, and so are their rounding errors.
    target, output = target - 0.5, output - 0.5
    difference, target_mean = average(target - output), average(target)
    output_mean, offset = target_mean - difference, tf.square(difference)
    variances = average(tf.square(target) + tf.square(output)) - tf.square(target_mean) - tf.square(output_mean)
    structure = (average(tf.math.squared_difference(target, output)) - offset) / (variances + _SSIM_K2**2)
    luminance = offset / (tf.square(target_mean + 0.5) + tf.square(output_mean + 0.5) + _SSIM_K1**2)
    return tf.reduce_mean(luminance + structure - luminance * structure, axis=[1, 2, 3])


def log_normal_sf(z: tf.Tensor) -> tf.Tensor:
    """Returns the logarithm of the upper tail probability of the standard normal distribution."""
    x = tf.abs(z) / math.sqrt(2)
    t = 1 / (1 + 0.5 * x)
    polynomial = tf.zeros_like(t)
    for coefficient in reversed(_ERFC):
        polynomial = polynomial * t + coefficient
    log_tail = tf.math.log(0.5 * t) - tf.square(x) + polynomial
    return tf.where(z > 0, log_tail, tf.math.log(1 - tf.exp(log_tail)))


def nearest_neighbors(
    points: tf.Tensor, references: np.ndarray, n_neighbors: int, values: np.ndarray | None = None
) -> tf.Tensor:
    """Returns the nearest of all references to each point.

    Args:
      points: [n, d].
      references: float32 [m, d]; their mean should be near 0, or rounding errors decide on the order.
      n_neighbors: How many, at most m.
      values: What is returned of the neighbors, float32 [m, k]; None for the references themselves.

    Returns:
      [n, n_neighbors, d or k], in any order.
    """
    squares = np.square(references, dtype=np.float64).sum(axis=1).astype(np.float32)
    # Transposed, since ONNX has no product with a transposed matrix, and would get a second copy.
    columns = tf.constant(np.ascontiguousarray(references.T))
    # The squared norm of the point is the same for all references.
    closeness = 2 * tf.matmul(points, columns) - squares
    indices = tf.math.top_k(closeness, n_neighbors).indices
    if values is not None:
        return tf.gather(tf.constant(values), indices)
    return tf.transpose(tf.gather(columns, indices, axis=1), [1, 2, 0])


def local_hyperplane_distance(points: tf.Tensor, neighbors: tf.Tensor, ridge: float) -> tf.Tensor:
    """Returns what `hog.local_hyperplane_distance` returns for points [n, m, d] and neighbors [n, k, d]: [n, m].

    The distance is a Schur complement: of the Gram matrix of neighbors and point, after the neighbors are eliminated.
    """
    count, num_points, first = neighbors.shape[1], points.shape[1], neighbors[:, :1]
    # From the first one, neighbors that are all the same differ by exactly 0.
    mean = tf.reduce_mean(neighbors - first, axis=1, keepdims=True)
    centered = neighbors - first - mean
    variance = tf.reduce_sum(tf.square(centered), axis=[1, 2], keepdims=True) / count
    vectors = tf.concat([centered, points - first - mean], axis=1)
    is_neighbor = np.diag(np.repeat([1, 0], [count, num_points])).astype(np.float32)
    gram = tf.matmul(vectors, vectors, transpose_b=True) + (ridge * variance + 1e-9) * is_neighbor
    remaining = schur_complement(gram, count)
    return tf.maximum(tf.reduce_sum(remaining * np.eye(num_points, dtype=np.float32), axis=2), 0.0)


def schur_complement(matrix: tf.Tensor, count: int) -> tf.Tensor:
    """Returns what Gaussian elimination of the first rows and columns leaves of the others.

    Args:
      matrix: [batch, n, n], symmetric and positive definite.
      count: How many rows and columns are eliminated.

    Returns:
      [batch, n - count, n - count].
    """
    for _ in range(count):
        factors = matrix[:, :1, 1:] / matrix[:, :1, :1]
        matrix = matrix[:, 1:, 1:] - matrix[:, 1:, :1] * factors
    return matrix
