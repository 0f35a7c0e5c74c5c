"""Latent vectors for TensorBoard's projector: its files, side by side in one folder.

The projector finds them only in the folder of a run, which has events, and opens no file outside of that folder.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.plugins import projector

from cae.data.arrays import to_pil
from cae.io_utils import printable

VECTORS, METADATA, SPRITE = "vectors.tsv", "metadata.tsv", "sprite.png"

MAX_SPRITE_SIDE = 8192
"""Pixels along a side of the sprite, which graphics cards limit."""


@dataclasses.dataclass(frozen=True)
class Projection:
    """Latent vectors and the images that they encode.

    Attributes:
      vectors: `[n, latent_dim]`.
      images: `[n, height, width, 1 or 3]`, uint8 or floats in 0..1.
      labels: A label for each vector, or none.
    """

    vectors: np.ndarray
    images: np.ndarray
    labels: Sequence[str] = ()


def write_projection(folder: Path, projection: Projection, name: str = "latent vectors") -> Path:
    """Writes a projection's files into an existing folder, which can be moved later.

    Args:
      folder: Where to write.
      projection: What to write.
      name: What the projector calls the vectors.

    Returns:
      The file that names the others.
    """
    np.savetxt(folder / VECTORS, projection.vectors, fmt="%.6g", delimiter="\t")
    image_size, sprite = make_sprite(projection.images)
    sprite.save(folder / SPRITE)
    config = projector.ProjectorConfig()
    embedding = config.embeddings.add(tensor_name=name, tensor_path=VECTORS, tensor_shape=projection.vectors.shape)
    embedding.sprite.image_path = SPRITE
    embedding.sprite.single_image_dim.extend(image_size)
    if projection.labels:
        # A file of a single column has no header.
        lines = "".join(f"{printable(label).strip() or '-'}\n" for label in projection.labels)
        (folder / METADATA).write_text(lines, encoding="utf-8")
        embedding.metadata_path = METADATA
    projector.visualize_embeddings(str(folder), config)
    return folder / "projector_config.pbtxt"


def make_sprite(images: np.ndarray) -> tuple[tuple[int, int], Image.Image]:
    """Returns a square grid of images, row by row, and the (width, height) of one of them.

    Images are shrunk where the grid would be larger than `MAX_SPRITE_SIDE`.

    Args:
      images: `[n, height, width, 1 or 3]`, uint8 or floats in 0..1.
    """
    num_columns = int(np.ceil(np.sqrt(len(images))))
    height, width = images.shape[1:3]
    scale = min(1.0, MAX_SPRITE_SIDE // num_columns / max(height, width))
    width, height = max(int(width * scale), 1), max(int(height * scale), 1)
    mode = "L" if images.shape[-1] == 1 else "RGB"
    grid = Image.new(mode, (num_columns * width, num_columns * height))
    if images.dtype != np.uint8:
        images = (images.clip(0, 1) * 255).round().astype(np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, num_columns)
        grid.paste(to_pil(image).resize((width, height)), (column * width, row * height))
    return (width, height), grid
