"""Image files of any format, read as floats in 0..1 of their own size and written back in their own format.

`DecodedImage.save` is the inverse of `read_image`: an image that is saved unchanged keeps size, mode, depth and values.
"""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import tifffile
from etils import epy
from PIL import Image, ImageOps, UnidentifiedImageError

from cae.data.arrays import to_pil

# Pillow truncates color channels of 16 bits to 8; TensorFlow reads and writes them in PNG, tifffile in TIFF.
with epy.lazy_imports():
    import tensorflow as tf

# Images whose header declares more pixels, 89 million, are not decoded.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS

# Pixels; the limit of JPEG and most other formats.
MAX_SIDE = 65_500

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")

# A tag of TIFF files.
_BITS_PER_SAMPLE = 258


class UnreadableImageError(Exception):
    """A file is not a supported image; the message says why, in a few words."""


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An image file's content.

    Attributes:
      channels: [height, width, channels], bool, uint8, uint16, int32 or float32 as in the file, without alpha.
      alpha: The alpha channel, which processing leaves unchanged, [height, width, 0 or 1].
      black: The value that counts as 0.
      white: The value that counts as 1.
      pil_image: The decoded Pillow image, which has the format and the mode.
      warnings: What had to be guessed.
    """

    channels: np.ndarray
    alpha: np.ndarray
    black: float
    white: float
    pil_image: Image.Image
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.channels.shape[:2]

    def to_float(self, channel: int) -> np.ndarray:
        """Returns a channel in 0..1, float32 [height, width]."""
        span = max(self.white - self.black, 1e-12)
        return ((self.channels[..., channel].astype(np.float32) - self.black) / span).astype(np.float32)

    def from_float(self, values: np.ndarray) -> np.ndarray:
        """Returns values in 0..1 in the file's range and type: the inverse of `to_float`."""
        if self.channels.dtype == bool:
            return values >= 0.5
        values = values.astype(np.float64) * (self.white - self.black) + self.black
        return (values if self.channels.dtype == np.float32 else values.round()).astype(self.channels.dtype)

    def to_pil(self) -> Image.Image:
        """Returns the image as the camera was held, of mode L or RGB, with transparent parts on white."""
        image = _to_eight_bits(apply_orientation(self.pil_image))
        return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "1" else "RGB")

    def preview(self, max_side: int) -> np.ndarray:
        """Returns the image shrunk to sides of at most `max_side`, float32 [height, width, 1 or 3] in 0..1."""
        scale = min(1.0, max_side / max(self.size))
        size = [max(1, round(side * scale)) for side in reversed(self.size)]
        planes = [self.to_float(channel) for channel in range(3 if self.channels.shape[2] == 3 else 1)]
        resized = [np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX)) for plane in planes]
        return np.stack(resized, axis=-1).clip(0, 1)

    def save(self, path: Path, channels: np.ndarray) -> None:
        """Writes channels, [height, width, channels] as of `from_float`, in this image's format and mode.

        Transparency, color profile and EXIF data are those of this image.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        channels = self._restore_transparent_color(channels)
        values = np.concatenate([channels, self.alpha.astype(channels.dtype)], axis=-1)
        if values.dtype == np.uint16 and values.shape[-1] > 1:
            if self.pil_image.format == "PNG":
                path.write_bytes(tf.io.encode_png(values).numpy())
            else:
                tifffile.imwrite(path, values, photometric="rgb" if values.shape[-1] > 2 else "minisblack")
            return
        kept = ("icc_profile", "exif", "dpi", "transparency")
        options = {key: value for key, value in self.pil_image.info.items() if key in kept}
        if self.pil_image.format in ("JPEG", "WEBP"):
            options["quality"] = 95
        _to_mode(values, self.pil_image).save(path, self.pil_image.format, **options)

    def _restore_transparent_color(self, channels: np.ndarray) -> np.ndarray:
        """Returns channels in which exactly those pixels have the transparent color, if any, that had it before."""
        color = self.pil_image.info.get("transparency")
        if color is None or self.pil_image.mode not in ("L", "RGB"):
            return channels
        was_transparent = (self.channels == color).all(axis=-1, keepdims=True)
        is_transparent = (channels == color).all(axis=-1, keepdims=True)
        return np.where(was_transparent, self.channels, channels ^ is_transparent)


def read_image(path: Path) -> DecodedImage:
    """Reads an image file.

    Raises:
      UnreadableImageError: The file is not an image, damaged, too large or of an unsupported kind.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `_decode` checks the size itself.
            return _decode(path)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("empty" if path.stat().st_size == 0 else "not an image") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"declares more than {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        # Decoders raise errors of many classes for corrupt files, and one file must not end the work on the others.
        raise UnreadableImageError(f"damaged: {' '.join(str(error).split())}") from error


def _decode(path: Path) -> DecodedImage:
    with Image.open(path) as image:
        width, height = image.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            raise UnreadableImageError(
                f"declares {width} x {height} pixels; the maximum is {MAX_SIDE:,} per side and {MAX_PIXELS:,} in total"
            )
        if image.format not in FORMATS:
            raise UnreadableImageError(f"unsupported format {image.format}; supported: {', '.join(FORMATS)}")
        if getattr(image, "n_frames", 1) > 1:
            raise UnreadableImageError(f"has {image.n_frames} frames; only single-frame images are supported")
        deep = _read_deep_color(image, path)
        image.load()
    values = _to_array(image) if deep is None else deep
    has_alpha = values.shape[-1] in (2, 4) and (deep is not None or image.mode in ("LA", "RGBA", "P"))
    channels, alpha = np.split(values, [values.shape[-1] - has_alpha], axis=-1)
    return DecodedImage(channels, alpha, *_value_range(channels), image)


def _read_deep_color(image: Image.Image, path: Path) -> np.ndarray | None:
    """Returns uint16 [height, width, 2 to 4] of an image with several channels of 16 bits, None for any other."""
    if image.format == "PNG":
        content = path.read_bytes()
        # Byte 25 of a PNG is its bit depth, byte 26 its color type: 0 gray, 2 RGB, 4 gray and alpha, 6 RGBA.
        return tf.io.decode_png(content, dtype=tf.uint16).numpy() if content[24] == 16 and content[25] else None
    bits = image.tag_v2.get(_BITS_PER_SAMPLE, ()) if image.format == "TIFF" else ()
    return tifffile.imread(path) if len(bits) > 1 and set(bits) == {16} else None


def _to_array(image: Image.Image) -> np.ndarray:
    """Returns an image's values in its own depth, [height, width, channels], alpha last."""
    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    values = np.asarray(image)
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise UnreadableImageError("contains values that are not finite")
        values = values.astype(np.float32)
    return values.reshape(*values.shape[:2], -1)


def apply_orientation(image: Image.Image) -> Image.Image:
    """Returns an image as the camera was held, or as it is stored where its Exif data can't be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - Damaged Exif data raises errors of many classes.
        return image


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, np.float64)
        if image.mode.startswith("I"):
            values = values / 256
        elif values.max(initial=0) <= 1:
            values = values * 255
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def _value_range(channels: np.ndarray) -> tuple[float, float]:
    """Returns the values of black and white."""
    if channels.dtype == bool:
        return 0.0, 1.0
    if channels.dtype.kind == "u":
        return 0.0, float(np.iinfo(channels.dtype).max)
    # 32-bit files declare no range: 0..1 is usual for floats, 16 bits for integers, if all values are within.
    low, high, usual = float(channels.min()), float(channels.max()), 1.0 if channels.dtype.kind == "f" else 65_535.0
    return (0.0, usual) if low >= 0 and high <= usual else (low, high)


def _to_mode(values: np.ndarray, original: Image.Image) -> Image.Image:
    """Returns values [height, width, channels] as an image of the original's mode: the inverse of `_to_array`."""
    mode = original.mode
    if mode == "P":
        return _quantize_to_palette(values, original)
    if mode in ("1", "L", "I", "F") or mode.startswith("I;16"):
        return to_pil(values.astype(np.asarray(original).dtype))
    return Image.frombytes(mode, original.size, np.ascontiguousarray(values).tobytes())


def _quantize_to_palette(values: np.ndarray, original: Image.Image) -> Image.Image:
    """Returns the nearest colors of the original's palette; exactly those pixels are transparent that were before."""
    nearest = Image.fromarray(values[..., :3]).quantize(palette=original, dither=Image.Dither.NONE)
    before, after = np.asarray(original), np.asarray(nearest)
    # Either one index of the palette is transparent, or each has an alpha.
    transparency, opaque = original.info.get("transparency", b""), np.full(256, True)
    is_index = isinstance(transparency, int)
    opaque[[transparency] if is_index else [index for index, alpha in enumerate(transparency) if alpha < 255]] = False
    image = Image.fromarray(np.where(opaque[before] & opaque[after], after, before))
    image.putpalette(original.getpalette("RGB"), "RGB")
    return image
