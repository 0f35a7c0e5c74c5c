"""Tiled prediction: a model of small images applied to an image of any size, tile by tile, without seams.

The overlap-tile strategy of Ronneberger, Fischer and Brox (2015), with blended tiles.
"""

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from cae.inference import batch_slices

MAX_BATCH_PIXELS = 64 * 28 * 28
"""Pixels in a batch of tiles, at most, unless a single tile has more."""

MAX_OVERLAP = 64
"""Pixels by which tiles overlap, at most: about as far as a convolutional denoiser sees."""

MAX_TILE_SIDE = 640
"""Of the tiles of large images: the features of a U-Net then take a few hundred MiB. Smaller ones are one tile."""

PredictFn = Callable[[np.ndarray], np.ndarray]
"""Images `[batch, height, width, channels]` to images of the same shape."""


@dataclasses.dataclass(frozen=True)
class _TileAxis:
    """How one axis of an image is cut into tiles.

    Attributes:
      padding: Pixels added before and after, where the image is smaller than a tile.
      starts: Where tiles begin in the padded image, `[tiles]`.
      weights: Of the pixels of each tile, `[tiles, tile_size]`. The weights of all tiles that contain a pixel sum to 1,
        and fall smoothly to nearly 0 at a tile's ends, so that no seam is visible.
    """

    padding: tuple[int, int]
    starts: np.ndarray
    weights: np.ndarray

    @classmethod
    def create(cls, size: int, tile_size: int) -> "_TileAxis":
        """Returns tiles that overlap by half of their size or by `MAX_OVERLAP` at least."""
        overlap = min(tile_size // 2, MAX_OVERLAP)
        missing = max(tile_size - size, 0)
        padded = size + missing
        num_tiles = 1 + -(-(padded - tile_size) // (tile_size - overlap))
        starts = np.linspace(0, padded - tile_size, num_tiles).round().astype(int)
        depth = np.minimum(np.arange(tile_size), np.arange(tile_size)[::-1]) + 0.5
        window = np.sin(np.pi / 2 * np.minimum(depth / overlap, 1)) ** 2
        total = np.zeros(padded)
        for start in starts:
            total[start : start + tile_size] += window
        weights = np.stack([window / total[start : start + tile_size] for start in starts]).astype(np.float32)
        return cls((missing // 2, missing - missing // 2), starts, weights)


def num_tiles(size: tuple[int, int], tile_size: tuple[int, int]) -> int:
    """Returns how many tiles of (height, width) an image of (height, width) is cut into."""
    rows, columns = (len(_TileAxis.create(*each).starts) for each in zip(size, tile_size))
    return rows * columns


def tiled_predict(predict_fn: PredictFn, image: np.ndarray, tile_size: tuple[int, int]) -> np.ndarray:
    """Applies a model to an image tile by tile, and blends the tiles.

    Args:
      predict_fn: The model.
      image: float32 `[height, width, channels]`, of any size.
      tile_size: Height and width of the model's images.

    Returns:
      The model's output, float32 `[height, width, channels]`.
    """
    rows, columns = (_TileAxis.create(*each) for each in zip(image.shape, tile_size))
    (top, left), (tile_height, tile_width) = (rows.padding[0], columns.padding[0]), tile_size
    padding = [rows.padding, columns.padding, (0, 0)]
    padded = np.pad(image, padding, mode="edge") if np.any(padding) else image
    output = np.zeros_like(padded)
    tiles = list(itertools.product(zip(rows.starts, rows.weights), zip(columns.starts, columns.weights)))
    batch_size = max(1, MAX_BATCH_PIXELS // (tile_height * tile_width))
    for part in batch_slices(len(tiles), batch_size, "denoising", "tile"):
        batch = tiles[part]
        slices = [np.s_[row : row + tile_height, column : column + tile_width] for (row, _), (column, _) in batch]
        predicted = predict_fn(np.stack([padded[each] for each in slices]))
        for each, ((_, row_weights), (_, column_weights)), tile in zip(slices, batch, predicted):
            output[each] += row_weights[:, None, None] * column_weights[None, :, None] * tile
    return output[top : top + image.shape[0], left : left + image.shape[1]]
