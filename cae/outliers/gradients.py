"""What an image's strokes look like, and how far they are from what nearby training images can explain."""

import numpy as np
import tensorflow as tf

DIRECTIONS = 8
CELLS = 7
"""An image's descriptor has a histogram of gradient directions for each of 7x7 overlapping windows."""


def describe(images: tf.Tensor) -> tf.Tensor:
    """Returns signed histograms of oriented gradients (Dalal and Triggs 2005) of images [batch, h, w, c] in 0..1.

    Of colours the mean is taken. Each window is a Gaussian, so that small shifts change little, and each value a square
    root, so that distances are those between distributions (Hellinger): [batch, CELLS * CELLS * DIRECTIONS].
    """
    return _histograms(images, *(tf.constant(_windows(side)) for side in images.shape[1:3]))


@tf.function(reduce_retracing=True)
def _histograms(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    grey = tf.reduce_mean(tf.cast(images, tf.float32), axis=-1, keepdims=True)
    # The border goes on outside: a bright one is no edge.
    beyond = tf.pad(grey, [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    slopes = tf.nn.relu(tf.nn.conv2d(beyond, _slopes(), 1, "VALID"))
    # Rows first, then columns: twice as fast as one einsum.
    height, width = tf.shape(rows)[0], tf.shape(columns)[0]
    by_rows = tf.matmul(rows, tf.reshape(slopes, [-1, height, width * DIRECTIONS]), transpose_a=True)
    by_both = tf.matmul(columns, tf.reshape(by_rows, [-1, width, DIRECTIONS]), transpose_a=True)
    return tf.sqrt(tf.reshape(by_both, [-1, CELLS * CELLS * DIRECTIONS]))


def _slopes() -> np.ndarray:
    """Returns central differences along each direction, as a kernel [3, 3, 1, DIRECTIONS]."""
    angles = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    kernel = np.zeros([3, 3, 1, DIRECTIONS], np.float32)
    kernel[1, 2, 0], kernel[1, 0, 0] = np.cos(angles) / 2, -np.cos(angles) / 2
    kernel[2, 1, 0], kernel[0, 1, 0] = np.sin(angles) / 2, -np.sin(angles) / 2
    return kernel


def _windows(side: int) -> np.ndarray:
    """Returns the weights of a side's pixels in each window, [side, CELLS]; they add up to 1 in each."""
    pitch = side / CELLS
    centres = pitch * (np.arange(CELLS) + 0.5) - 0.5
    weights = np.exp(-0.5 * ((np.arange(side)[:, None] - centres) / (pitch / 2)) ** 2)
    return (weights / weights.sum(axis=0)).astype(np.float32)


def distance_to_span(points: np.ndarray, neighbours: np.ndarray, ridge: float) -> np.ndarray:
    """Returns how far points are from the flat that their neighbours span: squared distances, [n, m].

    It is the K-local hyperplane distance (Vincent and Bengio 2001) with their ridge: the further a point of the flat is
    from the neighbours' mean, for their own spread, the more it counts as away. points: m for each group of neighbours,
    [n, m, d]; neighbours: [n, k, d]; ridge: to the neighbours' mean squared distance from their mean.
    """
    mean = neighbours.mean(axis=1, keepdims=True)
    centred, apart = neighbours - mean, points - mean
    products = centred @ centred.transpose(0, 2, 1)
    spread = np.trace(products, axis1=1, axis2=2) / products.shape[1]
    # Where all neighbours are the same image, they span nothing but that point.
    products += (ridge * spread + 1e-9)[:, None, None] * np.eye(products.shape[1], dtype=products.dtype)
    along = centred @ apart.transpose(0, 2, 1)
    weights = np.linalg.solve(products, along)
    return np.maximum(np.square(apart).sum(axis=2) - (weights * along).sum(axis=1), 0.0)
