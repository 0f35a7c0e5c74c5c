"""What a detector said of a person's pictures to files: a CSV with a line per file, a contact sheet, outliers first."""

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cae.report.figures import captioned, png

COLUMNS = ("file", "status", "score", "p_value", "belongs", "alarm", "width", "height", "fitted", "warning")


def write(
    folder: Path,
    results: Iterable[tuple[str, Any]],
    alarms_of: Callable[[np.ndarray], np.ndarray],
    most_shown: int,
) -> tuple[list[tuple[str, Any]], dict[str, str]]:
    """Writes what was said of each picture, and returns (name, result) of each, and why others were skipped.

    results: each file's name with what has score, p_value, belongs, width, height, fitted, warnings, image; or with the
    exception that says why it was left out. alarms_of: p-values [n] to alarms among them all. screened.csv has a line
    for every file, screened_sheet.png the first `most_shown`, from the smallest p-value on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = list(results)  # Pictures of the model's own size, of which ten thousand are a few megabytes.
    told = [(name, result) for name, result in results if not isinstance(result, Exception)]
    alarms = dict(zip((name for name, _ in told), alarms_of(np.array([result.p_value for _, result in told]))))
    partial = folder / "screened.csv.tmp"
    with partial.open("w", newline="", errors="backslashreplace") as file:
        lines = csv.DictWriter(file, fieldnames=COLUMNS)
        lines.writeheader()
        for name, result in results:
            if isinstance(result, Exception):
                lines.writerow({"file": name, "status": f"skipped: {result}"})
                continue
            values = {column: getattr(result, column) for column in COLUMNS if hasattr(result, column)}
            values |= {"score": f"{result.score:.6g}", "p_value": f"{result.p_value:.6g}"}
            warning = "; ".join(result.warnings)
            lines.writerow(
                {"file": name, "status": "screened", "alarm": bool(alarms[name]), "warning": warning} | values
            )
    os.replace(partial, folder / "screened.csv")
    if told:
        first = sorted(told, key=lambda each: (each[1].p_value, -each[1].score))[:most_shown]
        pictures = [
            (name, f"{'belongs' if each.belongs else 'outlier'}, p {each.p_value:.2g}", each.image / 255)
            for name, each in first
        ]
        (folder / "screened_sheet.png").write_bytes(png(captioned(pictures)))
    return told, {name: str(result) for name, result in results if isinstance(result, Exception)}
