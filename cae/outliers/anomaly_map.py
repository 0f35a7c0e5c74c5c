"""Where an image is anomalous: the smoothed absolute error of its reconstruction."""

import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

PIXEL_ALPHA = 0.01
"""The fraction of calibration images' pixels at which a detector's anomaly maps exceed 1."""

SIGMA, MAX_SIDES_PER_SIGMA = 1.5, 64
"""Standard deviation of the Gaussian window in pixels; of large images, this fraction of the shorter side."""

TRUNCATE = 3.0
"""Standard deviations after which the window ends."""


def smoothed_error(images: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the absolute error of each pixel, mean over channels, averaged in a Gaussian window around it.

    Edges of a reconstruction are rarely exact: single pixels have large errors in normal images, too, and few of them
    are neighbors. Squares would give these more weight.

    Args:
      images: float32 [batch, height, width, channels] in 0..1; height and width must be known.
      outputs: Their reconstructions, likewise.

    Returns:
      float32 [batch, height, width].
    """
    return smooth(tf.reduce_mean(tf.abs(images - outputs), axis=-1))


def smooth(errors: tf.Tensor) -> tf.Tensor:
    """Returns errors [batch, height, width], averaged in a Gaussian window around each pixel."""
    height, width = errors.shape[1:]
    errors = errors[..., None]
    for axis, side in enumerate((height, width)):
        window = _window(min(height, width), side)
        radius = len(window) // 2
        paddings = [[0, 0]] * 4
        paddings[1 + axis] = [radius, radius]
        shape = [len(window), 1, 1, 1] if axis == 0 else [1, len(window), 1, 1]
        errors = tf.nn.conv2d(tf.pad(errors, paddings, "SYMMETRIC"), window.reshape(shape), 1, "VALID")
    return errors[..., 0]


def _window(shorter_side: int, side: int) -> np.ndarray:
    """Returns the weights of a Gaussian window, float32, no wider than symmetric padding allows."""
    sigma = max(SIGMA, shorter_side / MAX_SIDES_PER_SIGMA)
    radius = min(math.ceil(TRUNCATE * sigma), side)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return (weights / weights.sum()).astype(np.float32)


def fit_pixel_threshold(maps: Iterable[np.ndarray], num_pixels: int, alpha: float = PIXEL_ALPHA) -> float:
    """Returns the value that a fraction alpha of pixels exceeds.

    Args:
      maps: Batches of maps of images that nothing was fitted to, [batch, height, width].
      num_pixels: Number of their pixels.
      alpha: A fraction in 0..1.
    """
    largest, count = np.zeros(0, np.float32), math.floor(alpha * num_pixels) + 1
    for batch in maps:
        values = np.concatenate([largest, np.ravel(batch)])
        largest = np.partition(values, max(len(values) - count, 0))[-count:]
    # Where an image is reconstructed without any error, nothing is anomalous.
    return max(float(largest.min()), float(np.finfo(np.float32).tiny))
