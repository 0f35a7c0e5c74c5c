"""Grids of images as matplotlib figures, and figures and animations as the content of image files."""

import io
import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from cae.data.arrays import to_pil
from cae.io_utils import printable

LATENT_COLORMAP = "RdBu_r"
ERROR_COLORMAP = "magma"

FRAME_GRAY = 0.35
"""Of the lines between images, which may be black, white or of a medium gray themselves."""

DPI, MAX_CELL_INCHES = 110, 1.2
"""Pixels of a figure per inch, and the width up to which images are drawn no smaller than they are."""

MAX_LABEL_CHARACTERS, LABEL_INCHES = 28, 0.07
"""Characters of a line, at most, and the width of one at the size of 8 points."""

GRAYSCALE = {"cmap": "gray", "vmin": 0, "vmax": 1}
"""Options of images, of which those in color need none."""

ROW_GAP = 0.08
"""Between rows of examples, as a fraction of their height."""

_PNGS: weakref.WeakKeyDictionary[Figure, bytes] = weakref.WeakKeyDictionary()
"""The PNG files of figures that still exist."""


def label(text: object, max_characters: int | None = None) -> str:
    """Returns a text that matplotlib draws as it is: all that figures say of classes, files and sets goes through it.

    Args:
      text: Lines of text. A dollar sign does not start a formula, and what is not printable is escaped.
      max_characters: Of longer lines only the end is drawn; None for any length.
    """
    lines = [printable(line) for line in str(text).split("\n")]
    if max_characters:
        lines = [line if len(line) <= max_characters else "..." + line[3 - max_characters :] for line in lines]
    return "\n".join(lines).replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """Returns the content of a PNG file of a figure, which is rendered once for the report and for TensorBoard."""
    if figure not in _PNGS:
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, bbox_inches="tight")
        _PNGS[figure] = file.getvalue()
    return _PNGS[figure]


def gif(images: np.ndarray, frame_seconds: float = 0.08, min_side: int = 224) -> bytes:
    """Returns the content of a GIF file that shows images in turn, for ever.

    Args:
      images: Frames, `[num_frames, height, width, 1 or 3]` in 0..1.
      frame_seconds: How long each frame is shown.
      min_side: Frames are enlarged by a whole number, to about this length of the longer side.
    """
    factor = max(1, round(min_side / max(images.shape[1:3])))
    pixels = np.round(images.clip(0, 1) * 255).astype(np.uint8).repeat(factor, axis=1).repeat(factor, axis=2)
    first, *others = [to_pil(frame) for frame in pixels]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others, duration=round(1000 * frame_seconds), loop=0)
    return file.getvalue()


def example_rows(columns: Mapping[str, np.ndarray], latents: np.ndarray | None, labels: Sequence[str] = ()) -> Figure:
    """Draws a row per example: its images, the absolute error of the last against the first, its latent vector.

    All error maps share one color scale, all latent vectors another.

    Args:
      columns: Images `[num_examples, height, width, channels]` in 0..1 by title, the target first, the output last.
      latents: Latent vectors `[num_examples, latent_dim]`, or None for a model without a latent space.
      labels: A label for each row, or none.
    """
    images = list(columns.values())
    errors = np.abs(images[-1] - images[0]).mean(axis=-1)
    titles = [*columns, "error"] + ["latent vector"] * (latents is not None)
    texts = [label(each, MAX_LABEL_CHARACTERS) for each in labels]
    height, width = errors.shape[1:]
    row_inches, label_inches = 1.05 * float(np.clip(height / width, 0.5, 2)), _width_inches(texts)
    is_wide = label_inches > row_inches
    # An axis for each image would take several times as long.
    size, margin = (1.1, row_inches * len(errors)), (0.6 + label_inches * is_wide, 0.75)
    figure, (axes,) = _image_axes(1, len(titles), size, margin)
    # A single outlying pixel or dimension must not darken all the others.
    max_error = max(float(np.quantile(errors, 0.999)), 1e-3)
    for axis, column in zip(axes, images):
        _show_column(axis, [_to_displayed(image) for image in column], width / height, **GRAYSCALE)
    scale = {"cmap": ERROR_COLORMAP, "vmin": 0, "vmax": max_error}
    maps = [_show_column(axes[len(images)], errors, width / height, **scale)]
    if latents is not None:
        limit = max(float(np.quantile(np.abs(latents), 0.99)), 1e-3)
        scale = {"cmap": LATENT_COLORMAP, "vmin": -limit, "vmax": limit}
        maps.append(_show_column(axes[-1], [*map(latent_block, latents)], width / height, **scale))
    centers = (1 + ROW_GAP) * np.arange(len(texts)) + 0.5
    axes[0].set_yticks(centers, texts, rotation=0 if is_wide else 90, va="center", fontsize=8)
    axes[0].tick_params(length=0)
    for axis, title in zip(axes, titles):
        axis.set_title(label(title), fontsize=9)
    for axis, image in zip(axes[len(images) :], maps):
        bar = figure.colorbar(image, ax=axis, location="bottom", shrink=0.9, aspect=12, pad=0.02)
        bar.ax.tick_params(labelsize=7)
    return figure


def image_table(
    rows: Mapping[str, Sequence[np.ndarray | None]] | Sequence[np.ndarray],
    columns: Sequence[str] = (),
    cell_inches: float = 0.55,
) -> Figure:
    """Draws a table of images of one shape as one picture, with gray lines in between.

    Args:
      rows: The images of each row, `[height, width, 1 or 3]` in 0..1 and as many in each; by label, or without labels.
        None leaves a cell empty.
      columns: Titles of the columns, or none; slanted where one is wider than an image.
      cell_inches: The width of an image, or more for one of more pixels.
    """
    labels, rows = ([*rows], [*rows.values()]) if isinstance(rows, Mapping) else ([], rows)
    height, width, channels = next(image for image in itertools.chain(*rows) if image is not None).shape
    empty = np.ones((height + 2, width + 2, channels))
    cell_inches = max(cell_inches, min((width + 2) / DPI, MAX_CELL_INCHES))

    def frame(image: np.ndarray | None) -> np.ndarray:
        return empty if image is None else np.pad(image, ((1, 1), (1, 1), (0, 0)), constant_values=FRAME_GRAY)

    picture = np.concatenate([np.concatenate([frame(image) for image in row], axis=1) for row in rows])
    # Labels lie outside of the figure, which is enlarged to hold them when it is rendered.
    figure = Figure(figsize=(cell_inches * len(rows[0]), cell_inches * len(rows) * (height + 2) / (width + 2)))
    axis = figure.add_axes((0, 0, 1, 1))
    _show_image(axis, picture)
    axis.set_yticks((np.arange(len(labels)) + 0.5) * (height + 2), [*map(label, labels)])
    titles = [label(each, MAX_LABEL_CHARACTERS) for each in columns]
    is_wide = _width_inches(titles) > cell_inches
    slant = {"rotation": 60, "ha": "left", "rotation_mode": "anchor"} if is_wide else {}
    axis.set_xticks((np.arange(len(columns)) + 0.5) * (width + 2), titles, **slant)
    axis.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    axis.spines[:].set_visible(False)
    return figure


def contact_sheet(pairs: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """Draws pairs of images `[height, width, 1 or 3]` in 0..1, before and after denoising, each under its name."""
    captioned = [each for name, before, after in pairs for each in ((printable(name), before), ("denoised", after))]
    return _wrapped_grid(captioned, num_columns=2 * min(3, len(pairs)), size=(1.8, 2.05))


def captioned_grid(images: Sequence[tuple[str, str, np.ndarray]]) -> Figure:
    """Draws images `[height, width, 1 or 3]` in 0..1, each under a name and a caption of one line; wide ones wider."""
    captioned = [(f"{printable(name)}\n{caption}", image) for name, caption, image in images]
    height, width = images[0][2].shape[:2]
    num_columns, size, max_characters = (6, (1.6, 1.9), 20) if width < 1.5 * height else (5, (2.2, 1.4), 28)
    return _wrapped_grid(captioned, min(num_columns, len(images)), size, max_characters)


def _wrapped_grid(
    images: Sequence[tuple[str, np.ndarray]],
    num_columns: int,
    size: tuple[float, float],
    max_characters: int = MAX_LABEL_CHARACTERS,
) -> Figure:
    """Draws images of any sizes under their captions, row by row."""
    figure, axes = _image_axes(-(-len(images) // num_columns), num_columns, size, margin=(0, 0.2))
    for axis, (caption, image) in zip(axes.flat, images):
        _show_image(axis, image)
        axis.set_title(label(caption, max_characters), fontsize=7)
    for axis in axes.flat[len(images) :]:
        axis.axis("off")
    return figure


def _width_inches(texts: Sequence[str]) -> float:
    """Returns the width of the widest line of labels, about."""
    return LABEL_INCHES * max((len(line) for text in texts for line in text.split("\n")), default=0)


def _image_axes(
    num_rows: int, num_columns: int, size: tuple[float, float], margin: tuple[float, float]
) -> tuple[Figure, np.ndarray]:
    """Returns a figure and its axes without ticks, `[num_rows, num_columns]`, each of a size in inches."""
    figsize = (size[0] * num_columns + margin[0], size[1] * num_rows + margin[1])
    figure = Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(num_rows, num_columns, squeeze=False, subplot_kw={"xticks": [], "yticks": []})


def _show_image(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(_to_displayed(image), **GRAYSCALE)


def _to_displayed(image: np.ndarray) -> np.ndarray:
    image = image.clip(0, 1)  # Noise may have left the range, of which matplotlib warns.
    return image[..., 0] if image.shape[-1] == 1 else image


def _show_column(axis: Axes, maps: Sequence[np.ndarray], aspect: float, **options: Any) -> AxesImage:
    """Draws maps below each other, each framed, of height 1 and of a width; returns the last."""
    for row, each in enumerate(maps):
        top = row * (1 + ROW_GAP)
        image = axis.imshow(each, extent=(0, aspect, top + 1, top), **options)
        axis.add_patch(Rectangle((0, top), aspect, 1, fill=False, linewidth=0.8, clip_on=False))
    axis.set(xlim=(0, aspect), ylim=(top + 1, 0))
    axis.spines[:].set_visible(False)
    return image


def latent_block(latent: np.ndarray) -> np.ndarray:
    """Returns a vector as a block, row by row: a full one of up to 1.5 times the width of a square, or else a square.

    Args:
      latent: [latent_dim].

    Returns:
      [rows, columns], with NaN at places of a square that are left over.
    """
    square = int(np.ceil(np.sqrt(latent.size)))
    width = next((width for width in range(square, int(1.5 * square) + 1) if latent.size % width == 0), square)
    block = np.full(width * -(-latent.size // width), np.nan)
    block[: latent.size] = latent
    return block.reshape(-1, width)
