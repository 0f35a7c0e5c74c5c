"""TIFF files, read by their tags: any depth, planes together or apart, inks, palettes, and every usual compression."""

import contextlib
import functools
import io
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG

from cae.data.decoded_image import DecodedImage, UnreadableImageError, mode_name
from cae.data.pillow_codec import quantize_to_palette

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_NUM_CHANNELS = {
    PHOTOMETRIC.MINISWHITE: 1, PHOTOMETRIC.MINISBLACK: 1, PHOTOMETRIC.PALETTE: 1, PHOTOMETRIC.RGB: 3,
    PHOTOMETRIC.YCBCR: 3, PHOTOMETRIC.SEPARATED: 4,
}  # fmt: skip
"""Number of channels of the color spaces that are read, without alpha."""

# What else is written with the compression that it had: those that lose nothing, whatever the type of the values.
_LOSSLESS = {
    COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.DEFLATE, COMPRESSION.ADOBE_DEFLATE, COMPRESSION.PACKBITS,
    COMPRESSION.LZMA, COMPRESSION.ZSTD,
}  # fmt: skip

# Description, maker, model, orientation, software, artist, copyright, XMP.
_KEPT_TAGS = (270, 271, 272, 274, 305, 315, 33432, 700)

_ORIENTATION, _INK_SET = 274, 332

_ASCII = tifffile.DATATYPE.ASCII


def accepts(header: bytes) -> bool:
    """Returns whether these first bytes of a file are those of a TIFF."""
    return header.startswith(_SIGNATURES)


def decode(path: Path, check_size: Callable[[int, int], None]) -> DecodedImage:
    """Decodes the first page of a file; `check_size` is called with width and height before."""
    with _collect_log() as messages, tifffile.TiffFile(path) as file:
        page, num_pages = _find_first_page(file)
        check_size(page.imagewidth, page.imagelength)
        num_channels = _check_kind(page)
        messages.extend(_check_extents(file, page))
        values = _read_values(page)
        options = _writing_options(file, page)
    if num_pages > 1:
        messages.append(f"has {num_pages} pages, of which the first is used")
    stored, extra = np.split(values, [num_channels], axis=-1)
    alphas = [
        index
        for index, kind in enumerate(page.extrasamples)
        if kind in (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
    ]
    if extra.shape[-1] > len(alphas):
        messages.append("has an additional channel, which is left as it is")
    is_dark = page.photometric in (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.SEPARATED)
    palette = _make_palette(stored[..., 0], page) if page.photometric == PHOTOMETRIC.PALETTE else None
    channels = stored if palette is None else np.asarray(palette.convert("RGB"))
    return DecodedImage(
        channels=channels,
        alpha=_to_opacity(extra[..., alphas[0]]) if alphas else None,
        black=1 if is_dark else 0,
        white=0 if is_dark else 1,
        format="TIFF",
        mode=mode_name(channels, bool(alphas)) if palette is None else "P",
        encode=functools.partial(_encode, extra, palette, options),
        orientation=_orientation(page),
        premultiplied=bool(alphas) and page.extrasamples[alphas[0]] == EXTRASAMPLE.ASSOCALPHA,
        warnings=tuple(messages),
    )


def _find_first_page(file: tifffile.TiffFile) -> tuple[tifffile.TiffPage, int]:
    """Returns the first page of full resolution, and the number of those."""
    pages, offsets = [], set()
    for page in file.pages:
        if page.offset in offsets:  # tifffile would follow a page that is its own successor for ever.
            raise UnreadableImageError("damaged: its pages are a loop")
        offsets.add(page.offset)
        if not page.is_reduced:
            pages.append(page)
    if not pages:
        raise UnreadableImageError("this kind of TIFF is not supported: it contains a reduced preview only")
    return pages[0].aspage(), len(pages)


def _check_kind(page: tifffile.TiffPage) -> int:
    """Returns the number of channels without alpha; raises `UnreadableImageError` for a kind that is not supported."""
    photometric, problem = page.photometric, None
    num_channels = _NUM_CHANNELS.get(photometric, 0)
    num_extra = page.samplesperpixel - num_channels
    if not num_channels or (photometric == PHOTOMETRIC.YCBCR and page.compression != COMPRESSION.JPEG):
        problem = f"photometric interpretation {getattr(photometric, 'name', photometric)}"
    elif photometric == PHOTOMETRIC.SEPARATED and page.tags.valueof(_INK_SET, 1) != 1:
        problem = "inks other than CMYK"
    elif page.dtype is None or page.dtype.kind not in "biuf":
        problem = f"values of type {page.dtype}"
    elif not 0 <= num_extra <= 1 or page.axes not in ("YX", "YXS", "SYX"):
        problem = f"{page.samplesperpixel} channels, axes {page.axes}"
    elif photometric == PHOTOMETRIC.PALETTE and (page.dtype != np.uint8 or num_extra or page.colormap is None):
        problem = "a palette of more than 256 colors"
    if problem:
        raise UnreadableImageError(f"this kind of TIFF is not supported: {problem}")
    return num_channels


def _check_extents(file: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[str]:
    """Yields warnings of what hints at damage.

    Raises:
      UnreadableImageError: Bytes of the image are missing; decoders would read a part of it.
    """
    codes = [tag.code for tag in page.tags]
    if codes != sorted(codes):
        yield "may be damaged: its tags are not in ascending order"
    segments = [*zip(page.dataoffsets, page.databytecounts)]
    if not segments or not all(count and offset + count <= file.filehandle.size for offset, count in segments):
        raise UnreadableImageError("damaged: it ends within the image")
    if page.compression == COMPRESSION.NONE:
        num_bytes = sum(page.databytecounts)
    elif page.compression == COMPRESSION.LZW:
        # tifffile ignores what is invalid in a segment after its first bytes.
        num_bytes = sum(len(imagecodecs.lzw_decode(_read_bytes(file, *segment))) for segment in segments)
    else:
        return
    num_planes, num_samples = page.samplesperpixel, 1
    if page.planarconfig == PLANARCONFIG.CONTIG:
        num_planes, num_samples = num_samples, num_planes
    row_bytes = -(-page.imagewidth * page.bitspersample * num_samples // 8)
    needed = row_bytes * page.imagelength * num_planes
    if num_bytes < needed:
        raise UnreadableImageError("damaged: it has fewer bytes than its size needs")
    if num_bytes > needed and not page.is_tiled:
        yield "may be damaged: it has more bytes than its size needs"


def _read_bytes(file: tifffile.TiffFile, offset: int, count: int) -> bytes:
    file.filehandle.seek(offset)
    return file.filehandle.read(count)


def _read_values(page: tifffile.TiffPage) -> np.ndarray:
    """Returns a page's values, [height, width, samples], unsigned ones with all bits of their type."""
    values = page.asarray()
    if page.axes == "SYX":
        values = np.moveaxis(values, 0, -1)
    values = np.ascontiguousarray(values.reshape(*values.shape[:2], -1))
    bits = page.bitspersample
    if (
        values.dtype in (np.uint8, np.uint16)
        and bits < 8 * values.dtype.itemsize
        and page.photometric != PHOTOMETRIC.PALETTE
    ):
        scale = np.iinfo(values.dtype).max / (2**bits - 1)
        values = (values * scale).round().astype(values.dtype)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _to_opacity(alpha: np.ndarray) -> np.ndarray:
    """Returns an alpha channel as uint8."""
    if alpha.dtype == np.uint16:
        return (alpha >> 8).astype(np.uint8)
    limit = 1 if alpha.dtype.kind in "bf" else np.iinfo(alpha.dtype).max
    return (255 * (alpha / limit).clip(0, 1)).round().astype(np.uint8)


def _make_palette(indices: np.ndarray, page: tifffile.TiffPage) -> Image.Image:
    """Returns indices [height, width] as an image of mode P."""
    colors = np.asarray(page.colormap)
    # By the standard 16 bits, but some writers use 8.
    colors = (colors >> 8 if colors.max() > 255 else colors).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colors.T.tobytes(), "RGB")
    return image


def _orientation(page: tifffile.TiffPage) -> int:
    value = page.tags.valueof(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _writing_options(file: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, Any]:
    """Returns arguments of `tifffile.imwrite` with which another image is written like this page."""
    kept = [page.tags[code] for code in _KEPT_TAGS if code in page.tags]
    is_ycbcr = page.photometric == PHOTOMETRIC.YCBCR
    options = {
        "photometric": PHOTOMETRIC.RGB if is_ycbcr else page.photometric,
        "planarconfig": page.planarconfig if page.samplesperpixel > 1 else None,
        "extrasamples": page.extrasamples or None,
        "compression": page.compression if page.compression in _LOSSLESS else COMPRESSION.ADOBE_DEFLATE,
        "iccprofile": page.tags.valueof(34675),
        "extratags": [(tag.code, tag.dtype, tag.count, _read_tag(file, tag), True) for tag in kept],
    }
    if (resolution := page.get_resolution()) != (1, 1):
        options |= {"resolution": resolution, "resolutionunit": page.resolutionunit}
    return options | {"byteorder": file.byteorder, "bigtiff": file.is_bigtiff}


def _read_tag(file: tifffile.TiffFile, tag: tifffile.TiffTag) -> Any:
    """Returns a tag's value; of a text its bytes, in whatever encoding: tifffile writes no other text than ASCII."""
    return _read_bytes(file, tag.valueoffset, tag.count) if tag.dtype == _ASCII else tag.value


def _encode(extra: np.ndarray, palette: Image.Image | None, options: dict[str, Any], channels: np.ndarray) -> bytes:
    options, file = dict(options), io.BytesIO()
    if palette is not None:
        image = quantize_to_palette(channels, palette)
        channels = np.asarray(image)[..., None]
        colors = np.asarray(palette.getpalette("RGB"), np.uint16).reshape(-1, 3).T
        options["colormap"] = 257 * np.pad(colors, ((0, 0), (0, 256 - colors.shape[1])))
    values = np.concatenate([channels, extra], axis=-1)
    if options["planarconfig"] == PLANARCONFIG.SEPARATE:
        values = np.moveaxis(values, -1, 0)
    elif values.shape[-1] == 1:
        values = values[..., 0]
    byteorder, bigtiff = options.pop("byteorder"), options.pop("bigtiff")
    with tifffile.TiffWriter(file, bigtiff=bigtiff, byteorder=byteorder) as writer:
        writer.write(np.ascontiguousarray(values), metadata=None, software=False, **options)
    return file.getvalue()


# --- Warnings of tifffile ---------------------------------------------------------------------------------------------

_collected = threading.local()


@contextlib.contextmanager
def _collect_log() -> Iterator[list[str]]:
    """Yields a list of what tifffile logs in this thread: it continues after most damage."""
    _collected.messages = messages = []
    try:
        yield messages
    finally:
        _collected.messages = None


def _collect(record: logging.LogRecord) -> bool:
    """Keeps a record of a thread that collects them from being printed."""
    messages = getattr(_collected, "messages", None)
    if messages is not None and record.levelno >= logging.WARNING:
        messages.append("may be damaged: " + " ".join(record.getMessage().split()))
    return messages is None


logging.getLogger("tifffile").addFilter(_collect)
