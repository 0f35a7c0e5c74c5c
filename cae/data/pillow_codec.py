"""Image files that Pillow reads and writes without loss of depth: PNG, JPEG, BMP, GIF, WebP and PPM."""

import functools
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import spatial

from cae.data.arrays import to_pil
from cae.data.decoded_image import DecodedImage, UnreadableImageError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")

JPEG_QUALITY = 95

# What is kept of a file beside its pixels.
_KEPT = ("icc_profile", "exif", "xmp", "comment", "dpi", "transparency")

_EXIF_ORIENTATION = 0x0112


def accepts(header: bytes) -> bool:
    """Returns True: whether Pillow knows the file is seen when it is decoded."""
    return True


def decode(path: Path, check_size: Callable[[int, int], None]) -> DecodedImage:
    """Decodes the first frame of a file; `check_size` is called with width and height before."""
    warnings = ()
    with Image.open(path) as image:
        check_size(*image.size)
        # A JPEG that has other pictures behind the first one, such as a phone's previews and depth maps.
        format_ = "JPEG" if image.format == "MPO" else image.format
        if format_ not in FORMATS:
            raise UnreadableImageError(f"unsupported format {image.format}; supported: {', '.join(FORMATS)}")
        if format_ == "PPM":
            _refuse_deep_ppm(image)
        num_frames = getattr(image, "n_frames", 1)
        if num_frames > 1 and image.format != "MPO":
            warnings = (f"has {num_frames} frames, of which the first is used",)
        image.load()
        options = {key: value for key, value in image.info.items() if key in _KEPT}
        if format_ == "WEBP" and _is_lossless_webp(path):
            options |= {"lossless": True, "exact": True}
    values = _to_array(image)
    has_alpha = values.shape[-1] == (4 if image.mode in ("RGBA", "P") else 2)
    channels, alpha = np.split(values, [values.shape[-1] - has_alpha], axis=-1)
    if not has_alpha and image.has_transparency_data:  # One color is transparent.
        opacity = np.asarray(image.convert("RGBA"))[..., 3]
    else:
        opacity = alpha[..., 0] if has_alpha else None
    return DecodedImage(
        channels=channels,
        alpha=opacity,
        black=1 if image.mode == "CMYK" else 0,  # Of inks.
        white=0 if image.mode == "CMYK" else 1,
        format=format_,
        mode=image.mode,
        encode=functools.partial(_encode, image, format_, options, channels, alpha),
        orientation=read_orientation(image),
        warnings=warnings,
    )


def read_orientation(image: Image.Image) -> int:
    """Returns Exif's orientation of an image; 1, upright, where it has none or none that can be read."""
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Damaged Exif data raises errors of many classes.
        return 1
    return orientation if orientation in range(1, 9) else 1


def restore_transparent_color(
    original: np.ndarray, channels: np.ndarray, color: int | tuple[int, ...] | None
) -> np.ndarray:
    """Returns channels in which exactly those pixels have the transparent color, if there is one, that had it before.

    Args:
      original: The channels before, [height, width, channels].
      channels: The channels after.
      color: The transparent color.
    """
    if color is None:
        return channels
    was_transparent = (original == color).all(axis=-1, keepdims=True)
    is_transparent = (channels == color).all(axis=-1, keepdims=True)
    # The lowest bit distinguishes other pixels from the transparent color.
    return np.where(was_transparent, original, channels ^ is_transparent)


def _refuse_deep_ppm(image: Image.Image) -> None:
    """Raises `UnreadableImageError` for more than 8 bits of color, binary or as text, of which Pillow would keep 8."""
    decoder_args = image.tile[0][3]  # A mode, and the largest value unless the values are taken as they are.
    if image.mode != "I" and isinstance(decoder_args, tuple) and decoder_args[1] > 255:
        raise UnreadableImageError("color PPM of 16 bits is not supported; save it as PNG or TIFF")


def _is_lossless_webp(path: Path) -> bool:
    with path.open("rb") as file:
        content = file.read(2**20)
    start = len("RIFF....WEBP")
    while start + 8 <= len(content):
        name, size = content[start : start + 4], int.from_bytes(content[start + 4 : start + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8L"
        start += 8 + size + size % 2
    return False


def _to_array(image: Image.Image) -> np.ndarray:
    """Returns an image's values in its own depth, [height, width, channels], alpha last."""
    if image.mode == "P":
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    values = np.asarray(image)
    if image.mode == "I":  # Of PGM, whose values Pillow scales to 16 bits.
        values = values.astype(np.uint16)
    return values.reshape(*values.shape[:2], -1)


def _encode(
    original: Image.Image,
    format_: str,
    options: Mapping[str, Any],
    original_channels: np.ndarray,
    alpha: np.ndarray,
    channels: np.ndarray,
) -> bytes:
    if original.mode in ("L", "RGB"):
        channels = restore_transparent_color(original_channels, channels, options.get("transparency"))
    values = np.concatenate([channels, alpha.astype(channels.dtype)], axis=-1)
    if format_ in ("JPEG", "WEBP"):
        options = {"quality": JPEG_QUALITY, **options}
    file = io.BytesIO()
    _to_mode(values, original).save(file, format_, **options)
    return file.getvalue()


def _to_mode(values: np.ndarray, original: Image.Image) -> Image.Image:
    """Returns values [height, width, channels] as an image of the original's mode: the inverse of `_to_array`."""
    if original.mode == "P":
        return quantize_to_palette(values, original)
    if original.mode in ("1", "L", "I", "F") or original.mode.startswith("I;16"):
        return to_pil(values.astype(np.asarray(original).dtype))
    return Image.frombytes(original.mode, original.size, np.ascontiguousarray(values).tobytes())


def quantize_to_palette(values: np.ndarray, original: Image.Image) -> Image.Image:
    """Returns the nearest colors of the original's palette; exactly those pixels are transparent that were before.

    Args:
      values: [height, width, 3 or 4], uint8; alpha is not used.
      original: An image of mode P.
    """
    before, colors = np.asarray(original), np.asarray(original.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used, positions = np.unique(values[..., :3].reshape(-1, 3), axis=0, return_inverse=True)
    nearest = spatial.KDTree(colors).query(used)[1].astype(np.uint8)[positions].reshape(before.shape)
    # Several entries may have the same color.
    is_unchanged = (colors[np.minimum(before, len(colors) - 1)] == values[..., :3]).all(axis=-1)
    after = np.where(is_unchanged, before, nearest)
    # Either one index of the palette is transparent, or each has an alpha.
    transparency, opaque = original.info.get("transparency", b""), np.full(256, True)
    is_index = isinstance(transparency, int)
    opaque[[transparency] if is_index else [index for index, alpha in enumerate(transparency) if alpha < 255]] = False
    image = Image.fromarray(np.where(opaque[before] & opaque[after], after, before))
    image.putpalette(original.getpalette("RGB"), "RGB")
    return image
