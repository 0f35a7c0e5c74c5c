"""Writes results.json, a CSV or PNG file for each table and figure, and one HTML page that contains them all."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure

from cae.io_utils import atomic_write, printable, write_csv
from cae.report import cells
from cae.report.embedding import LOSSLESS, data_url, embed_images, to_webp
from cae.report.figures import gif, png
from cae.report.interactive import InteractiveFigure, compressed_plotly_js
from cae.report.projector import Projection

Row = dict[str, Any]

MAX_KEY_FIGURES = 5
"""Numbers in the summary on top of the page, at most."""

SUMMARY_INFO = ("data set", "splits", "test data set", "parameters", "checkpoint", "training time")
"""What the summary says of the run; all else is at the end of the page."""


class KeyFigure(NamedTuple):
    """A number that sums up a task, as text: what it is, its value with unit, and what to compare it with."""

    name: str
    value: str
    note: str = ""


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
      sources: The table with the numbers of a figure, by the names of both; the page links to its CSV file.
      key_figures: The numbers that matter most, in descending order; the page's summary takes the first of each task,
        then the second ones.
      lead: A caption and a figure for the page's summary, where the first of `figures` is not the one.
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
    sources: dict[str, str] = dataclasses.field(default_factory=dict)
    key_figures: list[KeyFigure] = dataclasses.field(default_factory=list)
    lead: tuple[str, Figure] | None = None


def write_report(
    folder: Path, title: str, warning: str | None, run_info: Mapping[str, str], sections: Sequence[Section]
) -> Path:
    """Writes a report.

    Args:
      folder: Where to write, which need not exist.
      title: The page's title.
      warning: A warning for the title and the top of the page, or None.
      run_info: What the page says of the run, by name.
      sections: The parts of the report; the lead figure of the first one, or else its first figure, leads the page.

    Returns:
      The page, which needs no other file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files, plots = {}, {}
    for section in sections:
        files |= {f"{name}.png": png(figure) for name, (_, figure) in section.figures.items()}
        files |= {f"{name}.gif": gif(frames) for name, (_, frames) in section.animations.items()}
        for name, rows in section.tables.items():
            if rows:
                write_csv(folder / f"{name}.csv", rows)
            else:
                (folder / f"{name}.csv").unlink(missing_ok=True)  # Of an earlier evaluation.
        plots |= _plots(section)
    for name, content in files.items():
        write_bytes(folder / name, content)
    images = embed_images(files)
    results = {section.name: section.results for section in sections if section.results}
    write_bytes(folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    page = _load_template().render(
        title=title,
        warning=warning,
        summary_info={name: run_info[name] for name in SUMMARY_INFO if name in run_info},
        run_info={name: value for name, value in run_info.items() if name not in SUMMARY_INFO},
        key_figures=select_key_figures(sections),
        lead=_lead(sections[0], images),
        sections=sections,
        images=images,
        plots=plots,
        plotly_js=compressed_plotly_js() if plots else None,
    )
    write_bytes(folder / "index.html", page.encode())
    return folder / "index.html"


def select_key_figures(sections: Iterable[Section]) -> list[KeyFigure]:
    """Returns at most `MAX_KEY_FIGURES`: the first of each section, then the second ones, ordered by section."""
    ranks = [
        (rank, number, figure) for number, each in enumerate(sections) for rank, figure in enumerate(each.key_figures)
    ]
    chosen = sorted(ranks)[:MAX_KEY_FIGURES]
    return [figure for _, _, figure in sorted(chosen, key=lambda each: each[1])]


def _plots(section: Section) -> dict[str, Any]:
    """Returns what the page's script draws in place of a section's figures, by name."""
    return {
        name: {"charts": figure.plots, "thumbnails": figure.thumbnails}
        for name, (_, figure) in section.figures.items()
        if isinstance(figure, InteractiveFigure) and figure.plots
    }


def _lead(section: Section, images: Mapping[str, str]) -> tuple[str, str, str | None] | None:
    """Returns caption, URL and, if it has files, the name of the figure that leads the page, where there is one."""
    if section.lead is not None:
        caption, figure = section.lead
        return caption, data_url(to_webp(png(figure), LOSSLESS)), None
    for name, (caption, _) in itertools.islice(section.figures.items(), 1):
        return caption, images[f"{name}.png"], name
    return None


def _load_template() -> jinja2.Template:
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("cae.report", "."), autoescape=True, trim_blocks=True, finalize=_to_text
    )
    templates.filters |= {
        "columns": cells.columns,
        "cell": cells.make_cell,
        "title": cells.column_title,
        "sentence": _end_sentence,
    }
    return templates.get_template("page.html")


def _end_sentence(caption: str) -> str:
    return caption if caption.endswith((".", "!", "?")) else f"{caption}."


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with atomic_write(path, "wb") as file:
        file.write(content)


def _to_text(value: Any) -> Any:
    """Returns a text of one line where a value is a text that may contain names; markup as it is."""
    return printable(value) if type(value) is str else value
