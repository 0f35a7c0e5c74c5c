"""Writes results.json, a CSV or PNG file for each table and figure, and one HTML page that contains them all."""

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from cae.io_utils import atomic_write, printable, write_csv
from cae.report.figures import gif, png
from cae.report.projector import Projection

Row = dict[str, Any]

FORMATS = {
    "mse": ".5f", "psnr": ".2f", "ssim": ".3f", "psnr_gain_db": ".2f", "classifier_accuracy": ".3f",
    "seconds_per_1000_images": ".3f", "nn_distance_ratio": ".3f", "endpoint_mse": ".5f", "confidence": ".3f",
    "max_step_ratio": ".2f", "auroc": ".4f", "aupr": ".4f", "fpr_at_95_tpr": ".4f", "tpr": ".4f",
    "frac_mse_below_inlier_median": ".4f",
}  # fmt: skip
"""Formats of columns on the page; others have four significant digits."""


@dataclasses.dataclass(frozen=True)
class Section:
    """The results of a task, or another part of the report.

    Attributes:
      name: Of the task, under which `results` stand in results.json.
      title: The heading on the page.
      headline: The most important result in one line.
      results: What results.json contains; numbers at the top level become TensorBoard scalars.
      figures: Captions and figures by file name.
      tables: Rows by file name, written as CSV files.
      visible_tables: Captions of those tables that the page shows.
      animations: Captions and frames `[num_frames, height, width, channels]` in 0..1, by file name.
      projection: Latent vectors for TensorBoard's projector.
      scalars: Further TensorBoard scalars by tag.
    """

    name: str
    title: str
    headline: str = ""
    results: dict[str, Any] = dataclasses.field(default_factory=dict)
    figures: dict[str, tuple[str, Figure]] = dataclasses.field(default_factory=dict)
    tables: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    visible_tables: dict[str, str] = dataclasses.field(default_factory=dict)
    animations: dict[str, tuple[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    projection: Projection | None = None
    scalars: dict[str, float] = dataclasses.field(default_factory=dict)


def write_report(
    folder: Path, title: str, warning: str | None, run_info: Mapping[str, str], sections: Sequence[Section]
) -> Path:
    """Writes a report.

    Args:
      folder: Where to write, which need not exist.
      title: The page's title.
      warning: A warning for the title and the top of the page, or None.
      run_info: What the page says of the run, by name.
      sections: The parts of the report; the first figure of the first one leads the page.

    Returns:
      The page, which needs no other file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = {}
    for section in sections:
        files = {f"{name}.png": png(figure) for name, (_, figure) in section.figures.items()}
        files |= {f"{name}.gif": gif(frames) for name, (_, frames) in section.animations.items()}
        for name, content in files.items():
            write_bytes(folder / name, content)
            images[name] = f"data:image/{name[-3:]};base64,{base64.b64encode(content).decode()}"
        for name, rows in section.tables.items():
            if rows:
                write_csv(folder / f"{name}.csv", rows)
    results = {section.name: section.results for section in sections if section.results}
    write_bytes(folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("cae.report", "."), autoescape=True, trim_blocks=True, finalize=_to_text
    )
    templates.filters["format_value"] = _format_value
    page = templates.get_template("page.html").render(
        title=title, warning=warning, run_info=run_info, sections=sections, images=images
    )
    write_bytes(folder / "index.html", page.encode())
    return folder / "index.html"


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with atomic_write(path, "wb") as file:
        file.write(content)


def _to_text(value: Any) -> Any:
    """Returns a text of one line where a value is a text that may contain names; markup as it is."""
    return printable(value) if type(value) is str else value


def _format_value(value: Any, column: str) -> str:
    """Returns a number as precise as its column usually is, an empty text for None, any other value as it is."""
    if value is None:
        return ""
    return format(value, FORMATS.get(column, ".4g")) if isinstance(value, float) else str(value)
