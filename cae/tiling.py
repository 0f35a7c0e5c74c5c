"""Tiled prediction: a model of small images applied to an image of any size, tile by tile, without seams.

The overlap-tile strategy of Ronneberger, Fischer and Brox (2015), with blended tiles.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from cae.inference import batch_slices

MAX_BATCH_PIXELS = 64 * 28 * 28
"""Pixels in a batch of tiles, at most, unless a single tile has more."""

MAX_OVERLAP = 64
"""Pixels by which tiles overlap, at most: about as far as a convolutional denoiser sees."""

MAX_TILE_SIDE = 640
"""Of the tiles of large images: the features of a U-Net then take a few hundred MiB. Smaller ones are one tile."""


class TileSize(NamedTuple):
    """The size of tiles, and where they may begin.

    Attributes:
      height: In pixels.
      width: In pixels.
      multiple: Tiles begin at multiples of it. A model that downsamples computes the same inside of a tile as of the
        whole image, if tile and image have the same pixels downsampled together.
    """

    height: int
    width: int
    multiple: int = 1


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
    def create(cls, size: int, tile_size: int, multiple: int) -> "_TileAxis":
        """Returns tiles that overlap by half of their size or by `MAX_OVERLAP` at least, as far as multiples allow."""
        # Neighbors begin a multiple apart at least: tiles of a single one do not overlap.
        overlap = min(_round_up(min(tile_size // 2, MAX_OVERLAP), multiple), max(tile_size - multiple, 0))
        padded = tile_size if size <= tile_size else _round_up(size, multiple)
        num_tiles = 1 + -(-(padded - tile_size) // (tile_size - overlap))
        starts = np.linspace(0, (padded - tile_size) // multiple, num_tiles).round().astype(int) * multiple
        depth = np.minimum(np.arange(tile_size), np.arange(tile_size)[::-1]) + 0.5
        window = np.sin(np.pi / 2 * np.minimum(depth / max(overlap, 1), 1)) ** 2
        total = np.zeros(padded)
        for start in starts:
            total[start : start + tile_size] += window
        weights = np.stack([window / total[start : start + tile_size] for start in starts]).astype(np.float32)
        before = (padded - size) // 2
        return cls((before, padded - size - before), starts, weights)


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def choose_tile_size(size: tuple[int, int], image_shape: tuple[int, ...], multiple: int | None) -> TileSize:
    """Returns the tiles in which an image of a (height, width) is denoised.

    A model of crops takes an image whole, or in large tiles. One of whole images has learned where their border is:
    applied to a large page, it turned digits far from a border into clouds.

    Args:
      size: Of the image.
      image_shape: Of the images that the model was trained on.
      multiple: Of what a model of crops pads height and width to multiples; None for a model of whole images.
    """
    return TileSize(*image_shape[:2]) if multiple is None else limit_tile_size(size, multiple)


def limit_tile_size(size: tuple[int, int], multiple: int) -> TileSize:
    """Returns tiles of an image of a (height, width): itself, or as many as sides of `MAX_TILE_SIDE` at most need.

    Args:
      size: Of the image.
      multiple: Of what a model pads height and width to multiples.
    """
    longest = max(MAX_TILE_SIDE // multiple, 2) * multiple
    overlap = _round_up(MAX_OVERLAP, multiple)

    def limit(side: int) -> int:
        if side <= longest:
            return side
        num_tiles = -(-(side - overlap) // (longest - overlap))
        return _round_up(-(-(side + (num_tiles - 1) * overlap) // num_tiles), multiple)

    return TileSize(*map(limit, size), multiple)


def num_tiles(size: tuple[int, int], tile_size: TileSize) -> int:
    """Returns how many tiles an image of (height, width) is cut into."""
    rows, columns = _make_axes(size, tile_size)
    return len(rows.starts) * len(columns.starts)


def _make_axes(size: tuple[int, ...], tile_size: TileSize) -> list[_TileAxis]:
    return [_TileAxis.create(*each, tile_size.multiple) for each in zip(size[:2], tile_size[:2])]


def tiled_predict(predict_fn: PredictFn, image: np.ndarray, tile_size: TileSize) -> np.ndarray:
    """Applies a model to an image tile by tile, and blends the tiles.

    Args:
      predict_fn: The model.
      image: float32 `[height, width, channels]`, of any size.
      tile_size: The size of tiles.

    Returns:
      The model's output, float32 `[height, width, channels]`.
    """
    rows, columns = _make_axes(image.shape, tile_size)
    (top, left), (tile_height, tile_width) = (rows.padding[0], columns.padding[0]), tile_size[:2]
    padding = [rows.padding, columns.padding, (0, 0)]
    # As a model pads that takes images of any size; the surroundings of a small image are like its border.
    mode = "symmetric" if tile_size.multiple > 1 else "edge"
    padded = np.pad(image, padding, mode=mode) if np.any(padding) else image
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
