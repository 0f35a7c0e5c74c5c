import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cae.outliers import anomaly_map


@pytest.mark.parametrize("shape", [(28, 28), (20, 33), (3, 40), (200, 128)])
def test_the_error_is_smoothed_by_a_gaussian_window(shape, random):
    images, outputs = random.random((2, 2, *shape, 3)).astype(np.float32)
    sigma = max(1.5, min(shape) / 64)
    error = np.abs(images - outputs).mean(axis=-1)
    radius = min(int(np.ceil(3 * sigma)), *shape)
    expected = ndimage.gaussian_filter(error, (0, sigma, sigma), radius=(0, radius, radius), mode="reflect")
    result = anomaly_map.smoothed_error(tf.constant(images), tf.constant(outputs))
    if min(shape) > radius:
        np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_allclose(np.mean(result), error.mean(), rtol=0.02)


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.25])
def test_a_fraction_of_pixels_exceeds_the_threshold(alpha, random):
    maps = [random.random((count, 10, 10)).astype(np.float32) * count for count in (30, 5, 15)]
    threshold = anomaly_map.fit_pixel_threshold(iter(maps), 5000, alpha)
    assert sum((values > threshold).sum() for values in maps) == round(alpha * 5000)


def test_images_that_are_reconstructed_exactly_have_no_anomalous_pixel():
    threshold = anomaly_map.fit_pixel_threshold([np.zeros((3, 4, 4), np.float32)], 48)
    assert 0 / threshold == 0 < threshold
