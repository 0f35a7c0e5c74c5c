"""Images and latent vectors that users give: every form that is meant, and one line for every other."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cae import inference
from cae.inference import as_batch, as_codes

GRAY, COLOR = (12, 10, 1), (12, 10, 3)

BYTES = np.random.default_rng(0).integers(0, 256, (2, 12, 10, 1), np.uint8)
RGB = BYTES.repeat(3, axis=-1)


@pytest.mark.parametrize(
    "images, image_shape, shape, is_single",
    [
        (BYTES, GRAY, (2, 12, 10, 1), False),
        (BYTES[..., 0], GRAY, (2, 12, 10, 1), False),
        (BYTES[0], GRAY, (1, 12, 10, 1), True),
        (BYTES[0, ..., 0], GRAY, (1, 12, 10, 1), True),
        (RGB[0], COLOR, (1, 12, 10, 3), True),
        (list(RGB), COLOR, (2, 12, 10, 3), False),
        ((BYTES / 255).tolist(), GRAY, (2, 12, 10, 1), False),
        (tf.constant(BYTES), GRAY, (2, 12, 10, 1), False),
        (keras.ops.convert_to_tensor(BYTES[0] / 255), GRAY, (1, 12, 10, 1), True),
        (Image.fromarray(RGB[0]), COLOR, (1, 12, 10, 3), True),
        ([Image.fromarray(each[..., 0]) for each in BYTES], GRAY, (2, 12, 10, 1), False),
        ([], GRAY, (0, 12, 10, 1), False),
        (BYTES[:0, ..., 0], GRAY, (0, 12, 10, 1), False),
        (RGB[:0], COLOR, (0, 12, 10, 3), False),
    ],
)
def test_images_get_their_missing_axes(images, image_shape, shape, is_single):
    batch, single = as_batch(images, image_shape)
    assert batch.shape == shape and single == is_single
    expected = RGB if image_shape == COLOR else BYTES
    scale = 1 if batch.dtype == np.uint8 else 255
    np.testing.assert_allclose(scale * batch.astype(np.float64), expected[: len(batch)], atol=1e-4)


@pytest.mark.parametrize(
    "shape, expected, is_single",
    [
        ((2, 5, 7, 1), (2, 5, 7, 1), False),
        ((5, 7), (1, 5, 7, 1), True),
        ((5, 7, 1), (1, 5, 7, 1), True),  # One image, although it might be five of seven pixels.
        ((5, 7, 3), (5, 7, 3, 1), False),
        ((0, 5, 7), (0, 5, 7, 1), False),
    ],
)
def test_sides_that_are_free_may_have_any_length(shape, expected, is_single):
    batch, single = as_batch(np.zeros(shape), GRAY, free_sides=True)
    assert batch.shape == expected and single == is_single


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_errors_of_floats_are_clipped(dtype):
    images = np.array([-1e-4, 0.25, 1 + 1e-4, 1], dtype).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(as_batch(images, (2, 2, 1))[0].ravel(), [0, 0.25, 1, 1])
    inside = images.clip(0, 1)
    assert np.shares_memory(as_batch(inside, (2, 2, 1))[0], inside)


def one_pixel(value):
    images = np.zeros([3, 12, 10])
    images[1, 1, 0] = value
    return images


@pytest.mark.parametrize(
    "images, image_shape, message",
    [
        (np.zeros([2, 12, 11, 1]), GRAY, r"shape \[n, 12, 10, 1\], \[n, 12, 10\], \[12, 10, 1\] or \[12, 10\], not"),
        (RGB, GRAY, r"not \(2, 12, 10, 3\)"),
        (BYTES, COLOR, r"shape \[n, 12, 10, 3\] or \[12, 10, 3\], not \(2, 12, 10, 1\)"),
        (BYTES[..., 0], COLOR, r"not \(2, 12, 10\)"),
        (np.float32(0.5), GRAY, r"not \(\)"),
        (BYTES.astype(np.int32), GRAY, r"uint8, or floats in 0\.\.1, not int32; convert values in 0\.\.255 by"),
        (BYTES.astype(np.uint16), GRAY, "not uint16"),
        (BYTES > 0, GRAY, "not bool"),
        (BYTES.astype(complex), GRAY, "not complex128"),
        (BYTES.astype(object), GRAY, "not object"),
        ("runs/a.png", GRAY, "not <U10"),
        (None, GRAY, "not object"),
        ([BYTES[0], BYTES[0, 1:]], GRAY, "list of arrays of the same shape"),
        (Image.fromarray(BYTES[0, ..., 0]).convert("P"), GRAY, r"mode P; convert them by convert\('L'\)"),
        ([Image.fromarray(RGB[0]).convert("HSV")], COLOR, "mode HSV"),
        (one_pixel(1.0002), GRAY, r"floats must be in 0\.\.1, not in 0\.\.1\.0002"),
        (one_pixel(-0.0002), GRAY, r"not in -0\.0002\.\.0"),
        (BYTES.astype(np.float32), GRAY, r"floats must be in 0\.\.1, not in 0\.\.25"),
        (one_pixel(np.nan), GRAY, "images contain NaN"),
        (one_pixel(np.inf), GRAY, "images contain infinity"),
        (one_pixel(-np.inf), GRAY, "images contain infinity"),
    ],
)
def test_other_images_are_refused_in_one_line(images, image_shape, message):
    with pytest.raises(ValueError, match=message) as error:
        as_batch(images, image_shape)
    assert "\n" not in str(error.value)


def test_empty_sides_are_refused_although_sides_are_free():
    with pytest.raises(ValueError, match=r"\[n, height, width, 1\], .* or \[height, width\], not \(2, 0, 5, 1\)"):
        as_batch(np.zeros([2, 0, 5, 1]), GRAY, free_sides=True)


@pytest.mark.parametrize(
    "codes, shape, is_single",
    [
        (np.ones([3, 2]), (3, 2), False),
        ([1, 2], (1, 2), True),
        (tf.ones([1, 2]), (1, 2), False),
        ([], (0, 2), False),
        (np.ones([0, 2]), (0, 2), False),
    ],
)
def test_latent_vectors_get_their_missing_axis(codes, shape, is_single):
    batch, single = as_codes(codes, 2)
    assert batch.shape == shape and batch.dtype == np.float32 and single == is_single


@pytest.mark.parametrize(
    "codes, message",
    [
        (np.ones([3, 4]), r"shape \[n, 2\] or \[2\], not \(3, 4\)"),
        (np.ones([3, 4, 2]), r"not \(3, 4, 2\)"),
        (1.0, r"not \(\)"),
        ([[1, np.nan]], "NaN or infinity"),
        ([[1, 1e300]], "beyond float32"),
        ([["a", "b"]], "must be numbers, not <U1"),
        ([[1, 2], [3]], "list of arrays of the same shape"),
    ],
)
def test_other_latent_vectors_are_refused_in_one_line(codes, message):
    with pytest.raises(ValueError, match=message) as error:
        as_codes(codes, 2)
    assert "\n" not in str(error.value)


# --- Batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_images", [0, 1, 4, 10])
def test_batches_are_bounded_by_their_bytes_and_traced_once(num_images, monkeypatch):
    monkeypatch.setattr(inference, "BATCH_BYTES", 4 * 4 * 12 * 10)  # Four images, as float32.
    sizes = []
    function = inference.compile_function(lambda images: 2 * images, GRAY)

    def observe(images):
        sizes.append(len(images))
        return function(images)

    images = np.full([num_images, *GRAY], 51, np.uint8)
    outputs = inference.predict_in_batches(observe, images, "doubling")
    np.testing.assert_allclose(outputs, np.full([num_images, *GRAY], 0.4, np.float32), rtol=1e-6)
    assert sizes == {0: [1], 1: [1], 4: [4], 10: [4, 4, 2]}[num_images]
    assert function.experimental_get_tracing_count() == 1


def test_an_item_that_exceeds_a_batch_is_a_batch_and_codes_count_as_images(monkeypatch):
    monkeypatch.setattr(inference, "BATCH_BYTES", 100)
    sizes, codes = [], np.ones([6, 2], np.float32)
    for item_values, expected in ((None, [6]), (10, [2, 2, 2]), (1000, [1] * 6)):
        inference.predict_in_batches(lambda batch: sizes.append(len(batch)) or batch, codes, "", item_values)
        assert sizes == expected
        sizes.clear()


def test_progress_of_several_batches_is_shown_after_a_while():
    with mock.patch.object(inference, "phase") as phase:
        assert [*inference.batch_slices(5, 5, "denoising")] == [slice(0, 5)] and not phase.called
        assert [*inference.batch_slices(5, 2, "denoising")] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    phase.assert_called_once_with("denoising", 5, "image")
    updates = [call.args for call in phase.return_value.__enter__.return_value.update.call_args_list]
    assert updates == [(2,), (2,), (1,)]


def test_floats_of_any_range_are_taken_as_they_are_where_the_noise_was_not_clipped():
    images = np.array([[-0.5, 1.5]], np.float32)
    np.testing.assert_array_equal(as_batch(images, (1, 2, 1), any_range=True)[0].ravel(), [-0.5, 1.5])
    with pytest.raises(ValueError, match="NaN"):
        as_batch(images * np.nan, (1, 2, 1), any_range=True)
