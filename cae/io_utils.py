"""Files that are written whole or not at all, and names as text."""

import contextlib
import csv
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

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


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Creates a temporary folder beside `path`, and renames it to `path` at the end of the context.

    An exception within the context leaves nothing.

    Args:
      path: The folder, which must not exist; folders that it lies in are created.

    Yields:
      The temporary folder.

    Raises:
      OSError: The folder can't be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    shutil.rmtree(temporary, ignore_errors=True)  # Of a process that was killed.
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def make_writable_folder(path: Path) -> None:
    """Creates a folder where it is missing; raises `OSError` where no file can be written in it."""
    path.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=path).close()


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


def abbreviate(names: Sequence[str], max_names: int = 10) -> str:
    """Returns the first of some names, comma-separated, and how many more there are."""
    more = [f"and {len(names) - max_names:,} more"] if len(names) > max_names else []
    return ", ".join([*names[:max_names], *more])
