"""JPEG and WebP files of images: how many bytes they take, how many of those are headers, and what is left."""

import dataclasses
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, features

from cae.data.arrays import to_pil
from cae.data.resizing import MODES

QUALITIES = (1, 5, 10, 20, 30, 50, 70, 90)

_SOI_BYTES = _EOI_BYTES = 2
_START_OF_SCAN = 0xDA
_RIFF_BYTES = len("RIFF....WEBP") + len("VP8 ....")
_VP8_FRAME_BYTES = 10


@dataclasses.dataclass(frozen=True)
class EncodedImages:
    """Images that were encoded and decoded again.

    Attributes:
      decoded: uint8 [n, height, width, channels].
      num_bytes: The bytes of each file, int [n].
      num_header_bytes: Those of them that hold no pixels, int [n].
    """

    decoded: np.ndarray
    num_bytes: np.ndarray
    num_header_bytes: np.ndarray


def available_codecs() -> tuple[str, ...]:
    """Returns the names of those codecs that this installation of Pillow has."""
    return tuple(name for name in HEADER_COUNTS if name == "JPEG" or features.check(name.lower()))


def encode_and_decode(images: np.ndarray, codec: str, quality: int) -> EncodedImages:
    """Encodes images as files, by Pillow's default settings but the quality, and decodes these.

    Args:
      images: uint8 [n, height, width, 1 or 3].
      codec: A name of `available_codecs`.
      quality: 1 to 100.
    """
    decoded, sizes, count_header_bytes = np.empty_like(images), [], HEADER_COUNTS[codec]
    for position, image in enumerate(images):
        file = io.BytesIO()
        to_pil(image).save(file, codec, quality=quality)
        sizes.append((file.tell(), count_header_bytes(file.getvalue())))
        # WebP has no gray images.
        decoded[position] = np.asarray(Image.open(file).convert(MODES[image.shape[-1]])).reshape(image.shape)
    return EncodedImages(decoded, *np.array(sizes).T)


def count_jpeg_header_bytes(content: bytes) -> int:
    """Returns the bytes of a JPEG file of one scan but the entropy-coded ones: tables, markers and sizes."""
    position, marker = _SOI_BYTES, None
    while marker != _START_OF_SCAN:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        position += 2 + length  # The length includes itself, but not the marker.
    return position + _EOI_BYTES


def count_webp_header_bytes(content: bytes) -> int:
    """Returns the bytes of a lossy WebP file but the compressed ones: those of RIFF, and the start of the frame.

    Probabilities and filters of the frame are compressed, and count as pixels.
    """
    padding = (len(content) - _RIFF_BYTES) - int.from_bytes(content[_RIFF_BYTES - 4 : _RIFF_BYTES], "little")
    return _RIFF_BYTES + _VP8_FRAME_BYTES + padding


HEADER_COUNTS: dict[str, Callable[[bytes], int]] = {"JPEG": count_jpeg_header_bytes, "WebP": count_webp_header_bytes}
"""What counts the header bytes of a file, by the name of the codec."""
