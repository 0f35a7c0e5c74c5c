"""Pictures of anomaly maps: where the image in a file is anomalous, at the places of the file's own pixels."""

import hashlib
import os
from pathlib import Path

import numpy as np
from PIL import Image

from cae.data.image_files import MAX_NAME_CHARACTERS
from cae.data.image_io import DecodedImage
from cae.data.resizing import content_box, undo_resize_with_pad
from cae.io_utils import atomic_write
from cae.report.anomaly_maps import overlay

MIN_SIDE, MAX_SIDE = 256, 512
"""The longer side of a picture in pixels; smaller images are enlarged by a whole number that does not exceed the first,
larger ones shrunk."""


def shrink_to_gray(decoded: DecodedImage) -> np.ndarray:
    """Returns the upright image in gray with sides of at most `MAX_SIDE`, uint8 [height, width]."""
    return (255 * decoded.preview(MAX_SIDE).mean(axis=-1)).round().astype(np.uint8)


def content_maximum(anomaly_map: np.ndarray, original_size: tuple[int, int]) -> float:
    """Returns the largest value of a map [height, width] of an image of (width, height), outside of the padding."""
    left, top, right, bottom = content_box(original_size, *anomaly_map.shape)
    return float(anomaly_map[top:bottom, left:right].max())


def write_picture(path: Path, gray: np.ndarray, original_size: tuple[int, int], anomaly_map: np.ndarray) -> None:
    """Writes an image with its anomaly map over it as a PNG file, and the folders that it lies in.

    Args:
      path: The file.
      gray: The image as `shrink_to_gray` returns it.
      original_size: Width and height of the upright image in its file.
      anomaly_map: The map of the image in the model's size, [height, width].
    """
    factor = max(1, MIN_SIDE // max(gray.shape))
    image = gray.repeat(factor, axis=0).repeat(factor, axis=1)
    enlarged_map = undo_resize_with_pad(anomaly_map, original_size, image.shape[::-1])
    pixels = (255 * overlay(image[..., None] / 255, enlarged_map)).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as file:
        Image.fromarray(pixels).save(file, "PNG", compress_level=1)  # Encoding takes most of the time.


def picture_path(folder: Path, name: str) -> Path:
    """Returns FOLDER/NAME.png; of a name that is too long for another suffix, the start and a digest."""
    path = folder / f"{name}.png"
    if len(os.fsencode(path.name)) <= MAX_NAME_CHARACTERS:
        return path
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    return path.with_name(f"{path.name[:50]}-{digest}.png")
