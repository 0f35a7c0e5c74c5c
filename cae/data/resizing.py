"""Images of any size and kind, converted to the size and channels that a model takes."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cae.data.arrays import border_pixels
from cae.data.image_io import read_image


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
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        values = np.asarray(image).reshape(image.height, image.width, channels)
        color = tuple(np.median(border_pixels(values), axis=0).astype(int).tolist())
        image = ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS, color=color)
    return np.asarray(image, np.uint8).reshape(height, width, channels)


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


def border_background(images: np.ndarray) -> float:
    """Returns the median value at the borders of images, uint8 [n, height, width, channels], in 0..1."""
    return float(np.median(border_pixels(images))) / 255
