"""What the user draws, uploads or types, checked, and images in the size that the model takes."""

import base64
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cae.data.image_io import read_image
from cae.errors import UserError
from cae.predict.preprocess import Preprocessed, preprocess

CANVAS_PIXELS = 280
"""The longer side of the canvas, about: a multiple of that of smaller images."""

DATA_URL_PREFIX = "data:image/png;base64,"

NO_IMAGE = "there is no image yet: draw one, drop a file, or click an example"


def canvas_size(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Returns the width and height of the canvas, of the aspect ratio of the model's images."""
    height, width, _ = image_shape
    scale = CANVAS_PIXELS / max(height, width)
    scale = round(scale) if scale > 1 else scale
    return max(1, round(width * scale)), max(1, round(height * scale))


def read_drawing(data_url: str, image_shape: tuple[int, int, int]) -> Preprocessed:
    """Returns what was drawn in the model's size and channels.

    Args:
      data_url: A PNG file as a data URL; empty where nothing was drawn.
      image_shape: (height, width, channels) of the model's images.

    Raises:
      UserError: Nothing was drawn.
      UnreadableImageError: It is not an image.
    """
    if not data_url:
        raise UserError(NO_IMAGE)
    height, width, channels = image_shape
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        # What cannot be decoded is found by `read_image`.
        file.write(base64.b64decode(data_url.removeprefix(DATA_URL_PREFIX) + "=="))
        file.flush()
        image = read_image(Path(file.name)).to_pil()
    resized = image.convert("L" if channels == 1 else "RGB").resize((width, height), Image.Resampling.BOX)
    return Preprocessed(np.asarray(resized).reshape(image_shape), "", ())


def read_upload(path: str | None, image_shape: tuple[int, int, int], background: float) -> Preprocessed:
    """Reads an image file of any kind that `read_image` reads, and converts it as `preprocess` does.

    Raises:
      UnreadableImageError: As `read_image`.
      UserError: There is no file.
    """
    if path is None:
        raise UserError(NO_IMAGE)
    return preprocess(read_image(Path(path)), image_shape, background, invert="auto")


def check_number(name: str, value: Any, low: float, high: float) -> float:
    """Returns a number that the user typed; raises `UserError` unless it is in a range."""
    is_number = isinstance(value, int | float) and math.isfinite(value)
    if not is_number or not low <= value <= high:
        raise UserError(f"{name} must be a number from {low:g} to {high:g}, not {value if is_number else 'empty'}")
    return value
