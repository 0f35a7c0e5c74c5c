"""Results to files: results.json, a CSV or a PNG for each table and figure, and one HTML page that holds them all."""

import base64
import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.figure import Figure

from cae.report.figures import gif, png
from cae.report.projector import Projection

Row = dict[str, Any]

DIGITS = {
    "mse": ".5f", "psnr": ".2f", "ssim": ".3f", "ahead_db": ".2f", "accuracy": ".3f", "seconds_per_1000": ".3f",
    "distance_ratio": ".3f", "endpoint_mse": ".5f", "confidence": ".3f", "smoothness": ".2f",
    "auroc": ".4f", "aupr": ".4f", "fpr95": ".4f", "detection_rate": ".4f", "reconstructed_better": ".4f",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Section:
    """What a task found out, or another part of the page.

    name: the task's, under which `results` stand in results.json; headline: the one line to remember; figures: with
    their captions, by file name; tables: rows by file name, for the CSV files; shown: captions of those that the page
    shows; animations: images [n, height, width, channels] in 0..1 to be seen one after the other, with their captions;
    projection: latent vectors for TensorBoard's projector; scalars: numbers for TensorBoard by tag, beside those at the
    top of results that have names.
    """

    name: str
    title: str
    headline: str = ""
    results: Any = None
    figures: dict[str, tuple[str, Figure]] = dataclasses.field(default_factory=dict)
    tables: dict[str, list[Row]] = dataclasses.field(default_factory=dict)
    shown: dict[str, str] = dataclasses.field(default_factory=dict)
    animations: dict[str, tuple[str, np.ndarray]] = dataclasses.field(default_factory=dict)
    projection: Projection | None = None
    scalars: dict[str, float] = dataclasses.field(default_factory=dict)


def write(folder: Path, title: str, warning: str | None, facts: dict[str, Any], sections: Sequence[Section]) -> Path:
    """Writes a report into `folder` and returns its page, which needs no other file.

    The first section's first figure leads the page. facts: what the page says of the run, by name; a warning stands in
    the title.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, moving = {}, {}
    for section in sections:
        for name, (_, figure) in section.figures.items():
            pictures[name] = _embedded(folder / f"{name}.png", png(figure))
        for name, (_, images) in section.animations.items():
            moving[name] = _embedded(folder / f"{name}.gif", gif(images))
        for name, rows in section.tables.items():
            if rows:
                _write_csv(folder / f"{name}.csv", rows)
    results = {section.name: section.results for section in sections if section.results is not None}
    _replace(folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    templates = jinja2.Environment(loader=jinja2.PackageLoader("cae.report", "."), autoescape=True, trim_blocks=True)
    templates.filters["figure"] = _readable
    page = templates.get_template("page.html").render(
        title=title,
        warning=warning,
        facts=facts,
        sections=sections,
        pictures=pictures,
        moving=moving,
        lead=next(iter(sections[0].figures)),
    )
    _replace(folder / "index.html", page.encode())
    return folder / "index.html"


def _embedded(path: Path, content: bytes) -> str:
    """Writes a picture and returns it as an address that holds it."""
    _replace(path, content)
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(content).decode()}"


def _write_csv(path: Path, rows: list[Row]) -> None:
    partial = path.with_suffix(".tmp")
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, path)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_bytes(content)
    os.replace(partial, path)


def _readable(value: Any, name: str) -> str:
    """Returns a number as precise as its quality is usually quoted, nothing for nothing, anything else as it is."""
    if value is None:
        return ""
    return format(value, DIGITS.get(name, ".4g")) if isinstance(value, float) else str(value)
