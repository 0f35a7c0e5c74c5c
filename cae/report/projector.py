"""Latent vectors for TensorBoard's projector: the files that it reads, side by side in one folder.

It finds them only where TensorBoard sees a run, in a folder with events, and opens no file outside of that folder.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.plugins import projector

VECTORS, METADATA, SPRITE = "vectors.tsv", "metadata.tsv", "sprite.png"

LONGEST_SIDE = 8192
"""Pixels along a side of the picture that holds all images: what graphics cards take."""


@dataclasses.dataclass(frozen=True)
class Projection:
    """Vectors [n, dims], the images that they are of, [n, height, width, 1 or 3], and their labels: n, or none.

    images: uint8, or floats in 0..1.
    """

    vectors: np.ndarray
    images: np.ndarray
    labels: Sequence[str] = ()


def write(folder: Path, projection: Projection, name: str = "latent vectors") -> Path:
    """Writes a projection's files into a folder that is there, and returns the one that names the others.

    Their names are relative to it, so that the folder can be moved. `name` is what the projector calls the vectors.
    """
    np.savetxt(folder / VECTORS, projection.vectors, fmt="%.6g", delimiter="\t")
    image, sprite = sprites(projection.images)
    sprite.save(folder / SPRITE)
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(tensor_name=name, tensor_path=VECTORS, tensor_shape=projection.vectors.shape)
    embedding.sprite.image_path = SPRITE
    embedding.sprite.single_image_dim.extend(image)
    if projection.labels:
        # A single column has no heading.
        lines = "".join(f"{_line(label)}\n" for label in projection.labels)
        (folder / METADATA).write_text(lines, encoding="utf-8")
        embedding.metadata_path = METADATA
    projector.visualize_embeddings(str(folder), config)
    return folder / "projector_config.pbtxt"


def sprites(images: np.ndarray) -> tuple[tuple[int, int], Image.Image]:
    """Returns images [n, height, width, 1 or 3] line by line in a grid, as many lines as columns, and one's (width,
    height).

    Images are shrunk where the grid would be longer than `LONGEST_SIDE`.
    """
    side = int(np.ceil(np.sqrt(len(images))))
    height, width = images.shape[1:3]
    shrink = min(1.0, LONGEST_SIDE // side / max(height, width))
    width, height = max(int(width * shrink), 1), max(int(height * shrink), 1)
    grid = Image.new("L" if images.shape[-1] == 1 else "RGB", (side * width, side * height))
    for position, image in enumerate(images):
        line, column = divmod(position, side)
        grid.paste(_picture(image).resize((width, height)), (column * width, line * height))
    return (width, height), grid


def _picture(image: np.ndarray) -> Image.Image:
    if image.dtype != np.uint8:
        image = (image.clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _line(label: str) -> str:
    """Returns a label as one field of one line; names of folders may hold anything, even bytes that are no text."""
    return " ".join(label.encode(errors="backslashreplace").decode().split()) or "-"
