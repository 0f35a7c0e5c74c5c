"""Predictions to files: a CSV with a row per file beside a contact sheet, or the report of a section."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cae.io_utils import printable, write_csv
from cae.report import report, tensorboard
from cae.report.figures import png
from cae.report.report import Section
from cae.run import Run


class PredictionWriter:
    """Collects a row per file for NAME.csv, and writes it with a contact sheet, NAME_sheet.png, beside it.

    Attributes:
      path: The path of the CSV.
      rows: The rows of the files that were read, by file name; they may change until they are written.
      all_rows: These and the rows of the other files, by file name.
      skipped: Why the other files were skipped, by file name.
    """

    def __init__(self, path: Path, columns: Sequence[str]):
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self.all_rows: dict[str, dict[str, Any]] = {}
        self.skipped: dict[str, str] = {}
        self._columns = ("file", "status", *columns)
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, **values: Any) -> None:
        """Adds the row of a file that was read."""
        self.rows[name] = {"file": printable(name), "status": "ok"} | values
        self.all_rows[name] = self.rows[name]

    def skip(self, name: str, error: Exception) -> None:
        """Adds the row of a file that could not be read, or puts it in the place of the file's row."""
        self.rows.pop(name, None)
        self.skipped[name] = str(error)
        self.all_rows[name] = {"file": printable(name), "status": f"skipped: {error}"}

    def write(self, sheet: Figure | None) -> None:
        """Writes the CSV, and the contact sheet unless it is None."""
        write_csv(self.path, [*self.all_rows.values()], self._columns)
        if sheet is not None:
            report.write_bytes(self.path.with_name(f"{self.path.stem}_sheet.png"), png(sheet))


def write_section(run: Run, section: Section) -> Path:
    """Writes a section to `WORKDIR/report/<its name>` and to TensorBoard, and returns the path of its page."""
    folder = run.workdir / "report" / section.name
    path = report.write_report(folder, section.title, run.warning, run.info(), [section])
    tensorboard.write_evaluation(run.workdir, run.step, section)
    return path
