"""Lists image files: those of a folder and its subfolders, or files and folders by name."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cae.errors import UserError

EXTENSIONS = {
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp", ".pbm", ".pgm",
    ".ppm", ".pnm",
}  # fmt: skip
"""Suffixes of the formats that `cae.data.image_io` reads."""

MAX_NAME_CHARACTERS = 255
"""Of a file, at most, on all usual file systems."""

_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "icon\r"}


def is_ignored(name: str) -> bool:
    """Returns whether a file or folder of that name is hidden, or one that operating systems leave behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def walk_files(folder: Path, yield_unreadable: bool = False) -> Iterator[tuple[str, Path]]:
    """Yields (name, path) of each file below a folder, in any order; the name is the path within the folder.

    Ignored files and folders are left out. Symbolic links are followed, except to a folder that contains the link. A
    link to a file that does not exist is yielded.

    Args:
      folder: The folder.
      yield_unreadable: Whether a subfolder that cannot be listed is yielded as a file, which cannot be read.

    Raises:
      UserError: A folder cannot be listed.
    """
    pending = [("", folder, ())]
    while pending:
        prefix, current, ancestors = pending.pop()
        try:
            status = os.stat(current)
            entries = os.scandir(current)
        except OSError as error:
            if not (prefix and yield_unreadable):
                raise UserError(f"the folder {current} cannot be read: {error.strerror}") from error
            yield prefix.rstrip("/"), current
            continue
        identity = (status.st_dev, status.st_ino)
        with entries:
            for entry in entries if identity not in ancestors else ():
                if is_ignored(entry.name):
                    continue
                if _is_folder(entry):
                    pending.append((f"{prefix}{entry.name}/", Path(entry.path), (*ancestors, identity)))
                elif _is_file(entry):
                    yield f"{prefix}{entry.name}", Path(entry.path)


def _is_folder(entry: os.DirEntry) -> bool:
    # `DirEntry.is_dir` raises an error for a link that leads to itself.
    return os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: os.DirEntry) -> bool:
    """Returns whether an entry is a file, not a pipe or a device: reading these might never end."""
    return entry.is_file() if not entry.is_symlink() else os.path.isfile(entry) or not os.path.exists(entry)


def list_images(paths: str) -> list[tuple[str, Path]]:
    """Lists the files to read, ignored ones excepted; one that several paths lead to is listed once.

    Args:
      paths: A file, a folder, or several of both separated by commas. Commas within a path are understood where the
        path exists.

    Returns:
      (name, path) of each file, sorted by name within a folder. The name is the path within its folder; of several
      paths, that below the folder which contains all of them, if their files would have the same name otherwise.

    Raises:
      UserError: A path does not exist, or a folder is empty.
    """
    given = _split_paths(paths)
    if len(given) == 1:
        return _list_path(given[0])
    listed, seen = [], set()
    for path in given:
        found = [(name, file, os.path.realpath(file)) for name, file in _list_path(path)]
        listed.append((path, [(name, file) for name, file, resolved in found if resolved not in seen]))
        seen.update(resolved for _, _, resolved in found)
    if _collide([name for _, files in listed for name, _ in files]):
        roots = [_absolute(path if path.is_dir() else path.parent) for path, _ in listed]
        common = Path(os.path.commonpath(roots))
        listed = [
            (path, [((root / name).relative_to(common).as_posix(), file) for name, file in files])
            for root, (path, files) in zip(roots, listed)
        ]
    return [each for _, files in listed for each in files]


def _split_paths(paths: str) -> list[Path]:
    """Returns the paths that a text names: of its parts between commas, as many as make an existing path are one."""
    advice = "; a path that contains a comma can be given alone, or by its folder" if "," in paths else ""
    parts, found = paths.split(","), []
    while parts:
        path, count = _find_longest(parts)
        if path:
            found.append(path)
        elif missing := parts[0].strip():  # An additional comma is no path.
            raise UserError(f"--images={missing}: there is no such file or folder{advice}")
        parts = parts[count:]
    if not found:
        raise UserError(f"--images={paths}: there is no such file or folder")
    return found


def _find_longest(parts: Sequence[str]) -> tuple[Path | None, int]:
    """Returns the longest existing path that first parts make, joined by commas, and their number; else None and 1."""
    longest, count = None, 1
    for end in range(1, len(parts) + 1):
        path = os.path.expanduser(",".join(parts[:end]).strip())
        folder, name = os.path.split(path)
        if len(name) > MAX_NAME_CHARACTERS or (folder and not os.path.isdir(folder)):
            break  # Nor does a longer one exist.
        if os.path.exists(path):
            longest, count = Path(path), end
    return longest, count


def _collide(names: Sequence[str]) -> bool:
    """Returns whether files of these names can't be in one folder: two are the same, or one is another's folder."""
    unique = set(names)
    return len(unique) < len(names) or any(str(parent) in unique for name in unique for parent in Path(name).parents)


def _absolute(path: Path) -> Path:
    # The folder above a symbolic link is not where '..' leads to.
    return path.resolve() if ".." in path.parts else path.absolute()


def _list_path(path: Path) -> list[tuple[str, Path]]:
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise UserError(f"--images={path} is neither a file nor a folder")
    files = sorted(walk_files(path, yield_unreadable=True))
    if not files:
        raise UserError(f"--images={path} contains no files; it should contain images, in subfolders or not")
    return files
