"""A person's own picture files as they are: read to values in 0..1 at their own size, written back in their own kind.

`read` and `Original.save` mirror each other: what is saved unchanged has the same size, mode, depth and values.
"""

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from etils import epy
from PIL import Image, UnidentifiedImageError

from cae.errors import UserError

# Of colours with 16 bits a channel Pillow keeps 8; TensorFlow reads and writes all of a PNG's, tifffile of a TIFF's.
with epy.lazy_imports():
    import tensorflow as tf

MOST_PIXELS = Image.MAX_IMAGE_PIXELS
"""Pictures of more pixels are left out by what their header says, before they are decoded: 89 million."""

LONGEST_SIDE = 65_500
"""What JPEG and most others can hold; one line of a hundred million pixels is no picture."""

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")

_SIXTEEN_BITS = 65_535


class Unreadable(Exception):
    """Why a file cannot be cleaned, in a few words."""


@dataclasses.dataclass(frozen=True)
class Original:
    """A decoded picture.

    name: its path within the folder that was named; format, mode: Pillow's; channels: [height, width, channels] in the
    file's own depth, bool, uint8, uint16, int32 or float32; alpha: what stays as it is, [height, width,
    0 or 1]; lowest, highest: the values that count as 0 and 1; picture: what all this was read from.
    """

    name: str
    format: str
    mode: str
    channels: np.ndarray
    alpha: np.ndarray
    lowest: float
    highest: float
    picture: Image.Image

    @property
    def size(self) -> tuple[int, int]:
        """Returns (height, width) in pixels."""
        return self.channels.shape[:2]

    def plane(self, channel: int) -> np.ndarray:
        """Returns a channel in 0..1: float32 [height, width]."""
        span = max(self.highest - self.lowest, 1e-12)
        return ((self.channels[..., channel].astype(np.float32) - self.lowest) / span).astype(np.float32)

    def preview(self, longest: int) -> np.ndarray:
        """Returns the picture in 0..1, made no larger than so many pixels a side: float32 [height, width, 1 or 3]."""
        scale = min(1.0, longest / max(self.size))
        sides = [max(1, round(side * scale)) for side in reversed(self.size)]
        shown = range(3) if self.channels.shape[2] == 3 else range(1)
        planes = [Image.fromarray(self.plane(channel)).resize(sides, Image.Resampling.BOX) for channel in shown]
        return np.stack([np.asarray(plane) for plane in planes], axis=-1).clip(0, 1)

    def stored(self, plane: np.ndarray) -> np.ndarray:
        """Returns values in 0..1 as the file holds them: the inverse of `plane`."""
        values = plane.astype(np.float64) * (self.highest - self.lowest) + self.lowest
        if self.channels.dtype == bool:
            return plane >= 0.5
        return (
            values.astype(np.float32)
            if self.channels.dtype == np.float32
            else values.round().astype(self.channels.dtype)
        )

    def save(self, path: Path, channels: np.ndarray) -> None:
        """Writes channels, [height, width, channels] as `stored` gives them, as this picture's format and mode."""
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = self._with_key(channels)
        values = np.concatenate([channels, self.alpha.astype(channels.dtype)], axis=-1)
        if self.channels.dtype == np.uint16 and values.shape[-1] > 1:
            if self.format == "PNG":
                path.write_bytes(tf.io.encode_png(values).numpy())
            else:
                tifffile.imwrite(path, values, photometric="rgb" if values.shape[-1] > 2 else "minisblack")
            return
        picture = _picture(values, self.mode, self.picture)
        # A colour or a place in the palette that counts as transparent may be 0.
        kept = {
            key: self.picture.info[key]
            for key in ("icc_profile", "exif", "dpi", "transparency")
            if key in self.picture.info
        }
        if self.format in ("JPEG", "WEBP"):
            kept |= {"quality": 95}
        picture.save(path, self.format, **kept)

    def _with_key(self, channels: np.ndarray) -> np.ndarray:
        """Returns channels with the value that a file may name as transparent where it was, and only there."""
        key = self.picture.info.get("transparency")
        if key is None or self.mode not in ("L", "RGB"):
            return channels
        clear = (self.channels == key).all(axis=-1, keepdims=True)
        by_chance = (channels == key).all(axis=-1, keepdims=True) & ~clear
        return np.where(clear, self.channels, channels ^ by_chance)


def find(path: Path) -> list[tuple[str, Path]]:
    """Returns the files at `path`, a file or a folder with all below it, by name; hidden ones are left out.

    Raises `UserError` where there is none.
    """
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise UserError(f"--images={path}: there is no such file or folder")
    found = [(each.relative_to(path), each) for each in path.rglob("*") if each.is_file()]
    files = [(name.as_posix(), each) for name, each in found if not any(part.startswith(".") for part in name.parts)]
    if not files:
        raise UserError(f"--images={path} holds no file; it should hold pictures, in sub-folders or not")
    return sorted(files)


def find_all(text: str) -> list[tuple[str, Path]]:
    """Returns the files at a path, or at several that are separated by commas, in their order.

    Raises `UserError` where one leads to none.
    """
    whole = Path(text).expanduser()
    if "," not in text or whole.exists():
        return find(whole)
    found = {}
    for part in (Path(part.strip()).expanduser() for part in text.split(",")):
        for name, path in find(part):
            found[name if name not in found else f"{path.parent.name}/{name}"] = path
    return list(found.items())


def read_each(files: list[tuple[str, Path]]) -> Iterator[tuple[str, Original | Unreadable]]:
    """Yields each file's name with its picture, or with why there is none; one picture is held at a time."""
    for name, path in files:
        try:
            yield name, read(name, path)
        except Unreadable as why:
            yield name, why


def read(name: str, path: Path) -> Original:
    """Returns the picture in a file; raises `Unreadable` for a file that is none, or that can't be cleaned."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # The check below has a word for it.
            return _read(name, path)
    except UnidentifiedImageError as error:
        raise Unreadable("empty" if path.stat().st_size == 0 else "not a picture") from error
    except Image.DecompressionBombError as error:
        raise Unreadable(f"declares more than {MOST_PIXELS:,} pixels") from error
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, MemoryError) as error:
        # Pillow raises all of these for files that are cut off or damaged.
        raise Unreadable(f"damaged: {' '.join(str(error).split())}") from error


def _read(name: str, path: Path) -> Original:
    with Image.open(path) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
            raise Unreadable(
                f"declares {width} x {height} pixels; sides of {LONGEST_SIDE:,}, {MOST_PIXELS:,} in all are the most"
            )
        if picture.format not in FORMATS:
            raise Unreadable(f"is in the format {picture.format}; these are known: {', '.join(FORMATS)}")
        if getattr(picture, "n_frames", 1) > 1:
            raise Unreadable(f"holds {picture.n_frames} frames; one is cleaned")
        sixteen = _sixteen_bit_colours(picture, path)
        picture.load()
    values = sixteen if sixteen is not None else _values(picture)
    with_alpha = values.shape[-1] in (2, 4) and (sixteen is not None or picture.mode in ("LA", "RGBA", "P"))
    channels, alpha = np.split(values, [values.shape[-1] - with_alpha], axis=-1)
    lowest, highest = _range(channels)
    return Original(name, picture.format, picture.mode, channels, alpha, lowest, highest, picture)


def _sixteen_bit_colours(picture: Image.Image, path: Path) -> np.ndarray | None:
    """Returns uint16 [height, width, 2 to 4] for several channels of 16 bits, of which Pillow keeps 8; else nothing."""
    if picture.format == "PNG":
        content = path.read_bytes()
        # A PNG's 25th byte is its depth, the 26th its colour type: 2 colours, 4 grey and alpha, 6 colours and alpha.
        return tf.io.decode_png(content, dtype=tf.uint16).numpy() if content[24] == 16 and content[25] else None
    if (
        picture.format == "TIFF"
        and 258 in picture.tag_v2
        and set(picture.tag_v2[258]) == {16}
        and len(picture.tag_v2[258]) > 1
    ):
        return tifffile.imread(path)
    return None


def _values(picture: Image.Image) -> np.ndarray:
    """Returns a picture's values in its own depth, [height, width, channels, alpha the last of them]."""
    if picture.mode == "P":
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    values = np.asarray(picture)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise Unreadable("holds values that are not finite")
        values = values.astype(np.float32)
    return values.reshape(*values.shape[:2], -1)


def _range(channels: np.ndarray) -> tuple[float, float]:
    """Returns the values that count as black and white."""
    if channels.dtype == bool:
        return 0.0, 1.0
    if channels.dtype.kind == "u":
        return 0.0, float(np.iinfo(channels.dtype).max)
    least, most = float(channels.min()), float(channels.max())
    # 32-bit pictures say no range: that of floats is 0..1, that of integers 16 bits, where they keep to it.
    usual = 1.0 if channels.dtype.kind == "f" else float(_SIXTEEN_BITS)
    return (0.0, usual) if least >= 0 and most <= usual else (least, most)


def _picture(values: np.ndarray, mode: str, original: Image.Image) -> Image.Image:
    """Returns values [height, width, channels] as a picture of a mode: the inverse of `_values`."""
    values = values[..., 0] if values.shape[-1] == 1 else values
    if mode == "P":
        return _in_palette_of(original, values)
    if mode == "1":
        return Image.fromarray(values)
    if mode in ("L", "I", "F") or mode.startswith("I;16"):
        return Image.fromarray(values.astype(np.asarray(original).dtype))
    return Image.frombytes(mode, original.size, np.ascontiguousarray(values).tobytes())


def _in_palette_of(original: Image.Image, values: np.ndarray) -> Image.Image:
    """Returns colours as the nearest ones of a picture's palette; only what was transparent is so."""
    nearest = Image.fromarray(values[..., :3]).quantize(palette=original, dither=Image.Dither.NONE)
    was, indices = np.asarray(original), np.asarray(nearest)
    # Of a palette's places one may be transparent, or each to a degree of its own.
    clear, opaque = original.info.get("transparency", b""), np.full(256, True)
    opaque[[clear] if isinstance(clear, int) else [place for place, alpha in enumerate(clear) if alpha < 255]] = False
    indices = np.where(opaque[was] & opaque[indices], indices, was)
    picture = Image.fromarray(indices)
    picture.putpalette(original.getpalette("RGB"), "RGB")
    return picture
