"""Image files of every format, mode, compression and orientation that libraries write, with what they contain.

Values are worked out here, not by the reader: a case says what each of its values is in 0..1.
"""

import dataclasses
import io
import itertools

import imagecodecs
import numpy as np
import tifffile
from PIL import Image

HEIGHT, WIDTH = 11, 14

RANDOM = np.random.default_rng(0)


def draw(maximum, *shape):
    """Returns integers in 0..maximum, [height, width, *shape], of which the extremes occur."""
    values = RANDOM.integers(0, maximum + 1, (HEIGHT, WIDTH, *shape))
    values.flat[:2] = 0, maximum
    return values


BITS = draw(1)
GRAY, COLOR, INKS, ALPHA = (draw(255, *shape) for shape in ((), (3,), (4,), ()))
GRAY16, COLOR16, INKS16, ALPHA16 = (draw(65_535, *shape) for shape in ((), (3,), (4,), ()))
# Changes slowly, so that lossy compression hardly changes it.
SMOOTH = np.dstack([*np.meshgrid(np.linspace(20, 230, WIDTH), np.linspace(20, 230, HEIGHT)), np.full_like(GRAY, 90)])


@dataclasses.dataclass
class Case:
    """A file: its content; its channels in 0..1, bright being 1, as stored; its alpha; orientation; largest error."""

    content: bytes
    channels: np.ndarray
    alpha: np.ndarray | None = None
    orientation: int = 1
    tolerance: float = 1e-6
    is_guessed: bool = False

    def __post_init__(self):
        self.channels = np.asarray(self.channels, np.float64).reshape(HEIGHT, WIDTH, -1)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def save(values, format_, mode=None, **options):
    file = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(values)
    (image.convert(mode) if mode else image).save(file, format_, **options)
    return file.getvalue()


def tiff(values, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, np.ascontiguousarray(values), metadata=None, **options)
    return file.getvalue()


def u8(values):
    return np.asarray(values, np.uint8)


def u16(values):
    return np.asarray(values, np.uint16)


def palette_image():
    """An image of 256 colors, and its colors in 0..1."""
    image = Image.fromarray(u8(GRAY))
    colors = RANDOM.integers(0, 256, (256, 3))
    image.putpalette(u8(colors).tobytes(), "RGB")
    return image, colors[GRAY] / 255


def pillow_cases():
    """Yields (name, case) of the formats that Pillow writes, TIFF excepted."""
    bits, gray, color = Image.fromarray(BITS.astype(bool)), u8(GRAY), u8(COLOR)
    palette, palette_colors = palette_image()
    gray_alpha, color_alpha = np.dstack([gray, ALPHA.astype(np.uint8)]), np.dstack([color, ALPHA.astype(np.uint8)])
    for format_ in ("PNG", "BMP", "PPM", "GIF"):
        # Of GIF, Pillow reads a palette.
        yield f"{format_} L", Case(save(gray, format_), np.dstack([GRAY] * 3 if format_ == "GIF" else [GRAY]) / 255)
        yield f"{format_} 1", Case(save(bits, format_), BITS)
        if format_ != "PPM":
            yield f"{format_} P", Case(save(palette, format_), palette_colors)
        if format_ != "GIF":
            yield f"{format_} RGB", Case(save(color, format_), COLOR / 255)
    yield "PNG LA", Case(save(gray_alpha, "PNG"), GRAY / 255, ALPHA)
    yield "PNG RGBA", Case(save(color_alpha, "PNG"), COLOR / 255, ALPHA)
    yield "PNG L transparent color", Case(save(gray, "PNG", transparency=7), GRAY / 255, 255 * (GRAY != 7))
    yield "PNG I;16", Case(save(u16(GRAY16), "PNG"), GRAY16 / 65_535)
    yield "PPM I;16", Case(save(u16(GRAY16), "PPM"), GRAY16 / 65_535)
    two_colors = Image.fromarray(u8(BITS))
    two_colors.putpalette([255, 0, 0, 0, 0, 255], "RGB")
    yield "PNG 1 bit palette", Case(save(two_colors, "PNG", bits=1), np.dstack([1 - BITS, 0 * BITS, BITS]))
    for shape, parts in {"L": [GRAY16], "LA": [GRAY16, ALPHA16], "RGB": [COLOR16], "RGBA": [COLOR16, ALPHA16]}.items():
        alpha = ALPHA16 >> 8 if len(parts) > 1 else None
        content = imagecodecs.png_encode(u16(np.dstack(parts)))
        yield f"PNG {shape} uint16", Case(content, parts[0] / 65_535, alpha)
    for mode, options in itertools.product(("RGB", "RGBA"), ({"lossless": True, "exact": True}, {"quality": 95})):
        values, alpha, tolerance = (SMOOTH, GRAY // 2 + 99, 0.1) if "quality" in options else (COLOR, ALPHA, 1e-6)
        content = save(u8(np.dstack([values, alpha]) if mode == "RGBA" else values), "WEBP", **options)
        expected = alpha if mode == "RGBA" else None
        yield f"WEBP {mode} {next(iter(options))}", Case(content, values / 255, expected, tolerance=tolerance)
    smooth = u8(SMOOTH)
    for name, options in {"": {}, " progressive": {"progressive": True}, " 4:4:4": {"subsampling": 0}}.items():
        yield f"JPEG RGB{name}", Case(save(smooth, "JPEG", quality=95, **options), smooth / 255, tolerance=0.1)
    yield "JPEG L", Case(save(smooth[..., 0], "JPEG", quality=95), smooth[..., 0] / 255, tolerance=0.1)
    inks = u8(np.dstack([SMOOTH, SMOOTH[..., 0]]))
    yield "JPEG CMYK", Case(save(Image.fromarray(inks, "CMYK"), "JPEG", quality=95), 1 - inks / 255, tolerance=0.1)
    for format_, orientation in itertools.product(("JPEG", "PNG", "WEBP"), range(1, 9)):
        options = {"lossless": True, "exact": True} if format_ == "WEBP" else {"quality": 95}
        content = save(smooth, format_, exif=exif(orientation), **options)
        yield (
            f"{format_} orientation {orientation}",
            Case(content, smooth / 255, orientation=orientation, tolerance=0.1 if format_ == "JPEG" else 1e-6),
        )


def pillow_tiff_cases():
    """Yields (name, case) of the TIFF files that Pillow writes with libtiff."""
    bits, (palette, palette_colors) = Image.fromarray(BITS.astype(bool)), palette_image()
    modes = {
        "1": (bits, BITS, ("raw", "group3", "group4", "tiff_ccitt", "packbits", "tiff_lzw")),
        "L": (u8(GRAY), GRAY / 255, ("raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "lzma", "zstd")),
        "P": (palette, palette_colors, ("raw", "tiff_lzw")),
        "RGB": (u8(COLOR), COLOR / 255, ("raw", "tiff_lzw", "tiff_deflate")),
        "CMYK": (Image.fromarray(u8(INKS), "CMYK"), 1 - INKS / 255, ("raw", "tiff_lzw")),
        "I;16": (u16(GRAY16), GRAY16 / 65_535, ("raw", "tiff_lzw")),
        "F": (np.float32(GRAY16 / 65_535), GRAY16 / 65_535, ("raw",)),
        "I": (np.int32(GRAY), GRAY / 255, ("raw",)),
    }  # fmt: skip
    for mode, (image, channels, compressions) in modes.items():
        for compression in compressions:
            content = save(image, "TIFF", compression=None if compression == "raw" else compression)
            yield f"TIFF Pillow {mode} {compression}", Case(content, channels, is_guessed=mode == "I")
    for orientation in range(1, 9):
        content = save(u8(COLOR), "TIFF", exif=exif(orientation))
        yield f"TIFF orientation {orientation}", Case(content, COLOR / 255, orientation=orientation)
    content = save(u8(SMOOTH), "TIFF", compression="jpeg", quality=95)
    yield "TIFF Pillow RGB jpeg", Case(content, SMOOTH / 255, tolerance=0.1)


def tifffile_cases():
    """Yields (name, case) of the TIFF files that tifffile writes."""
    lossless = ("none", "lzw", "packbits", "deflate", "zstd", "lzma", "jpegxl", "lerc")
    for compression in lossless:
        options = {"compression": compression}
        yield f"TIFF uint8 {compression}", Case(tiff(u8(GRAY), **options), GRAY / 255)
        yield f"TIFF uint16 {compression}", Case(tiff(u16(GRAY16), **options), GRAY16 / 65_535)
        rgb = options | {"photometric": "rgb"}
        if compression != "lerc":
            yield f"TIFF RGB uint16 {compression}", Case(tiff(u16(COLOR16), **rgb), COLOR16 / 65_535)
            planes = tiff(np.moveaxis(u16(COLOR16), -1, 0), planarconfig="separate", **rgb)
            yield f"TIFF planes apart uint16 {compression}", Case(planes, COLOR16 / 65_535)
    for kind in ("float16", "float32", "float64"):
        tolerance = 1e-3 if kind == "float16" else 1e-6
        yield f"TIFF {kind}", Case(tiff((GRAY16 / 65_535).astype(kind)), GRAY16 / 65_535, tolerance=tolerance)
        yield (
            f"TIFF RGB {kind}",
            Case(tiff((COLOR16 / 65_535).astype(kind), photometric="rgb"), COLOR16 / 65_535, tolerance=tolerance),
        )
        yield f"TIFF {kind} in 0..255", Case(tiff(GRAY.astype(kind)), GRAY / 255, is_guessed=True)
    for kind in ("int16", "int32", "int64", "uint32", "uint64"):
        yield f"TIFF {kind} in 0..255", Case(tiff(GRAY.astype(kind)), GRAY / 255, is_guessed=True)
        if kind != "int16":
            yield f"TIFF {kind} in 0..65535", Case(tiff(GRAY16.astype(kind)), GRAY16 / 65_535, is_guessed=True)
    for kind, maximum, values in (("uint8", 255, GRAY), ("uint16", 65_535, GRAY16)):
        white = tiff((maximum - values).astype(kind), photometric="miniswhite")
        yield f"TIFF white is zero {kind}", Case(white, values / maximum)
    yield "TIFF white is zero bits", Case(tiff(BITS.astype(bool), photometric="miniswhite"), 1 - BITS)
    yield "TIFF bits", Case(tiff(BITS.astype(bool), photometric="minisblack"), BITS)
    yield "TIFF CMYK uint16", Case(tiff(u16(INKS16), photometric="separated"), 1 - INKS16 / 65_535)
    for name, alpha in {"unassalpha": ALPHA16, "unspecified": None}.items():
        for shape, values in {"gray": GRAY16, "RGB": COLOR16}.items():
            photometric = "rgb" if shape == "RGB" else "minisblack"
            options = {"photometric": photometric, "planarconfig": "contig", "extrasamples": [name]}
            content = tiff(u16(np.dstack([values, ALPHA16])), **options)
            expected = None if alpha is None else alpha >> 8
            yield f"TIFF {shape} {name} uint16", Case(content, values / 65_535, expected, is_guessed=alpha is None)
    palette = RANDOM.integers(0, 256, (3, 256))
    content = tiff(u8(GRAY), photometric="palette", colormap=u16(257 * palette))
    yield "TIFF palette", Case(content, palette.T[GRAY] / 255)
    for name, options in {
        "tiles": {"tile": (16, 16)}, "tiles deflate": {"tile": (16, 16), "compression": "deflate"},
        "strips": {"rowsperstrip": 3, "compression": "lzw"}, "big-endian": {"byteorder": ">"},
        "BigTIFF": {"bigtiff": True}, "predictor": {"predictor": True, "compression": "deflate"},
    }.items():  # fmt: skip
        yield f"TIFF {name}", Case(tiff(u16(COLOR16), photometric="rgb", **options), COLOR16 / 65_535)


def all_cases():
    """Returns the cases by name."""
    return dict(itertools.chain(pillow_cases(), pillow_tiff_cases(), tifffile_cases()))
