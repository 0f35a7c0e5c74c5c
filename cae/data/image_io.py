"""Image files of any supported kind, read with their own size, depth and mode, and written back in the same."""

import errno
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from cae.data import pillow_codec, png16_codec, tiff_codec
from cae.data.decoded_image import DecodedImage, UnreadableImageError, with_background, with_range

__all__ = ["MAX_PIXELS", "DecodedImage", "UnreadableImageError", "read_image"]

# Images whose header declares more pixels, 89 million, are not decoded.
MAX_PIXELS = Image.MAX_IMAGE_PIXELS

# Pixels; the limit of JPEG and most other formats.
MAX_SIDE = 65_500

HEADER_BYTES = 32

_RESOURCE_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors that are not the file's: it can be read later."""


def read_image(path: Path) -> DecodedImage:
    """Reads an image file; of several frames or pages the first.

    Raises:
      UnreadableImageError: The file is not an image, damaged, too large or of an unsupported kind.
      OSError: The process has too many open files, or the machine too little memory.
    """
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError as error:
        if error.errno in _RESOURCE_ERRNOS:
            raise
        raise UnreadableImageError(f"cannot be opened: {error.strerror}") from error
    try:
        codecs = (tiff_codec, png16_codec, pillow_codec)
        codec = next(codec for codec in codecs if codec.accepts(header))
        return with_background(with_range(codec.decode(path, _check_size)))
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError("not an image" if header else "empty") from error
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"declares more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise UnreadableImageError("too large for the memory") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _RESOURCE_ERRNOS:
            raise
        # Decoders raise errors of many classes for corrupt files, and one file must not end the work on the others.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImageError(f"damaged: {reason}") from error


def _check_size(width: int, height: int) -> None:
    """Raises `UnreadableImageError` for an image that is too large to be decoded."""
    if not 0 < width * height <= MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise UnreadableImageError(
            f"declares {width} x {height} pixels; the maximum is {MAX_SIDE:,} per side and {MAX_PIXELS:,} in total"
        )
