"""Images as arrays: uint8 and floats in 0..1, rows of values, Pillow images, border pixels."""

import math

import numpy as np
from PIL import Image


def to_float(images: np.ndarray) -> np.ndarray:
    """Returns images as float32 in 0..1: uint8 divided by 255, floats unchanged."""
    values = images.astype(np.float32, copy=False)
    return values / 255 if images.dtype == np.uint8 else values


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
