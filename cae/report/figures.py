"""Arrays to pictures; what a figure shows is decided by who calls."""

import io
import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

LATENT_COLOURS = "RdBu_r"
ERROR_COLOURS = "magma"
BLUE, RED = "#3465a4", "#b3401f"
LINE_COLOURS = (BLUE, RED, "#4e9a06", "#75507b", "#c4a000", "#2e9599", "#777777")
CLASS_COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip
MOST_IN_LEGEND = 30


_PNGS: weakref.WeakKeyDictionary[Figure, bytes] = weakref.WeakKeyDictionary()
"""What figures were drawn as, for as long as they are there."""


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG file's content; it is drawn once, for the report and for TensorBoard."""
    if figure not in _PNGS:
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
        _PNGS[figure] = file.getvalue()
    return _PNGS[figure]


def gif(images: np.ndarray, seconds: float = 0.08, side: int = 224) -> bytes:
    """Returns images [n, height, width, 1 or 3] in 0..1 as a GIF file that shows them in turn for ever, enlarged."""
    factor = max(1, round(side / max(images.shape[1:3])))
    values = np.round(images.clip(0, 1) * 255).astype(np.uint8).repeat(factor, axis=1).repeat(factor, axis=2)
    frames = [Image.fromarray(each.squeeze(-1) if each.shape[-1] == 1 else each) for each in values]
    file = io.BytesIO()
    frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=round(1000 * seconds), loop=0)
    return file.getvalue()


def display(columns: dict[str, np.ndarray], latents: np.ndarray | None, captions: Sequence[str] = ()) -> Figure:
    """Draws a line an example: its images, the error of the last against the first, its latent vector, side by side.

    columns: images [n, height, width, channels] in 0..1 by title, the target first and the output last; latents:
    [n, latent_dim], or nothing for a model that has none; captions: a text a line. One colour scale serves all error
    maps, another all latent vectors.
    """
    *_, output = columns.values()
    target = next(iter(columns.values()))
    error = np.abs(output - target).mean(axis=-1)
    titles = [*columns, "error"] + ["latent vector"] * (latents is not None)
    count = len(output)
    figure = Figure(figsize=(1.1 * len(titles) + 0.6, 1.05 * count + 0.75), layout="constrained")
    axes = figure.subplots(count, len(titles), squeeze=False)
    # One outlying pixel or number would darken all the others.
    error_limit = max(float(np.quantile(error, 0.999)), 1e-3)
    latent_limit = None if latents is None else max(float(np.quantile(np.abs(latents), 0.99)), 1e-3)
    maps = {}
    for row, line in enumerate(axes):
        for axis, images in zip(line, columns.values()):
            _show_image(axis, images[row])
        at = len(columns)
        maps[at] = line[at].imshow(error[row], cmap=ERROR_COLOURS, vmin=0, vmax=error_limit)
        if latents is not None:
            maps[at + 1] = _show_latent(line[at + 1], latents[row], latent_limit)
        if captions:
            line[0].set_ylabel(captions[row], fontsize=8)
    for axis, title in zip(axes[0], titles):
        axis.set_title(title, fontsize=9)
    _no_ticks(axes)
    for column, mappable in maps.items():
        bar = figure.colorbar(mappable, ax=axes[:, column], location="bottom", shrink=0.9, aspect=12, pad=0.02)
        bar.ax.tick_params(labelsize=7)
    return figure


def gallery(pictures: dict[str, dict[str, np.ndarray]], columns: Sequence[str]) -> Figure:
    """Draws images [height, width, channels] in 0..1 by line and column; a place that has none stays empty."""
    figure = Figure(figsize=(0.95 * len(columns) + 1.6, 0.95 * len(pictures) + 0.7), layout="constrained")
    axes = figure.subplots(len(pictures), len(columns), squeeze=False)
    for line, (name, images) in zip(axes, pictures.items()):
        for axis, column in zip(line, columns):
            if column in images:
                _show_image(axis, images[column])
            else:
                axis.axis("off")
        line[0].set_ylabel(
            name.replace("+", "+\n").replace("/", "/\n"), fontsize=8, rotation=0, ha="right", va="center"
        )
    for axis, title in zip(axes[0], columns):
        axis.set_title("\n".join(title.split()), fontsize=8)
    _no_ticks(axes)
    return figure


def mosaic(lines: Mapping[Any, np.ndarray], columns: Sequence[str] = ()) -> Figure:
    """Draws lines of images, as many [n, height, width, 1 or 3] in 0..1 in each, with a grey line between them.

    Names of lines are shown where they are texts, and columns where they have titles.
    """
    framed = [np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.5) for images in lines.values()]
    whole = np.concatenate([np.concatenate(list(images), axis=1) for images in framed])
    count, (height, width) = len(framed[0]), framed[0].shape[1:3]
    named = any(isinstance(name, str) for name in lines)
    inches = 0.55
    figure = Figure(
        figsize=(inches * count + 2.0 * named + 0.1, inches * height / width * len(lines) + 0.3 * bool(columns) + 0.1),
        layout="constrained",
    )
    axis = figure.subplots()
    _show_image(axis, whole)
    axis.set_yticks([(n + 0.5) * height for n in range(len(lines))], [str(name) for name in lines] if named else [])
    axis.set_xticks([(n + 0.5) * width for n in range(count)][: len(columns)], columns)
    axis.tick_params(length=0, labelsize=8, top=True, labeltop=True, bottom=False, labelbottom=False)
    if not named:
        axis.set_yticks([])
    axis.spines[:].set_visible(False)
    return figure


def sheet(pairs: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Figure:
    """Draws a contact sheet: each name with two images [height, width, 1 or 3] in 0..1, before and after."""
    columns = min(3, len(pairs))
    lines = -(-len(pairs) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.05 * lines + 0.2), layout="constrained")
    axes = figure.subplots(lines, 2 * columns, squeeze=False)
    for axis, image in itertools.zip_longest(axes.flat, (image for _, *images in pairs for image in images)):
        if image is None:
            axis.axis("off")
        else:
            _show_image(axis, image)
    for axis, (name, *_) in zip(axes.flat[::2], pairs):
        # A dollar in a file's name is no formula.
        axis.set_title(_fitting(name, 28), fontsize=8, loc="left", parse_math=False)
    for axis in axes.flat[1 : 2 * len(pairs) : 2]:
        axis.set_title("cleaned", fontsize=8, loc="left")
    _no_ticks(axes)
    return figure


def captioned(pictures: Sequence[tuple[str, str, np.ndarray]]) -> Figure:
    """Draws a contact sheet of images [height, width, 1 or 3] in 0..1, each with a name and a line about it."""
    columns = min(6, len(pictures))
    lines = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.6 * columns, 1.9 * lines + 0.2), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False)
    for axis, (name, line, image) in zip(axes.flat, pictures):
        _show_image(axis, image)
        axis.set_title(f"{_fitting(name, 20)}\n{line}", fontsize=7, parse_math=False)
    for axis in axes.flat[len(pictures) :]:
        axis.axis("off")
    _no_ticks(axes)
    return figure


def _fitting(name: str, most: int) -> str:
    """Returns a file's name in at most so many letters, its end where it is longer."""
    # File names may hold bytes that are no text.
    text = name.encode(errors="backslashreplace").decode()
    return text if len(text) <= most else "..." + text[3 - most :]


def _no_ticks(axes: np.ndarray) -> None:
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])


def _show_image(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)


def _show_latent(axis: Axes, latent: np.ndarray, limit: float) -> AxesImage:
    """Shows a vector as a block, read line by line: a full one of up to twice its height, or else about a square."""
    square = int(np.ceil(np.sqrt(latent.size)))
    width = next((w for w in range(square, int(1.5 * square) + 1) if latent.size % w == 0), square)
    block = np.full(width * -(-latent.size // width), np.nan)
    block[: latent.size] = latent
    axis.set_box_aspect(1)  # As tall as the images beside it.
    return axis.imshow(block.reshape(-1, width), cmap=LATENT_COLOURS, vmin=-limit, vmax=limit, aspect="auto")


def curves(
    lines: dict[str, Sequence[tuple[float, float]]], x_label: str, y_label: str, log: bool = False, log_x: bool = False
) -> Figure:
    """Draws (x, y) points as lines, by name; `log` makes the y axis logarithmic, `log_x` the other, in powers of 2."""
    many = len(lines) > 4
    figure = Figure(figsize=(6.4, 4.2 if many else 3.4), layout="constrained")
    axis = figure.subplots()
    for (name, points), style in zip(lines.items(), itertools.product(("-", "--", ":"), LINE_COLOURS)):
        marker = "." if len(points) < 20 else None
        axis.plot(*zip(*points), style[0], label=name, color=style[1], linewidth=1.6, marker=marker)
    axis.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
    if log_x:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
    _tidy(axis)
    axis.legend(frameon=False, **({"fontsize": 8, "loc": "center left", "bbox_to_anchor": (1, 0.5)} if many else {}))
    return figure


def bars(values: dict[str, float], y_label: str) -> Figure:
    """Draws a bar for each value, by name, and their mean as a line."""
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.bar(range(len(values)), list(values.values()), color=BLUE)
    axis.axhline(np.mean(list(values.values())), color=RED, linewidth=1, label="mean of the classes")
    axis.set_ylabel(y_label)
    axis.set_xticks(range(len(values)), list(values), rotation=0 if max(map(len, values)) < 4 else 60)
    _tidy(axis)
    axis.legend(frameon=False)
    return figure


def panels(curves_by_axes: dict[tuple[str, str], dict[str, np.ndarray]]) -> Figure:
    """Draws curves [n, 2] of rates by name, a square for each pair of axes, with one legend."""
    figure = Figure(figsize=(4.0 * len(curves_by_axes) + 1.8, 4.0), layout="constrained")
    for axis, ((x_label, y_label), lines) in zip(
        figure.subplots(1, len(curves_by_axes), squeeze=False)[0], curves_by_axes.items()
    ):
        for (name, points), style in zip(lines.items(), itertools.product(("-", "--", ":"), LINE_COLOURS)):
            axis.plot(points[:, 0], points[:, 1], style[0], label=name, color=style[1], linewidth=1.4)
        axis.set(xlabel=x_label, ylabel=y_label, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), box_aspect=1)
        _tidy(axis)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def histograms(normal: np.ndarray, others: dict[str, np.ndarray], limits: Sequence[float], x_label: str) -> Figure:
    """Draws the values of `normal`, [n] above 0, beside those of each other set, with finite limits as lines.

    The axis is logarithmic: outliers lie far away. All sets share it.
    """
    count = max(len(others), 1)
    columns = min(3, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(3.1 * columns, 1.7 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True)
    least = max(float(np.quantile(normal, 0.001)), 1e-9)
    most = max(float(np.max(values)) for values in (normal, *others.values()))
    bins = np.geomspace(least, max(most, 1.01 * least), 60)
    for axis, (name, values) in zip(axes.flat, others.items()):
        for which, colour in ((normal, BLUE), (values, RED)):
            axis.hist(
                np.clip(which, bins[0], bins[-1]),
                bins,
                weights=np.full(len(which), 1 / len(which)),
                color=colour,
                alpha=0.6,
            )
        for limit in limits:
            if np.isfinite(limit):
                axis.axvline(max(limit, bins[0]), color="black", linewidth=1)
        axis.set_title(_fitting(name, 34), fontsize=8, parse_math=False)
        axis.set(xscale="log", yticks=[])
        _tidy(axis)
    for axis in axes.flat[len(others) :]:
        axis.axis("off")
    for axis in axes.flat[max(len(others) - columns, 0) : len(others)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel(x_label, fontsize=9)
    return figure


def scatter(maps: Mapping[str, np.ndarray], labels: Sequence[str] = ()) -> Figure:
    """Draws points [n, 2], the same ones on each map, side by side, a colour for each label.

    labels: n, or none. The axes have no unit: only who is near whom is to be seen.
    """
    names = np.asarray(labels if len(labels) else [""] * len(next(iter(maps.values()))), dtype=object)
    # Colours go round again where there are more classes, and are then another shape's.
    styles = dict(zip(dict.fromkeys(sorted(names)), itertools.product("osv^Dx", CLASS_COLOURS)))
    figure = Figure(figsize=(4.2 * len(maps) + 1.2, 4.3), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)
    for axis, (title, points) in zip(axes[0], maps.items()):
        for name, (shape, colour) in styles.items():
            x, y = points[names == name].T
            axis.scatter(x, y, s=7, marker=shape, color=colour, linewidths=0.5, label=_fitting(name, 20))
        axis.set_title(title, fontsize=9)
        axis.set_box_aspect(1)
    _no_ticks(axes)
    if len(labels) and len(styles) <= MOST_IN_LEGEND:
        handles = axes[0, -1].get_legend_handles_labels()
        figure.legend(*handles, loc="outside right center", frameon=False, fontsize=8, markerscale=2)
    return figure


def spectrum(eigenvalues: np.ndarray, deviations: np.ndarray) -> Figure:
    """Draws variances on a logarithmic axis, from the largest one on: of principal components and of single numbers.

    eigenvalues: [n], of the covariance; deviations: [n], the standard deviation of each number.
    """
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axis = figure.subplots()
    most = max(float(np.max(eigenvalues)), 1e-12)
    lines = {"principal components": (eigenvalues, BLUE), "single numbers": (np.square(deviations), RED)}
    for name, (values, colour) in lines.items():
        # What has no variance at all would have no place on the axis.
        drawn = np.sort(np.maximum(values, 1e-8 * most))[::-1]
        axis.plot(np.arange(1, len(drawn) + 1), drawn, ".-", color=colour, linewidth=1.2, label=name)
    axis.set(xlabel="number, from the largest variance on", ylabel="variance", yscale="log")
    axis.xaxis.get_major_locator().set_params(integer=True)
    _tidy(axis)
    axis.legend(frameon=False)
    return figure


def _tidy(axis: Axes) -> None:
    axis.grid(alpha=0.3)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
