"""What a user gives to a trained model, checked, and functions of it applied batch by batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epy
from PIL import Image

from cae.data.arrays import to_float
from cae.progress import phase

# It takes seconds to import, and programs look up the names of scores before they need it.
with epy.lazy_imports():
    import tensorflow as tf

MAX_ROUNDING_ERROR = 1e-4
"""By which floats may lie outside of 0..1, for example after resizing; it is less than half a step of 12 bits."""

BATCH_BYTES = 2**20
"""Bytes of a batch of images as float32; the features of a model take some 50 times as many. Larger ones are slower."""

_PILLOW_MODES = ("L", "RGB", "F")
"""Pillow images whose pixels are brightnesses; those of a palette, for example, are not."""


def as_batch(
    images: Any, image_shape: tuple[int, int, int], free_sides: bool = False, any_range: bool = False
) -> tuple[np.ndarray, bool]:
    """Checks images that a user gives.

    Args:
      images: uint8, or floats in 0..1 up to `MAX_ROUNDING_ERROR`: [n, height, width, channels], or one image [height,
        width, channels]; gray ones may have no axis of channels. Anything that `numpy.asarray` takes.
      image_shape: Their (height, width, channels).
      free_sides: Whether height and width may be others.
      any_range: Whether floats may be any finite numbers, as with noise that is not clipped.

    Returns:
      The images, [n, height, width, channels], floats clipped to 0..1; and whether it was one image without a batch
      axis.

    Raises:
      ValueError: They have another shape, type or range, or contain NaN or infinity.
    """
    values = _as_array(images, "images")
    if values.dtype != np.uint8 and values.dtype.kind != "f":
        raise ValueError(
            f"images must be uint8, or floats in 0..1, not {values.dtype}; convert values in 0..255 by"
            " images.astype(numpy.uint8), or divide images by the value of white"
        )
    batch, is_single = _add_axes(values, image_shape, free_sides)
    return _clip_rounding_errors(batch, any_range) if batch.dtype.kind == "f" and batch.size else batch, is_single


def as_codes(codes: Any, latent_dim: int) -> tuple[np.ndarray, bool]:
    """Checks latent vectors that a user gives: numbers, [n, latent_dim] or [latent_dim].

    Returns:
      The latent vectors, float32 [n, latent_dim], and whether it was one without a batch axis.

    Raises:
      ValueError: They have another shape or type, or contain NaN or infinity.
    """
    values = _as_array(codes, "latent vectors")
    if values.shape == (0,):
        values = values.reshape(0, latent_dim)
    if values.dtype.kind not in "fiu":
        raise ValueError(f"latent vectors must be numbers, not {values.dtype}")
    if values.ndim not in (1, 2) or values.shape[-1] != latent_dim:
        raise ValueError(f"latent vectors must have the shape [n, {latent_dim}] or [{latent_dim}], not {values.shape}")
    with np.errstate(over="ignore"):  # What overflows is refused below.
        converted = values.astype(np.float32)
    if not np.isfinite(converted).all():
        raise ValueError("latent vectors contain NaN or infinity, or values beyond float32; they must be finite")
    return converted.reshape(-1, latent_dim), values.ndim == 1


def _as_array(values: Any, name: str) -> np.ndarray:
    for each in values if isinstance(values, list | tuple) else [values]:
        if isinstance(each, Image.Image) and each.mode not in _PILLOW_MODES:
            raise ValueError(f"{name} have the Pillow mode {each.mode}; convert them by convert('L') or convert('RGB')")
    try:
        return np.asarray(values)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(f"{name} must be an array, or a list of arrays of the same shape") from error


def _add_axes(values: np.ndarray, image_shape: tuple[int, int, int], free_sides: bool) -> tuple[np.ndarray, bool]:
    """Returns images with axes of batch and channels, and whether they had no axis of the batch."""
    height, width, channels = image_shape
    if values.shape == (0,):  # An empty list.
        return values.reshape(0, *image_shape), False
    for is_single, is_gray in ((False, False), (True, False), (False, True), (True, True)):
        shape = (1,) * is_single + values.shape + (1,) * is_gray
        if (
            len(shape) == 4
            and shape[3] == channels
            and (min(shape[1:]) > 0 if free_sides else shape[1:] == image_shape)
        ):
            return values.reshape(shape), is_single
    sides = "height, width" if free_sides else f"{height}, {width}"
    shapes = [f"[n, {sides}, {channels}]"] + [f"[n, {sides}]"] * (channels == 1) + [f"[{sides}, {channels}]"]
    shapes += [f"[{sides}]"] * (channels == 1)
    expected = f"{', '.join(shapes[:-1])} or {shapes[-1]}"
    raise ValueError(f"images must have the shape {expected}, not {values.shape}")


def _clip_rounding_errors(images: np.ndarray, any_range: bool) -> np.ndarray:
    """Returns floats in 0..1, or of any range; raises `ValueError` where they are further outside or not finite."""
    low, high = float(images.min()), float(images.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"images contain {'NaN' if math.isnan(low) else 'infinity'}; floats must be in 0..1")
    if any_range:
        return images
    if max(-low, high - 1) > 1.001 * MAX_ROUNDING_ERROR:  # Of float32, which rounds the limit itself.
        raise ValueError(f"floats must be in 0..1, not in {low:.5g}..{high:.5g}")
    return images if low >= 0 and high <= 1 else images.clip(0, 1)


# --- Batches ----------------------------------------------------------------------------------------------------------


def compile_function(function: Callable[[tf.Tensor], tf.Tensor], item_shape: Sequence[int | None]) -> Callable:
    """Returns a graph function of float32 batches of any size, which is traced once.

    Args:
      function: Takes and returns a tensor.
      item_shape: The shape of a batch without its first axis; None for a side that may vary.
    """
    return tf.function(function, input_signature=[tf.TensorSpec([None, *item_shape], tf.float32)])


def predict_in_batches(
    function: Callable[[tf.Tensor], tf.Tensor], items: np.ndarray, description: str, item_values: int | None = None
) -> np.ndarray:
    """Applies a function batch by batch, in batches of `BATCH_BYTES` or of one item; long work shows its progress.

    Args:
      function: Takes float32 [batch, ...], and returns [batch, ...].
      items: uint8 images, or floats, [n, ...].
      description: What is done, for the progress bar.
      item_values: Number of values that an item takes as an image; by default those of an item.

    Returns:
      What the function returned, [n, ...].
    """
    if not len(items):
        return function(tf.zeros([1, *items.shape[1:]])).numpy()[:0]
    batch_size = max(1, BATCH_BYTES // (4 * (item_values or math.prod(items.shape[1:]))))
    results = None
    for batch in batch_slices(len(items), batch_size, description):
        outputs = function(tf.constant(to_float(items[batch]))).numpy()
        if len(outputs) == len(items):
            return outputs
        if results is None:
            results = np.empty((len(items), *outputs.shape[1:]), outputs.dtype)
        results[batch] = outputs
    return results


def batch_slices(num_items: int, batch_size: int, description: str, unit: str = "image") -> Iterator[slice]:
    """Yields the slices of batches of items; several batches that take a while show their progress."""
    slices = [slice(start, start + batch_size) for start in range(0, num_items, batch_size)]
    if len(slices) < 2:
        yield from slices
        return
    with phase(description, num_items, unit) as bar:
        for each in slices:
            yield each
            bar.update(len(range(*each.indices(num_items))))
