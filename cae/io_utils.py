"""Files that are written whole or not at all, names as text, and progress bars."""

import contextlib
import csv
import hashlib
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tqdm import TqdmWarning, tqdm

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line separators, and bytes of file names that are not UTF-8."""


def printable(name: str) -> str:
    """Returns a name as one line of text: control characters and bytes that are not UTF-8 as backslash escapes."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), name)


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO]:
    """Opens a temporary file beside `path`, and renames it to `path` at the end of the context.

    A reader sees the old content or the new one, never a part of it, even after a power cut. An exception within the
    context leaves `path` as it was.

    Args:
      path: The file to write; its folder must exist.
      mode: "w" for text in UTF-8, "wb" for bytes.

    Yields:
      The open file.

    Raises:
      OSError: The folder can't be written, or the disk is full.
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    temporary = temporary_path(path)
    try:
        with open(temporary, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def temporary_path(path: Path) -> Path:
    """Returns where `atomic_write` writes before it renames; a process that was killed may leave such a file."""
    name = path.name
    if len(os.fsencode(name)) > 250:  # Of the 255 that file systems allow, five are added.
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.tmp")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Writes rows to a CSV file with a header line, whole or not at all.

    Args:
      path: The file to write.
      rows: Values by column; a value that a row lacks is left empty.
      columns: Names of the columns in order; by default those of all rows, in the order in which they first occur.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row)) if columns is None else columns
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def progress_bar(total: int, unit: str, description: str | None = None, delay: float = 0.0) -> tqdm:
    """Returns a progress bar, which only a terminal or a notebook shows.

    Args:
      total: Number of units.
      unit: What is counted.
      description: What is done.
      delay: Seconds after which the bar appears; one with a description disappears at its end.
    """
    if not hasattr(tqdm, "_lock"):
        tqdm.set_lock(threading.RLock())  # Its own one is a semaphore, of which Python warns if this process is killed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # In notebooks without widgets the bar is text.
        from tqdm.auto import tqdm as notebook_or_text_tqdm
    return notebook_or_text_tqdm(
        total=total, unit=unit, unit_scale=True, desc=description, delay=delay, leave=description is None,
        disable=not (sys.stderr.isatty() or "ipykernel" in sys.modules),
    )  # fmt: skip


def abbreviate(names: Sequence[str], max_names: int = 10) -> str:
    """Returns the first of some names, comma-separated, and how many more there are."""
    more = [f"and {len(names) - max_names:,} more"] if len(names) > max_names else []
    return ", ".join([*names[:max_names], *more])
