"""Pictures of any size and mode, fitted to what a model takes; folders of them."""

import concurrent.futures
import dataclasses
import hashlib
import os
import warnings
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
        """Returns the first-level sub-folders, where every picture lies in one and there are several; else nothing."""
        parents = [Path(name).parts[0] if len(Path(name).parts) > 1 else "" for name in self.names]
        classes = sorted(set(parents))
        return classes if len(classes) > 1 and "" not in classes else []

    def labels(self) -> np.ndarray:
        """Returns each picture's position in `classes()`, int64 [n]; zeros where there are none."""
        classes = self.classes()
        return np.array([classes.index(Path(name).parts[0]) if classes else 0 for name in self.names], np.int64)


def read_folder(path: Path, height: int, width: int, channels: int) -> Folder:
    """Reads every PNG, JPEG and BMP below `path`; one that cannot be read is left out and named in `skipped`.

    Raises `UserError` where the folder is missing or has no readable picture.
    """
    if not path.is_dir():
        raise UserError(f"--dataset=folder:{path}: there is no such folder")
    # Ordered by a hash of its name, a file's place does not follow from its neighbours': any stretch is a fair sample.
    names = sorted(_picture_names(path), key=lambda name: hashlib.sha256(name.encode(errors="replace")).digest())

    def read(name: str) -> np.ndarray | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path / name) as picture:
                    return fit(picture, height, width, channels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            return None  # Pillow raises all of these for files that are cut off, absurdly large or no pictures.

    with concurrent.futures.ThreadPoolExecutor() as pool:
        pictures = list(pool.map(read, names))
    read_names = [name for name, picture in zip(names, pictures) if picture is not None]
    skipped = sorted(name for name, picture in zip(names, pictures) if picture is None)
    if not read_names:
        found = f"none of its {len(skipped)} can be read" if skipped else "it holds none"
        raise UserError(f"--dataset=folder:{path} needs PNG, JPEG or BMP pictures, and {found}")
    return Folder(np.stack([picture for picture in pictures if picture is not None]), read_names, skipped)


def _picture_names(path: Path) -> list[str]:
    return [
        (Path(folder) / name).relative_to(path).as_posix()
        for folder, _, names in os.walk(path)
        for name in names
        if Path(name).suffix.lower() in EXTENSIONS
    ]
