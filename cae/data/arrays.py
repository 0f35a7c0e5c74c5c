"""Images as arrays: their shape and range, uint8 and floats in 0..1, rows of values, Pillow images, border pixels."""

import math

import numpy as np
from PIL import Image

MAX_ROUNDING_ERROR = 1e-4
"""By which floats may lie outside of 0..1, for example after resizing; it is less than half a step of 12 bits."""


def to_float(images: np.ndarray) -> np.ndarray:
    """Returns images as float32 in 0..1: uint8 divided by 255, floats unchanged."""
    values = images.astype(np.float32, copy=False)
    return values / 255 if images.dtype == np.uint8 else values


def check_images(images: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Checks images that a user gives.

    Args:
      images: uint8, or floats in 0..1 up to `MAX_ROUNDING_ERROR`, [n, height, width, channels]; gray ones may be
        [n, height, width].
      image_shape: Their (height, width, channels).

    Returns:
      The images, [n, height, width, channels], clipped to 0..1.

    Raises:
      ValueError: They have another shape, type or range, or contain NaN or infinity.
    """
    images = np.asarray(images)
    if image_shape[-1] == 1 and images.ndim == 3 and images.shape[1:] == image_shape[:2]:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1:] != image_shape:
        raise ValueError(f"images must have the shape [n, {', '.join(map(str, image_shape))}], not {images.shape}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(
            f"images must be uint8, or floats in 0..1, not {images.dtype}; convert values in 0..255 by"
            " images.astype(numpy.uint8), or divide images by the value of white"
        )
    return _clip_rounding_errors(images) if images.dtype.kind == "f" and images.size else images


def _clip_rounding_errors(images: np.ndarray) -> np.ndarray:
    """Returns floats in 0..1; raises `ValueError` where they are further outside."""
    low, high = float(images.min()), float(images.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"images contain {'NaN' if math.isnan(low) else 'infinity'}; floats must be in 0..1")
    if max(-low, high - 1) > 1.001 * MAX_ROUNDING_ERROR:  # Of float32, which rounds the limit itself.
        raise ValueError(f"floats must be in 0..1, not in {low:.5g}..{high:.5g}")
    return images if low >= 0 and high <= 1 else images.clip(0, 1)


def flatten(images: np.ndarray) -> np.ndarray:
    """Returns images [..., height, width, channels] as contiguous rows, float32 [n, height * width * channels]."""
    return np.ascontiguousarray(images.reshape(-1, math.prod(images.shape[-3:])), np.float32)


def to_pil(image: np.ndarray) -> Image.Image:
    """Returns an image [height, width, channels] as a Pillow image, which has no axis for a single channel."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def border_pixels(images: np.ndarray) -> np.ndarray:
    """Returns the outermost pixels of images [..., height, width, channels]: [..., pixels, channels]."""
    edges = (images[..., 0, :, :], images[..., -1, :, :], images[..., :, 0, :], images[..., :, -1, :])
    return np.concatenate(edges, axis=-2)
