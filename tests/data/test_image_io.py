import errno
import io
import os
import struct
from pathlib import Path
from unittest import mock

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from cae.data import image_files, image_io


def gray(random, *shape, top=256, kind=np.uint8):
    return random.integers(0, top, (20, 30, *shape)).astype(kind)


def palette_image(random):
    return Image.fromarray(gray(random, 3)).quantize(16)


# Functions of a random generator by the name of the file.
IMAGES = {
    "black_and_white.png": lambda random: Image.fromarray(gray(random, top=2).astype(bool)),
    "gray.png": lambda random: Image.fromarray(gray(random)),
    "gray_alpha.png": lambda random: Image.fromarray(gray(random, 2), "LA"),
    "palette.png": palette_image,
    "color.png": lambda random: Image.fromarray(gray(random, 3)),
    "color_alpha.png": lambda random: Image.fromarray(gray(random, 4)),
    "gray16.png": lambda random: Image.fromarray(gray(random, top=65536, kind=np.uint16)),
    "gray.tif": lambda random: Image.fromarray(gray(random)),
    "gray16.tif": lambda random: Image.fromarray(gray(random, top=65536, kind=np.uint16)),
    "float.tif": lambda random: Image.fromarray(random.random((20, 30), np.float32)),
    "wide_float.tif": lambda random: Image.fromarray(1000 * random.standard_normal((20, 30)).astype(np.float32)),
    "integers.tif": lambda random: Image.fromarray(gray(random, top=10**6, kind=np.int32)),
    "ink.tif": lambda random: Image.fromarray(gray(random, 4), "CMYK"),
    "color.bmp": lambda random: Image.fromarray(gray(random, 3)),
    "gray.pgm": lambda random: Image.fromarray(gray(random)),
    "gray16.pgm": lambda random: Image.fromarray(gray(random, top=65536, kind=np.int32)),
    "palette.gif": palette_image,
}


def save_unchanged(original, path):
    channels = [original.from_float(original.to_float(channel)) for channel in range(original.channels.shape[2])]
    original.save(path, np.stack(channels, axis=-1))


@pytest.mark.parametrize("name", IMAGES)
def test_unchanged_image_round_trips(name, tmp_path, random):
    IMAGES[name](random).save(tmp_path / name)
    original = image_io.read_image(tmp_path / name)
    save_unchanged(original, tmp_path / "out" / name)
    with Image.open(tmp_path / name) as before, Image.open(tmp_path / "out" / name) as after:
        assert (after.size, after.mode, after.format) == (before.size, before.mode, before.format)
        images = [image.convert("RGB") if image.mode == "P" else image for image in (before, after)]
        np.testing.assert_allclose(*(np.asarray(image, np.float64) for image in images), rtol=1e-5, atol=1e-3)
    planes = [original.to_float(channel) for channel in range(original.channels.shape[2])]
    assert all(plane.dtype == np.float32 and plane.min() >= 0 and plane.max() <= 1 for plane in planes)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_per_channel_are_kept_in_png(channels, tmp_path, random):
    values = gray(random, channels, top=65536, kind=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(values))
    original = image_io.read_image(path)
    assert original.channels.dtype == np.uint16 and original.channels.shape[2] == (1 if channels == 2 else 3)
    save_unchanged(original, tmp_path / "out.png")
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "out.png").read_bytes()), values)


def test_sixteen_bits_per_channel_are_kept_in_tiff(tmp_path, random):
    values = gray(random, 3, top=65536, kind=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb")
    save_unchanged(image_io.read_image(tmp_path / "deep.tif"), tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), values)


def test_jpeg_keeps_its_format_and_exif_data(tmp_path, random):
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: to be rotated for display.
    Image.fromarray(gray(random, 3)).save(tmp_path / "photo.jpg", exif=exif)
    save_unchanged(image_io.read_image(tmp_path / "photo.jpg"), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as after:
        assert after.format == "JPEG" and after.size == (30, 20) and after.getexif()[0x0112] == 6


def test_black_and_white_are_zero_and_one(tmp_path):
    values = np.array([[0, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(image_io.read_image(tmp_path / "a.png").to_float(0), [[0, 1]])


def test_alpha_channel_is_kept(tmp_path, random):
    values = gray(random, 4)
    Image.fromarray(values).save(tmp_path / "a.png")
    original = image_io.read_image(tmp_path / "a.png")
    original.save(tmp_path / "b.png", 255 - original.channels)
    with Image.open(tmp_path / "b.png") as saved:
        after = np.asarray(saved)
    np.testing.assert_array_equal(after[..., 3], values[..., 3])
    np.testing.assert_array_equal(after[..., :3], 255 - values[..., :3])


@pytest.mark.parametrize("name", ["gray.png", "color.png", "index.png", "alphas.png", "index.gif"])
def test_transparent_color_or_palette_entry_marks_the_same_pixels_after_saving(name, tmp_path, random):
    gray_image, color_image = (
        Image.fromarray(random.integers(0, 4, shape, np.uint8)) for shape in ((20, 30), (20, 30, 3))
    )
    images = {
        "gray.png": (gray_image, 0),
        "color.png": (color_image, (1, 2, 3)),
        "index.png": (palette_image(random), 3),
        "alphas.png": (palette_image(random), bytes([255, 0, 100, 255])),
        "index.gif": (palette_image(random), 3),
    }
    image, transparency = images[name]
    image.save(tmp_path / name, transparency=transparency)
    original = image_io.read_image(tmp_path / name)
    # Every pixel becomes black, which may be the transparent color.
    original.save(tmp_path / "out" / name, np.zeros_like(original.channels))
    with Image.open(tmp_path / name) as before, Image.open(tmp_path / "out" / name) as after:
        assert after.mode == before.mode
        one, other = (np.asarray(each.convert("RGBA"))[..., 3] for each in (before, after))
    assert one.min() < 255 <= one.max()
    np.testing.assert_array_equal(one, other)


def write_unreadable_files(tmp_path):
    """Returns words of the expected error by the name of the file."""
    Image.new("L", (64, 64), 128).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    files = {
        "empty.png": (b"", "empty"),
        "truncated.png": (content[: len(content) - 30], "damaged"),
        "truncated.jpg": (content[:40], "damaged|not an image"),
        "notes.txt": (b"to do: buy milk", "not an image"),
    }
    for name, (data, _) in files.items():
        (tmp_path / name).write_bytes(data)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    Image.new("1", (70_000, 3)).save(tmp_path / "long.png")
    colors = np.zeros((8, 8, 3), np.uint8)
    tifffile.imwrite(tmp_path / "lab.tif", colors, photometric="cielab")
    tifffile.imwrite(tmp_path / "bands.tif", np.zeros((8, 8, 5), np.uint8), planarconfig="contig", photometric="rgb")
    tifffile.imwrite(tmp_path / "complex.tif", np.zeros((8, 8), np.complex64))
    tifffile.imwrite(tmp_path / "preview.tif", colors[..., 0], subfiletype=1)
    # One entry, the width; the next page is the same one.
    loop = struct.pack("<4sIHHHIII", b"II*\0", 8, 1, 256, 4, 1, 8, 8)
    (tmp_path / "loop.tif").write_bytes(loop)
    (tmp_path / "deep.ppm").write_bytes(b"P6 1 # comment\n1 65535\n" + bytes(6))
    (tmp_path / "text.ppm").write_bytes(b"P3 # comment\r1 1 65535\n0 1 2\n")
    (tmp_path / "broken.png").symlink_to(tmp_path / "missing.png")
    Image.fromarray(np.array([[np.nan]], np.float32)).save(tmp_path / "nan.tif")
    Image.new("RGB", (8, 8)).save(tmp_path / "scan.pcx")
    return {name: words for name, (_, words) in files.items()} | {
        "huge.png": "pixels", "long.png": "70000 x 3", "nan.tif": "not finite",
        "scan.pcx": "unsupported format PCX", "lab.tif": "this kind of TIFF is not supported: .* CIELAB",
        "bands.tif": "not supported: 5 channels", "complex.tif": "not supported: values of type complex64",
        "preview.tif": "reduced preview only", "loop.tif": "its pages are a loop",
        "deep.ppm": "color PPM of 16 bits is not supported",
        "text.ppm": "color PPM of 16 bits is not supported",
        "broken.png": "cannot be opened: No such file",
    }  # fmt: skip


def test_a_file_that_cannot_be_opened_for_now_is_not_called_unreadable(tmp_path, monkeypatch):
    """A cache of a folder's images would lack it for ever."""
    path = tmp_path / "a.png"
    Image.new("L", (8, 8)).save(path)
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    for owner, name in ((image_io.pillow_codec, "decode"), (Path, "open")):
        monkeypatch.setattr(owner, name, mock.Mock(side_effect=error))
        with pytest.raises(OSError, match="Too many open files"):
            image_io.read_image(path)
    error.errno = errno.EACCES
    with pytest.raises(image_io.UnreadableImageError, match="cannot be opened"):
        image_io.read_image(path)


def test_unreadable_files_are_errors_with_the_reason(tmp_path):
    expected = write_unreadable_files(tmp_path)
    files = dict(image_files.list_images(str(tmp_path)))
    assert isinstance(image_io.read_image(files.pop("good.png")), image_io.DecodedImage)
    assert files.keys() == expected.keys()
    for name, path in files.items():
        with pytest.raises(image_io.UnreadableImageError, match=expected[name]):
            image_io.read_image(path)


def test_any_error_of_a_decoder_is_one_of_the_file(tmp_path, random):
    deep = random.integers(0, 2**16, (16, 16, 3), np.uint16)
    content = imagecodecs.png_encode(deep)
    (tmp_path / "deep.png").write_bytes(content)
    np.testing.assert_array_equal(image_io.read_image(tmp_path / "deep.png").channels, deep)
    (tmp_path / "deep.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(image_io.UnreadableImageError, match="damaged"):
        image_io.read_image(tmp_path / "deep.png")


def test_absurd_size_is_refused_before_decoding(tmp_path, monkeypatch):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "huge.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(image_io.UnreadableImageError, match=r"declares 12000 x 12000 pixels; .* 89,478,485 in total"):
        image_io.read_image(tmp_path / "huge.png")


def test_of_several_frames_the_first_is_used_with_a_warning(tmp_path):
    frames = [Image.new("L", (8, 8), shade) for shade in (50, 255)]
    for name, message in {"film.gif": "2 frames", "film.png": "2 frames", "pages.tif": "2 pages"}.items():
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        decoded = image_io.read_image(tmp_path / name)
        assert decoded.warnings == (f"has {message}, of which the first is used",)
        assert (decoded.channels == 50).all()


def test_pnm_of_text_is_read_as_that_of_bytes(tmp_path):
    for name, content, expected in (
        ("color.ppm", b"P3 1 1 255 1 2 3", [1, 2, 3]),
        ("deep.pgm", b"P2 1 1 65535 9", [9]),
    ):
        (tmp_path / name).write_bytes(content)
        assert image_io.read_image(tmp_path / name).channels.ravel().tolist() == expected


def test_first_picture_of_a_phone_is_a_jpeg(tmp_path):
    photo, depth = Image.new("RGB", (16, 16), (200, 40, 90)), Image.new("RGB", (8, 8))
    photo.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[depth], quality=95)
    decoded = image_io.read_image(tmp_path / "phone.jpg")
    assert (decoded.format, decoded.warnings) == ("JPEG", ())
    decoded.save(tmp_path / "out.jpg", decoded.channels)
    with Image.open(tmp_path / "out.jpg") as saved:
        assert saved.format == "JPEG" and saved.size == (16, 16)
        assert np.abs(np.asarray(saved, int) - [200, 40, 90]).max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_profile_resolution_and_orientation_of_sixteen_bits_are_kept(suffix, tmp_path, random):
    values, path = gray(random, 3, top=65536, kind=np.uint16), tmp_path / f"deep.{suffix}"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if suffix == "tif":
        tags = [(274, 3, 1, 6, True), (315, 2, 0, "Ansel", True)]
        options = {"resolution": (300, 300), "resolutionunit": "inch", "iccprofile": profile, "extratags": tags}
        tifffile.imwrite(path, values, photometric="rgb", **options)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        donor = io.BytesIO()
        Image.new("L", (1, 1)).save(donor, "PNG", exif=exif, dpi=(300, 300), icc_profile=profile)
        header_end, plain = 33, imagecodecs.png_encode(values)
        ancillary = donor.getvalue()[header_end : donor.getvalue().index(b"IDAT") - 4]
        path.write_bytes(plain[:header_end] + ancillary + plain[header_end:])
    decoded = image_io.read_image(path)
    assert decoded.orientation == 6 and decoded.to_pil().size == (20, 30)
    decoded.save(tmp_path / f"out.{suffix}", 65535 - decoded.channels)
    with Image.open(tmp_path / f"out.{suffix}") as saved:
        assert saved.info["icc_profile"] == profile and saved.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    after = image_io.read_image(tmp_path / f"out.{suffix}")
    np.testing.assert_array_equal(after.channels, 65535 - values)
    assert after.orientation == 6


@pytest.mark.parametrize("byteorder", "<>")
def test_text_in_any_encoding_is_kept_byte_for_byte(byteorder, tmp_path, random):
    texts = {
        270: " Köln bei Nacht \0".encode(),
        305: b"ASCII\0",
        315: "Müller\0Ørsted\0".encode(),
        33432: "© 2024 Müller\0".encode("latin-1"),
    }
    tags = [(code, 2, len(text), text, True) for code, text in texts.items()]
    options = {"extratags": tags, "metadata": None, "software": False, "byteorder": byteorder}
    tifffile.imwrite(tmp_path / "a.tif", gray(random), **options)
    save_unchanged(image_io.read_image(tmp_path / "a.tif"), tmp_path / "b.tif")
    content = (tmp_path / "b.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        tags = [file.pages[0].tags[code] for code in texts]
    assert [content[tag.valueoffset : tag.valueoffset + tag.count] for tag in tags] == [*texts.values()]


def test_transparent_color_of_sixteen_bits_is_kept(tmp_path, random):
    values = random.integers(0, 4, (20, 30), np.uint16) * 9000
    Image.fromarray(values).save(tmp_path / "a.png", transparency=9000)
    decoded = image_io.read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(decoded.alpha == 0, values == 9000)
    decoded.save(tmp_path / "b.png", np.full_like(decoded.channels, 9000))  # The transparent color itself.
    after = image_io.read_image(tmp_path / "b.png")
    np.testing.assert_array_equal(after.alpha, decoded.alpha)
    assert np.abs(after.channels.astype(int) - 9000).max() <= 1


@pytest.mark.real_data
def test_unusual_files_are_read_right_or_refused(shared):
    refused = {"cut_16bit_rgb.png": "damaged", "cut_16bit_rgb.tif": "damaged", "lab.tif": "CIELAB"}
    warned = {"int32_0_255.tif": "0..255 was guessed", "multipage.tif": "2 pages", "white_on_transparent.png": "black"}
    for path in sorted((shared / "cases").iterdir()):
        if words := refused.get(path.name):
            with pytest.raises(image_io.UnreadableImageError, match=words):
                image_io.read_image(path)
            continue
        decoded = image_io.read_image(path)
        assert [words for words in decoded.warnings if warned[path.name] not in words] == []
        assert bool(decoded.warnings) == (path.name in warned), path.name
        image = decoded.to_pil()
        # The same digit, or the same picture of 31x45 pixels, in every kind of file.
        expected = {(28, 28): 54.9, (31, 45): 143.0, (45, 31): 143.0}[image.size]
        assert np.asarray(image).mean() == pytest.approx(expected, abs=0.6), path.name
