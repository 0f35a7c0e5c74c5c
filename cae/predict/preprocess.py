"""Images of any kind, converted to the size, channels and background that a model was trained on."""

import dataclasses

import numpy as np
from PIL import Image

from cae.data.image_io import DecodedImage
from cae.data.resizing import are_negatives, resize_with_pad

MAX_SCALE = 2.0
"""Images that are scaled by more than this factor, up or down, have a warning."""

MIN_COLOR_DIFFERENCE = 16
"""Of the channels of a pixel, from 0 to 255; an image with smaller ones is gray."""


@dataclasses.dataclass(frozen=True)
class Preprocessed:
    """An image as a model takes it.

    Attributes:
      image: uint8 `[height, width, channels]`.
      steps: What was done to it, comma-separated; empty if nothing was.
      warnings: What these steps may hide.
    """

    image: np.ndarray
    steps: str
    warnings: tuple[str, ...]


def preprocess(
    decoded: DecodedImage, image_shape: tuple[int, int, int], background: float, invert: str
) -> Preprocessed:
    """Converts an image to the shape of a model's images.

    Args:
      decoded: The image.
      image_shape: Height, width and channels.
      background: That of training images, in 0..1, as `inversion_background`.
      invert: 'always', 'never', or 'auto': where the background is bright and that of training images dark, or the
        reverse, by `are_negatives`.

    Returns:
      The converted image.
    """
    height, width, channels = image_shape
    pil_image = decoded.to_pil()
    image = resize_with_pad(pil_image, height, width, channels)
    steps, warnings = [], [*decoded.warnings]
    scale = max(pil_image.width / width, pil_image.height / height)
    if pil_image.size != (width, height):
        steps.append(f"{pil_image.width}x{pil_image.height} to {width}x{height}")
    if scale > MAX_SCALE:
        warnings.append(f"downscaled {scale:.1f} times: fine detail is lost")
    elif scale < 1 / MAX_SCALE:
        warnings.append(f"upscaled {1 / scale:.1f} times: it is blurred")
    if not 0.9 < (pil_image.width / pil_image.height) / (width / height) < 1.1:
        steps.append("padded")
        warnings.append("padded to another aspect ratio")
    if channels == 1 and _has_color(pil_image):
        steps.append("color to gray")
        warnings.append("color is lost")
    if invert == "always" or (invert == "auto" and are_negatives(image[None], background)[0]):
        image = 255 - image
        steps.append("inverted")
        warnings.append("inverted: bright and dark are swapped")
    return Preprocessed(image, ", ".join(steps), tuple(warnings))


def _has_color(pil_image: Image.Image) -> bool:
    values = np.asarray(pil_image.convert("RGB"), np.int16)
    return bool((values.max(axis=-1) - values.min(axis=-1)).max() > MIN_COLOR_DIFFERENCE)
