"""Paths and URLs on the file systems of Beam: this machine's, and others such as gs://, s3:// and hdfs://."""

import os
import shutil
import uuid
from pathlib import Path

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from cae.errors import UserError


def is_local(path: str) -> bool:
    """Returns whether a path is one of this machine's file system, not a URL."""
    return FileSystems.get_scheme(path) is None


def resolve(path: str) -> str:
    """Returns a path on this machine as an absolute one, since workers may have another working directory."""
    return os.path.abspath(os.path.expanduser(path)) if is_local(path) else path.rstrip("/")


def list_files(pattern: str, limit: int | None = None) -> list[str]:
    """Returns the paths that a pattern matches, at most `limit`.

    Raises:
      UserError: The file system cannot be read, or the package for it is not installed.
    """
    try:
        (match,) = FileSystems.match([pattern], limits=[limit])
    except Exception as error:  # File systems raise errors of many kinds.
        raise UserError(f"{pattern} cannot be listed: {error}") from error
    return [each.path for each in match.metadata_list]


def copy_to_local(source: str, target: Path) -> None:
    """Copies a file byte for byte, in parts, to a path on this machine."""
    with (
        FileSystems.open(source, compression_type=CompressionTypes.UNCOMPRESSED) as file,
        target.open("wb") as copy,
    ):
        shutil.copyfileobj(file, copy, 2**20)


def check_absent(folder: str) -> None:
    """Raises `UserError` if the folder to write exists, or if its file system cannot be read."""
    if (is_local(folder) and os.path.lexists(folder)) or list_files(f"{folder}/**", limit=1):
        raise UserError(f"--output={folder} exists; name another folder, or remove it")


def temporary_beside(folder: str) -> str:
    """Returns a new folder beside another for each call, since workers of a job that failed may still write."""
    parent, name = FileSystems.split(folder)
    return FileSystems.join(parent, f".{name}.{uuid.uuid4().hex[:8]}.tmp")


def commit(temporary: str, folder: str, last: str) -> None:
    """Renames a folder that is complete.

    On this machine's file system that is one step. Where folders are but names, as on object stores, files are moved
    one by one.

    Args:
      temporary: The folder that was written.
      folder: Its name from now on.
      last: The name of the file that is moved last, so that a folder that has it has the others.
    """
    if is_local(folder):
        os.rename(temporary, folder)
        return
    paths = sorted(list_files(f"{temporary}/**"), key=lambda path: path.endswith(f"/{last}"))
    for path in paths:
        FileSystems.rename([path], [folder + path.removeprefix(temporary)])


def remove(folder: str) -> None:
    """Removes a folder if it exists."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif paths := list_files(f"{folder}/**"):
        FileSystems.delete(paths)
