"""Lists image files: those of a folder and its subfolders, or files and folders by name."""

import os
from collections.abc import Iterator
from pathlib import Path

from cae.errors import UserError

EXTENSIONS = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp", ".pbm", ".pgm",
    ".ppm", ".pnm",
}  # fmt: skip
"""Suffixes of the formats that `cae.data.image_io` reads."""

_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "icon\r"}


def is_ignored(name: str) -> bool:
    """Returns whether a file or folder of that name is hidden, or one that operating systems leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def walk_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yields (name, path) of each file below a folder, in any order; the name is the path within the folder.

    Ignored files and folders are left out. Symbolic links are followed, except to a folder that contains the link. A
    link to a file that does not exist is yielded.
    """
    pending = [("", folder, ())]
    while pending:
        prefix, current, ancestors = pending.pop()
        try:
            status = os.stat(current)
            entries = os.scandir(current)
        except OSError:
            continue  # A subfolder without permission.
        identity = (status.st_dev, status.st_ino)
        with entries:
            for entry in entries if identity not in ancestors else ():
                if is_ignored(entry.name):
                    continue
                if entry.is_dir():
                    pending.append((f"{prefix}{entry.name}/", Path(entry.path), (*ancestors, identity)))
                elif entry.is_file() or entry.is_symlink():  # Reading a pipe or a device might never end.
                    yield f"{prefix}{entry.name}", Path(entry.path)


def list_images(paths: str) -> list[tuple[str, Path]]:
    """Lists the files to read, ignored ones excepted.

    Args:
      paths: A file, a folder, or several of both separated by commas.

    Returns:
      (name, path) of each file; the name is the path within its folder. Sorted by name within a folder.

    Raises:
      UserError: A path does not exist, or a folder is empty.
    """
    whole = Path(paths).expanduser()
    if "," not in paths or whole.exists():
        return _list_path(whole)
    files = {}
    for part in paths.split(","):
        for name, path in _list_path(Path(part.strip()).expanduser()):
            files[f"{path.parent.name}/{name}" if name in files else name] = path
    return list(files.items())


def _list_path(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise UserError(f"--images={path}: there is no such file or folder")
    files = sorted(walk_files(path))
    if not files:
        raise UserError(f"--images={path} contains no files; it should contain images, in subfolders or not")
    return files
