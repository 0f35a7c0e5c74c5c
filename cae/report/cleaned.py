"""Cleaned pictures to files: each in its own kind, a contact sheet, a CSV with a line per file."""

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cae.report.figures import png, sheet

COLUMNS = ("file", "status", "width", "height", "format", "mode", "tiles", "noise_before", "noise_after", "change")


def write(folder: Path, results: Iterable[tuple[str, Any]], most_shown: int) -> tuple[int, dict[str, str]]:
    """Writes cleaned pictures to `folder`/denoised as they come, one held at a time, and returns what became of them.

    results: each file's name with what has `save(path)`, `facts()` and `preview()`, or with the exception that says why
    it was left out. Beside the pictures' folder lie denoised.csv and, of the first `most_shown`, denoised_sheet.png.
    Returns how many were cleaned, and why each of the others was not, by name.
    """
    pictures, partial = folder / "denoised", folder / "denoised.csv.tmp"
    pictures.mkdir(parents=True, exist_ok=True)
    cleaned, skipped, shown = 0, {}, []
    with partial.open("w", newline="", errors="backslashreplace") as file:
        lines = csv.DictWriter(file, fieldnames=COLUMNS)
        lines.writeheader()
        for name, result in results:
            if isinstance(result, Exception):
                skipped[name] = str(result)
                lines.writerow({"file": name, "status": f"skipped: {result}"})
                continue
            result.save(pictures / name)
            lines.writerow({"file": name, "status": "cleaned"} | result.facts())
            cleaned += 1
            if len(shown) < most_shown:
                shown.append((name, *result.preview()))
    os.replace(partial, folder / "denoised.csv")
    if shown:
        (folder / "denoised_sheet.png").write_bytes(png(sheet(shown)))
    return cleaned, skipped
