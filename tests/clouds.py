"""Smooth images, which are the inliers of tests of scores and detectors."""

import numpy as np
from scipy import ndimage

SHAPE = (12, 12, 1)


def make_clouds(seed, count):
    """Returns smooth images with a range of 0 to 255, uint8."""
    values = np.random.default_rng(seed).random((count, *SHAPE))
    values = ndimage.gaussian_filter(values, (0, 2, 2, 0), mode="wrap")
    values -= values.min(axis=(1, 2, 3), keepdims=True)
    return (255 * values / values.max(axis=(1, 2, 3), keepdims=True)).round().astype(np.uint8)
