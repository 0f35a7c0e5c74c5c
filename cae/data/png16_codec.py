"""PNG files of 16 bits, whose colors Pillow would truncate to 8."""

import functools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
from PIL import Image

from cae.data.decoded_image import DecodedImage, mode_name
from cae.data.pillow_codec import read_orientation, restore_transparent_color

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Chunks that say how the image is shown or what it is, beside those that an encoder writes.
_KEPT_CHUNKS = {b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"tRNS", b"eXIf", b"tEXt", b"zTXt", b"iTXt"}


def accepts(header: bytes) -> bool:
    """Returns whether these first bytes of a file are those of a PNG of 16 bits."""
    return header.startswith(_SIGNATURE) and header[24:25] == b"\x10" and len(header) > 25


def decode(path: Path, check_size: Callable[[int, int], None]) -> DecodedImage:
    """Decodes a PNG file; `check_size` is called with width and height before."""
    content = path.read_bytes()
    check_size(*struct.unpack(">2I", content[16:24]))
    values = imagecodecs.png_decode(content)
    values = values.reshape(*values.shape[:2], -1)
    # A transparent color is decoded to an alpha channel, too.
    has_alpha = values.shape[-1] in (2, 4)
    channels, alpha = np.split(values, [values.shape[-1] - has_alpha], axis=-1)
    with Image.open(path) as image:
        orientation, color = read_orientation(image), image.info.get("transparency")
    kept = [chunk for name, chunk in _read_chunks(content) if name in _KEPT_CHUNKS]
    written_alpha = alpha[..., :0] if color is not None else alpha
    return DecodedImage(
        channels=channels,
        alpha=(alpha[..., 0] >> 8).astype(np.uint8) if has_alpha else None,
        black=0,
        white=1,
        format="PNG",
        mode=mode_name(channels, has_alpha=written_alpha.size > 0),
        encode=functools.partial(_encode, channels, written_alpha, color, kept),
        orientation=orientation,
    )


def _encode(
    original: np.ndarray,
    alpha: np.ndarray,
    color: int | tuple[int, ...] | None,
    kept: list[bytes],
    channels: np.ndarray,
) -> bytes:
    channels = restore_transparent_color(original, channels, color)
    content = imagecodecs.png_encode(np.concatenate([channels, alpha], axis=-1))
    header_end = len(_SIGNATURE) + 25  # IHDR is the first chunk, of 13 bytes.
    return content[:header_end] + b"".join(kept) + content[header_end:]


def _read_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the name of each chunk and all of its bytes; the decoder has checked them."""
    start = len(_SIGNATURE)
    while start + 12 <= len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4])
        yield content[start + 4 : start + 8], content[start:end]
        start = end
