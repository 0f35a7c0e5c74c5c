"""Charts of numbers as matplotlib figures."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cae.report.figures import MAX_LABEL_CHARACTERS, label
from cae.report.interactive import InteractiveFigure, line_plot, make_thumbnails, scatter_plot

BLUE, RED = "#3465a4", "#b3401f"
LINE_COLORS = (BLUE, RED, "#4e9a06", "#75507b", "#c4a000", "#2e9599", "#777777")
CLASS_COLORS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf",
)  # fmt: skip

MAX_LEGEND_ENTRIES = 30

BESIDE_AXES = {"frameon": False, "fontsize": 8, "loc": "center left", "bbox_to_anchor": (1, 0.5)}
"""Where the legend of many lines stands."""

Points = Sequence[tuple[float, float]] | np.ndarray
"""(x, y) points, `[num_points, 2]`."""


def line_chart(
    lines: Mapping[str, Points], x_label: str, y_label: str, log: bool = False, log_x: bool = False
) -> Figure:
    """Draws lines by name.

    Args:
      lines: Points by the name of the line.
      x_label: Title of the x axis.
      y_label: Title of the y axis.
      log: Whether the y axis is logarithmic.
      log_x: Whether the x axis is logarithmic, in powers of 2.
    """
    many = len(lines) > 4
    figure, ((axis,),) = _make_axes((6.4, 4.2 if many else 3.4))
    for points, (style, color) in zip(lines.values(), _line_styles()):
        axis.plot(*zip(*points), style, color=color, linewidth=1.6, marker="." if len(points) < 20 else "")
    axis.set(xlabel=label(x_label), ylabel=label(y_label), yscale="log" if log else "linear")
    if log_x:
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter("{x:g}")
    _add_legend(axis, lines, **BESIDE_AXES if many else {"frameon": False})
    figure.plots = [line_plot(lines, _line_styles(), x_label, y_label, log, log_x)]
    return figure


def bar_chart(values: Mapping[str, float], y_label: str) -> Figure:
    """Draws a bar for each value by name, and their mean as a line."""
    figure, ((axis,),) = _make_axes((6.4, 2.8))
    axis.bar(range(len(values)), list(values.values()), color=BLUE)
    axis.axhline(np.mean(list(values.values())), color=RED, linewidth=1, label="mean of the classes")
    axis.set_ylabel(label(y_label))
    names = [label(name, MAX_LABEL_CHARACTERS) for name in values]
    axis.set_xticks(range(len(values)), names, rotation=0 if max(map(len, names)) < 4 else 60)
    axis.legend(frameon=False)
    return figure


def rate_curves(panels: Mapping[tuple[str, str], Mapping[str, np.ndarray]]) -> Figure:
    """Draws curves of rates, such as ROC curves, in one square per pair of axes with a common legend.

    Args:
      panels: Points `[num_points, 2]` in 0..1 by name, for each pair of titles of the x and the y axis.
    """
    figure, (axes,) = _make_axes((4.0 * len(panels) + 1.8, 4.0), num_columns=len(panels))
    for axis, ((x_label, y_label), lines) in zip(axes, panels.items()):
        for points, (style, color) in zip(lines.values(), _line_styles()):
            axis.plot(*points.T, style, color=color, linewidth=1.4)
        axis.set(xlabel=label(x_label), ylabel=label(y_label), xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), box_aspect=1)
    _add_legend(axes[-1], lines, **BESIDE_AXES)
    return figure


def score_histograms(
    inliers: np.ndarray, outliers: Mapping[str, np.ndarray], limits: Sequence[float], x_label: str
) -> Figure:
    """Draws the scores of inliers beside those of each set of outliers, and the finite limits as lines.

    The axis is logarithmic, since outliers lie far away, and the same for all sets.

    Args:
      inliers: Scores `[n]` above 0.
      outliers: Scores of each set by name.
      limits: Thresholds, which may be infinite.
      x_label: Title of the x axis.
    """
    num_columns = max(min(3, len(outliers)), 1)
    num_rows = max(-(-len(outliers) // num_columns), 1)
    figure, axes = _make_axes((3.1 * num_columns, 1.7 * num_rows + 0.5), num_rows, num_columns, sharex=True)
    axes = axes.flat
    lowest = max(float(np.quantile(inliers, 0.001)), 1e-9)
    highest = max(float(np.max(scores)) for scores in (inliers, *outliers.values()))
    bins = np.geomspace(lowest, max(highest, 1.01 * lowest), 60)
    for axis, (name, scores) in zip(axes, outliers.items()):
        for values, color in ((inliers, BLUE), (scores, RED)):
            weights = np.full(len(values), 1 / len(values))
            axis.hist(values.clip(bins[0], bins[-1]), bins, weights=weights, color=color, alpha=0.6)
        for limit in filter(np.isfinite, limits):
            axis.axvline(max(limit, bins[0]), color="black", linewidth=1)
        axis.set_title(label(name, 34), fontsize=8)
        axis.set(xscale="log", yticks=[])
    for axis in axes[len(outliers) :]:
        axis.axis("off")
    for axis in axes[max(len(outliers) - num_columns, 0) : len(outliers)]:
        axis.tick_params(labelbottom=True)
    figure.supxlabel(label(x_label), fontsize=9)
    return figure


def scatter_plots(
    embeddings: Mapping[str, np.ndarray],
    labels: Sequence[str] = (),
    indices: Sequence[int] | None = None,
    images: np.ndarray | None = None,
) -> Figure:
    """Draws the same points in several two-dimensional embeddings, side by side, colored by label.

    The axes have no unit: only which points are neighbors is to be read.

    Args:
      embeddings: Points `[n, 2]` by title.
      labels: A label for each point, or none.
      indices: The index of each point to show on hover; None for 0 to n - 1.
      images: The image of each point to show on hover, `[n, height, width, 1 or 3]`; None for no images.
    """
    names = np.asarray(labels or [""] * len(next(iter(embeddings.values()))), dtype=object)
    # Where there are more classes than colors, the next ones have another marker.
    styles = dict(zip(sorted(set(names)), itertools.product("osv^Dx", CLASS_COLORS)))
    figure = InteractiveFigure(figsize=(4.2 * len(embeddings) + 1.2, 4.3), layout="constrained")
    axes = figure.subplots(1, len(embeddings), squeeze=False, subplot_kw={"xticks": [], "yticks": []})[0]
    for axis, (title, points) in zip(axes, embeddings.items()):
        for name, (marker, color) in styles.items():
            x, y = points[names == name].T
            axis.scatter(x, y, s=7, marker=marker, color=color, linewidths=0.5, label=label(name, 20))
        axis.set_title(label(title), fontsize=9)
        axis.set(box_aspect=1, xticks=[], yticks=[])
        figure.plots.append(scatter_plot(title, points, names, styles))
    figure.thumbnails = {"indices": [*map(int, range(len(names)) if indices is None else indices)]}
    figure.thumbnails |= {} if images is None else make_thumbnails(images)
    if labels and len(styles) <= MAX_LEGEND_ENTRIES:
        handles = axes[-1].collections
        names = [handle.get_label() for handle in handles]
        figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=8, markerscale=2)
    return figure


def variance_spectrum(eigenvalues: np.ndarray, stds: np.ndarray) -> Figure:
    """Draws the variances of principal components and of single dimensions in descending order.

    Args:
      eigenvalues: Of the covariance, `[num_components]`.
      stds: The standard deviation of each dimension, `[num_dimensions]`.
    """
    # A logarithmic axis has no zero.
    floor = 1e-8 * max(float(np.max(eigenvalues)), 1e-12)
    variances = {"principal components": eigenvalues, "single dimensions": np.square(stds)}
    lines = {name: [*enumerate(np.sort(values.clip(floor))[::-1], 1)] for name, values in variances.items()}
    figure = line_chart(lines, "rank, by descending variance", "variance", log=True)
    figure.axes[0].xaxis.get_major_locator().set_params(integer=True)
    return figure


def _add_legend(axis: Axes, names: Iterable[str], **options: Any) -> None:
    # Of lines that have a label matplotlib leaves out those whose label starts with an underscore.
    axis.legend(axis.lines, [label(name, MAX_LABEL_CHARACTERS) for name in names], **options)


def _line_styles() -> Iterator[tuple[str, str]]:
    return itertools.product(("-", "--", ":"), LINE_COLORS)


def _make_axes(
    size: tuple[float, float], num_rows: int = 1, num_columns: int = 1, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Returns a figure of a size in inches and its axes with a grid, `[num_rows, num_columns]`."""
    figure = InteractiveFigure(figsize=size, layout="constrained")
    axes = figure.subplots(num_rows, num_columns, squeeze=False, **options)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes
