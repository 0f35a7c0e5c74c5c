"""Anomaly maps as heat over images, with a line around what exceeds 1, and the legend of their colors."""

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from cae.data.arrays import to_pil
from cae.data.resizing import undo_resize_with_pad
from cae.report.figures import ERROR_COLORMAP

MIN_VALUE, MAX_VALUE = 0.5, 2.0
"""Of a map: what is smaller is transparent, what is larger looks the same."""

OPACITY = 0.65
"""Of heat from a value of 1 on."""

OUTLINE_COLOR = (0.0, 1.0, 1.0)
"""Of the line around what exceeds 1; it is neither gray nor a color of the heat."""

CELL_PIXELS = 112
"""The longer side of an image beside its map in a figure, about: outlines are one pixel wide."""


def overlay(image: np.ndarray, anomaly_map: np.ndarray) -> np.ndarray:
    """Returns an image in gray with its anomaly map as heat over it, and a line around what exceeds 1.

    Args:
      image: [height, width, 1 or 3] in 0..1.
      anomaly_map: float32 [height, width], 0 or more.

    Returns:
      float32 [height, width, 3] in 0..1.
    """
    opacity = OPACITY * ((anomaly_map - MIN_VALUE) / (1 - MIN_VALUE)).clip(0, 1)[..., None]
    heat = matplotlib.colormaps[ERROR_COLORMAP](anomaly_map / MAX_VALUE)[..., :3].astype(np.float32)
    picture = (1 - opacity) * image.mean(axis=-1, keepdims=True, dtype=np.float32) + opacity * heat
    exceeds = anomaly_map > 1
    picture[exceeds & ~ndimage.binary_erosion(exceeds)] = OUTLINE_COLOR
    return picture


def resize_to_cell(image: np.ndarray) -> np.ndarray:
    """Returns an image [height, width, 1 or 3] in 0..1 as [height, width, 3] of about `CELL_PIXELS`.

    It is enlarged by a whole number, or shrunk.
    """
    height, width, _ = image.shape
    scale = CELL_PIXELS / max(height, width)
    scale = int(scale) if scale > 1 else scale
    size = [max(1, round(side * scale)) for side in (width, height)]
    pixels = to_pil((255 * image).round().astype(np.uint8)).convert("RGB").resize(size, Image.Resampling.BOX)
    return np.asarray(pixels, np.float32) / 255


def draw_cells(image: np.ndarray, anomaly_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image [height, width, 1 or 3] in 0..1, and its `overlay`, both as `resize_to_cell` returns them."""
    cell = resize_to_cell(image)
    return cell, overlay(cell, undo_resize_with_pad(anomaly_map, image.shape[1::-1], cell.shape[1::-1]))


def add_legend(figure: Figure) -> None:
    """Adds the colors of anomaly maps and their values below the axes of a figure."""
    colors = ScalarMappable(Normalize(0, MAX_VALUE), ERROR_COLORMAP)
    bar = figure.colorbar(
        colors, ax=figure.axes, location="bottom", shrink=0.4, aspect=40, pad=0.01, extend="max", ticks=[0, 0.5, 1, 2]
    )
    bar.ax.axvline(1, color=OUTLINE_COLOR, linewidth=2)
    bar.set_label(f"anomaly map; transparent below {MIN_VALUE:g}, outlined where it exceeds 1", fontsize=8)
    bar.ax.tick_params(labelsize=8)
