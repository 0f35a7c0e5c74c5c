"""Images of any size and kind, converted to the size and channels that a model takes."""

from pathlib import Path

import numpy as np
from PIL import Image

from cae.data.arrays import border_pixels
from cae.data.image_io import read_image

MODES = {1: "L", 3: "RGB"}
"""Pillow's modes of gray and color images by the number of channels."""


def resize_with_pad(image: Image.Image, height: int, width: int, channels: int) -> np.ndarray:
    """Resizes an image without changing its aspect ratio, and pads it with the median of its border.

    Args:
      image: An image of any size, of mode L or RGB.
      height: Height of the result in pixels.
      width: Width of the result in pixels.
      channels: 1 for grayscale, 3 for RGB.

    Returns:
      The image, uint8 [height, width, channels].
    """
    image = image.convert(MODES[channels])
    if image.size != (width, height):
        values = np.asarray(image).reshape(image.height, image.width, channels)
        color = tuple(np.median(border_pixels(values), axis=0).astype(int).tolist())
        left, top, right, bottom = content_box(image.size, height, width)
        content = image.resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        image = Image.new(image.mode, (width, height), color)
        image.paste(content, (left, top))
    return np.asarray(image, np.uint8).reshape(height, width, channels)


def content_box(size: tuple[int, int], height: int, width: int) -> tuple[int, int, int, int]:
    """Returns where `resize_with_pad` puts an image of a size (width, height): left, top, right and bottom."""
    content_width, content_height = width, height
    if size[0] / size[1] > width / height:
        content_height = max(1, round(size[1] / size[0] * width))
    else:
        content_width = max(1, round(size[0] / size[1] * height))
    left, top = round((width - content_width) / 2), round((height - content_height) / 2)
    return left, top, left + content_width, top + content_height


def undo_resize_with_pad(
    values: np.ndarray, original_size: tuple[int, int], size: tuple[int, int] | None = None
) -> np.ndarray:
    """Returns values of the pixels of a resized image, such as a map of it, at the places of the original's pixels.

    Args:
      values: float32 [height, width], of an image as `resize_with_pad` returns it.
      original_size: Width and height of the original.
      size: Width and height of the result, if it is to be smaller or larger than the original.

    Returns:
      float32 [height, width] of the result, interpolated bilinearly.
    """
    box = content_box(original_size, *values.shape)
    return np.asarray(Image.fromarray(values).resize(size or original_size, Image.Resampling.BILINEAR, box=box))


def read_resized(path: Path, shape: tuple[int, int, int]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads an image file of any kind that `read_image` reads.

    Args:
      path: The file.
      shape: (height, width, channels) of the result.

    Returns:
      The image, uint8 `shape`, and warnings of `read_image`: what had to be guessed.

    Raises:
      UnreadableImageError: The file is not an image, damaged, too large or of an unsupported kind.
    """
    decoded = read_image(path)
    return resize_with_pad(decoded.to_pil(), *shape), decoded.warnings


def read_unresized(path: Path, channels: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Reads an image file of any kind in its own size; as `read_resized` otherwise.

    Returns:
      The image, uint8 [height, width, channels], and warnings, one of which says that values of more than 8 bits were
      reduced to 8; of 16 bits the upper ones are kept.
    """
    decoded = read_image(path)
    image = np.asarray(decoded.to_pil().convert(MODES[channels]), np.uint8)
    reduced = ("more than 8 bits: reduced to 8 for training",) if decoded.channels.dtype.itemsize > 1 else ()
    return image.reshape(*image.shape[:2], channels), (*decoded.warnings, *reduced)


def border_background(images: np.ndarray) -> float:
    """Returns the median value at the borders of images, uint8 [n, height, width, channels], in 0..1."""
    return float(np.median(border_pixels(images))) / 255


def inversion_background(images: np.ndarray) -> float:
    """Returns the background by which `are_negatives` finds negatives of images like these.

    It is that of their borders, or 0.5, by which there are no negatives, where some of the images would be: inverting
    images that are like them would make outliers of inliers.
    """
    background = border_background(images)
    return 0.5 if are_negatives(images, background).any() else background


def are_negatives(images: np.ndarray, background: float) -> np.ndarray:
    """Returns which images have a background that is close to the inverse of another one.

    Args:
      images: uint8 `[n, height, width, channels]`.
      background: In 0..1.

    Returns:
      bool `[n]`.
    """
    values = np.median(border_pixels(images), axis=(-2, -1)) / 255
    return (abs(values - background) > 0.5) & (abs((1 - values) - background) < 0.25)
