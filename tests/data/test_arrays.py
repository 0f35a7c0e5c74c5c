import numpy as np
import pytest

from cae.data import arrays


def test_bytes_become_floats_and_floats_are_unchanged(random):
    images = random.integers(0, 256, (2, 3, 4, 1), np.uint8)
    floats = arrays.to_float(images)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, images / 255, rtol=1e-6)
    np.testing.assert_array_equal(arrays.to_float(floats.astype(np.float64)), floats)


def test_rows_are_contiguous_floats_whatever_the_leading_axes(random):
    images = random.random((2, 5, 3, 4, 3))
    rows = arrays.flatten(images.swapaxes(0, 1))
    assert rows.shape == (10, 36) and rows.dtype == np.float32 and rows.flags.c_contiguous
    np.testing.assert_allclose(rows[1], images[1, 0].reshape(-1), rtol=1e-6)
    assert arrays.flatten(images[:0]).shape == (0, 36)


@pytest.mark.parametrize("channels, mode", [(1, "L"), (3, "RGB")])
def test_pillow_images_have_the_values(random, channels, mode):
    image = random.integers(0, 256, (3, 4, channels), np.uint8)
    converted = arrays.to_pil(image)
    assert converted.mode == mode
    np.testing.assert_array_equal(np.asarray(converted).reshape(image.shape), image)


def test_border_is_the_outermost_rows_and_columns():
    image = np.arange(12).reshape(3, 4, 1)
    # The corners belong to a row and a column.
    assert sorted(arrays.border_pixels(image)[:, 0]) == sorted([*range(4), *range(8, 12), 0, 4, 8, 3, 7, 11])
    assert arrays.border_pixels(np.stack([image, image])).shape == (2, 14, 1)
