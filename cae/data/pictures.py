"""Pictures of any size and mode, fitted to what a model takes; folders of them."""

import concurrent.futures
import dataclasses
import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from cae.errors import UserError

EXTENSIONS = {".png", ".jpg", ".jpeg", ".bmp"}


def fit(picture: Image.Image, height: int, width: int, channels: int) -> np.ndarray:
    """Returns the picture as uint8 [height, width, channels], channels being 1 or 3.

    Its proportions are kept: what is left over is filled with the median of its border. Transparent parts turn white,
    16-bit values keep their upper 8 bits, and a photograph is turned as its camera says.
    """
    picture = ImageOps.exif_transpose(picture)
    mode = "L" if channels == 1 else "RGB"
    picture = _to_eight_bits(picture).convert(mode)
    if picture.size != (width, height):
        picture = ImageOps.pad(picture, (width, height), Image.Resampling.LANCZOS, color=_border_colour(picture))
    return np.asarray(picture, np.uint8).reshape(height, width, channels)


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        values = np.asarray(picture, np.float64)
        if picture.mode.startswith("I"):
            values = values / 256
        elif values.max(initial=0) <= 1:
            values = values * 255
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture)
    return picture


def _border_colour(picture: Image.Image) -> tuple[int, ...] | int:
    values = np.asarray(picture)
    border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    colour = np.median(border, axis=0).astype(int)
    return int(colour) if colour.ndim == 0 else tuple(colour.tolist())


@dataclasses.dataclass(frozen=True)
class Folder:
    """A folder's readable pictures, in an order that depends on their names alone.

    images: uint8 [n, height, width, channels]; names: their paths within the folder; skipped: those of the files that
    could not be read.
    """

    images: np.ndarray
    names: list[str]
    skipped: list[str]

    def classes(self) -> list[str]:
        """Returns the names of the pictures' classes, as `classes_of` finds them."""
        return classes_of(self.names)

    def labels(self) -> np.ndarray:
        """Returns each picture's position in `classes()`, int64 [n]; zeros where there are none."""
        return labels_of(self.names, self.classes())


def classes_of(names: Iterable[str]) -> list[str]:
    """Returns the first-level sub-folders, where every picture lies in one and there are several; else nothing."""
    classes = sorted({_parent(name) for name in names})
    return classes if len(classes) > 1 and "" not in classes else []


def readable_classes(path: Path, names: Sequence[str], shape: tuple[int, int, int]) -> list[str]:
    """Returns the classes of those of a folder's pictures that can be read, of each of which it reads but one."""
    firsts = {}
    for name in names:
        if _parent(name) not in firsts and read_some(path, [name], *shape)[0] is not None:
            firsts[_parent(name)] = name
    return classes_of(firsts.values())


def labels_of(names: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Returns the position of each picture's class, int64 [n]; zeros where there are none."""
    positions = {name: position for position, name in enumerate(classes)}
    return np.array([positions[_parent(name)] if classes else 0 for name in names], np.int64)


def _parent(name: str) -> str:
    parts = Path(name).parts
    return parts[0] if len(parts) > 1 else ""


def read_folder(path: Path, height: int, width: int, channels: int) -> Folder:
    """Reads every PNG, JPEG and BMP below `path`; one that cannot be read is left out and named in `skipped`.

    Raises `UserError` where the folder is missing or has no readable picture.
    """
    names = names_in(path)
    pictures = read_some(path, names, height, width, channels)
    read_names = [name for name, picture in zip(names, pictures) if picture is not None]
    skipped = sorted(name for name, picture in zip(names, pictures) if picture is None)
    if not read_names:
        raise none_readable(path, len(skipped))
    return Folder(np.stack([picture for picture in pictures if picture is not None]), read_names, skipped)


def read_some(path: Path, names: Sequence[str], height: int, width: int, channels: int) -> list[np.ndarray | None]:
    """Returns the pictures of a folder that have these names, fitted; nothing in place of one that cannot be read."""

    def read(name: str) -> np.ndarray | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path / name) as picture:
                    return fit(picture, height, width, channels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            return None  # Pillow raises all of these for files that are cut off, absurdly large or no pictures.

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(read, names))


def none_readable(path: Path, skipped: int) -> UserError:
    """Returns the error for a folder without a readable picture."""
    found = f"none of its {skipped} can be read" if skipped else "it holds none"
    return UserError(f"--dataset=folder:{path} needs PNG, JPEG or BMP pictures, and {found}")


def names_in(path: Path) -> list[str]:
    """Returns the paths of a folder's pictures within it, in their order; raises `UserError` where it is missing."""
    if not path.is_dir():
        raise UserError(f"--dataset=folder:{path}: there is no such folder")
    # Ordered by a hash of its name, a file's place does not follow from its neighbours': any stretch is a fair sample.
    names = (entry.path for entry in _entries(path))
    names = [Path(name).relative_to(path).as_posix() for name in names]
    return sorted(names, key=lambda name: hashlib.sha256(name.encode(errors="replace")).digest())


def survey(path: Path) -> tuple[int, str]:
    """Returns how many pictures a folder has, and a fingerprint of their names, sizes and times, holding none of them.

    Raises `UserError` where the folder is missing.
    """
    if not path.is_dir():
        raise UserError(f"--dataset=folder:{path}: there is no such folder")
    count = total = 0
    for entry in _entries(path):
        try:
            found = entry.stat()
            state = f"{entry.path}\n{found.st_size}\n{found.st_mtime_ns}"
        except OSError:
            state = entry.path  # A link to nowhere.
        # A sum, since files are listed in any order.
        total += int.from_bytes(hashlib.sha256(state.encode(errors="replace")).digest())
        count += 1
    return count, hashlib.sha256(str(total).encode()).hexdigest()


def _entries(path: Path) -> Iterator[os.DirEntry]:
    """Yields the pictures below a folder, one after the other; a folder that cannot be listed has none."""
    try:
        found = os.scandir(path)
    except OSError:
        return
    with found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path)
            elif Path(entry.name).suffix.lower() in EXTENSIONS and not entry.is_dir():
                yield entry
