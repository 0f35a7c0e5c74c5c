"""Charts with hover for the report's page: figures as plotly.js takes them, and plotly.js itself."""

import base64
import functools
import gzip
import html
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cae.io_utils import printable
from cae.report.embedding import data_url
from cae.report.projector import make_sprite

Plot = dict[str, Any]
"""A figure in the JSON format of plotly.js: `data` and `layout`, without colors of text, axes and background."""

MAX_THUMBNAIL_SIDE, MAX_SPRITE_BYTES = 32, 2**20
"""Pixels along a side of a thumbnail, and bytes of all of them, at most."""

_WEBP_QUALITIES = (80, 50, 20)

_DASHES = {"-": "solid", "--": "dash", ":": "dot"}
_SYMBOLS = {"o": "circle", "s": "square", "v": "triangle-down", "^": "triangle-up", "D": "diamond", "x": "x"}
"""Of plotly.js, by the names of matplotlib."""

_MAX_COMPARED_LINES = 6
"""Lines whose values are shown together; of more, that of the nearest point alone."""

_MAX_INTEGER_TICKS = 12


class InteractiveFigure(Figure):
    """A figure that a page with JavaScript shows as charts with hover.

    Attributes:
      plots: The charts, side by side; none for a page that shows the figure itself.
      thumbnails: For charts whose points are images: `indices` of the images, and where there are thumbnails, `url`,
        `columns`, `width` and `height` of a sprite. Each point has its place among them as `customdata`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.plots: list[Plot] = []
        self.thumbnails: dict[str, Any] = {}


def line_plot(
    lines: Mapping[str, np.ndarray], styles: Iterable[tuple[str, str]], x_label: str, y_label: str,
    log: bool = False, log_x: bool = False,
) -> Plot:  # fmt: skip
    """Returns lines by name.

    Args:
      lines: Points `[num_points, 2]` by the name of the line.
      styles: matplotlib's line style and the color of each line.
      x_label: Title of the x axis.
      y_label: Title of the y axis.
      log: Whether the y axis is logarithmic.
      log_x: Whether the x axis is logarithmic, in powers of 2.
    """
    traces = []
    for (name, points), (style, color) in zip(lines.items(), styles):
        mode = "lines+markers" if len(points) < 20 else "lines"
        line = {"color": color, "dash": _DASHES[style], "width": 2}
        traces.append({"type": "scatter", "mode": mode, "name": _text(name), "line": line} | _coordinates(points))
    x_axis = {"title": {"text": _text(x_label)}, "hoverformat": ".4~g"}
    y_axis = {"title": {"text": _text(y_label)}, "hoverformat": ".4~g", "type": "log" if log else "linear"}
    x = np.concatenate([np.empty(0), *(np.asarray(points)[:, 0] for points in lines.values() if len(points))])
    if log_x:
        x_axis |= {"type": "log", "dtick": math.log10(2), "tickformat": "~g"}
    elif len(x) and (x % 1 == 0).all() and np.ptp(x) <= _MAX_INTEGER_TICKS:
        x_axis["dtick"] = 1
    if log:
        y_axis |= {"dtick": "D2", "tickformat": "~g"}
    # Where values are shown together, those nearest to the pointer, however far it is.
    hover = (
        {"hovermode": "closest"}
        if len(lines) > _MAX_COMPARED_LINES
        else {"hovermode": "x unified", "hoverdistance": -1}
    )
    return {"data": traces, "layout": {"xaxis": x_axis, "yaxis": y_axis} | hover}


def scatter_plot(title: str, points: np.ndarray, labels: np.ndarray, styles: Mapping[str, tuple[str, str]]) -> Plot:
    """Returns points of images, colored by label; what is shown on hover is up to the page.

    Args:
      title: Of the chart.
      points: `[n, 2]`.
      labels: The label of each point, `[n]`.
      styles: matplotlib's marker and the color of each label.
    """
    traces = []
    for name, (marker, color) in styles.items():
        places = np.flatnonzero(labels == name)
        trace = {"type": "scatter", "mode": "markers", "name": _text(name), "meta": printable(name)}
        style = {"color": color, "symbol": _SYMBOLS[marker], "size": 6, "opacity": 0.85}
        traces.append(
            trace | {"hoverinfo": "none", "marker": style, "customdata": places.tolist()} | _coordinates(points[places])
        )
    axis = {"showticklabels": False, "showgrid": False, "zeroline": False, "mirror": True}
    layout = {"title": {"text": _text(title)}, "xaxis": axis, "yaxis": axis, "hovermode": "closest"}
    return {"data": traces, "layout": layout | {"showlegend": any(styles)}}


def make_thumbnails(images: np.ndarray) -> dict[str, Any]:
    """Returns small images as a sprite, in the format of `InteractiveFigure`; nothing where it would be too large.

    Args:
      images: `[n, height, width, 1 or 3]`, uint8 or floats in 0..1.
    """
    (width, height), grid = make_sprite(images)
    columns, rows = grid.width // width, -(-len(images) // (grid.width // width))
    grid = grid.crop((0, 0, grid.width, rows * height))
    scale = min(1.0, MAX_THUMBNAIL_SIDE / max(width, height))
    width, height = max(round(width * scale), 1), max(round(height * scale), 1)
    # A box filter does not mix neighboring images.
    grid = grid.resize((columns * width, rows * height), Image.Resampling.BOX)
    for quality in _WEBP_QUALITIES:
        file = io.BytesIO()
        grid.save(file, "WEBP", quality=quality)
        if file.tell() <= MAX_SPRITE_BYTES:
            url = data_url(file.getvalue())
            return {"url": url, "columns": columns, "width": width, "height": height}
    return {}


@functools.cache
def compressed_plotly_js() -> str:
    """Returns the text of plotly.js, compressed by gzip, in base64: 2 MB instead of 4.8 MB."""
    from plotly.offline import get_plotlyjs  # Slow to import, and many programs write no report.

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode()


def _coordinates(points: np.ndarray) -> dict[str, list[float | None]]:
    """Returns x and y with five significant digits; None, which is not drawn, for what is not finite."""
    return {
        axis: [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]
        for axis, values in zip("xy", np.asarray(points, dtype=np.float64).reshape(-1, 2).T)
    }


def _text(text: str) -> str:
    """Returns a text that plotly.js, which knows some HTML, draws as it is."""
    return html.escape(printable(text), quote=False)
