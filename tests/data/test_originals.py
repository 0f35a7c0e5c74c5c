import numpy as np
import pytest
import tensorflow as tf
import tifffile
from PIL import Image

from cae.data import originals
from cae.errors import UserError


def grey(random, *shape, top=256, kind=np.uint8):
    return random.integers(0, top, (20, 30, *shape)).astype(kind)


def palette_picture(random):
    return Image.fromarray(grey(random, 3)).quantize(16)


# What is written, by the name of the file.
PICTURES = {
    "black_and_white.png": lambda random: Image.fromarray(grey(random, top=2).astype(bool)),
    "grey.png": lambda random: Image.fromarray(grey(random)),
    "grey_alpha.png": lambda random: Image.fromarray(grey(random, 2), "LA"),
    "palette.png": palette_picture,
    "colour.png": lambda random: Image.fromarray(grey(random, 3)),
    "colour_alpha.png": lambda random: Image.fromarray(grey(random, 4)),
    "grey16.png": lambda random: Image.fromarray(grey(random, top=65536, kind=np.uint16)),
    "grey.tif": lambda random: Image.fromarray(grey(random)),
    "grey16.tif": lambda random: Image.fromarray(grey(random, top=65536, kind=np.uint16)),
    "float.tif": lambda random: Image.fromarray(random.random((20, 30), np.float32)),
    "wide_float.tif": lambda random: Image.fromarray(1000 * random.standard_normal((20, 30)).astype(np.float32)),
    "integers.tif": lambda random: Image.fromarray(grey(random, top=10**6, kind=np.int32)),
    "ink.tif": lambda random: Image.fromarray(grey(random, 4), "CMYK"),
    "colour.bmp": lambda random: Image.fromarray(grey(random, 3)),
    "grey.pgm": lambda random: Image.fromarray(grey(random)),
    "grey16.pgm": lambda random: Image.fromarray(grey(random, top=65536, kind=np.int32)),
    "palette.gif": palette_picture,
}


def unchanged(original, path):
    planes = [original.stored(original.plane(channel)) for channel in range(original.channels.shape[2])]
    original.save(path, np.stack(planes, axis=-1))


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_that_is_not_changed_comes_back_the_same(name, tmp_path, random):
    PICTURES[name](random).save(tmp_path / name)
    original = originals.read(name, tmp_path / name)
    unchanged(original, tmp_path / "out" / name)
    with Image.open(tmp_path / name) as before, Image.open(tmp_path / "out" / name) as after:
        assert (after.size, after.mode, after.format) == (before.size, before.mode, before.format)
        shown = [picture.convert("RGB") if picture.mode == "P" else picture for picture in (before, after)]
        np.testing.assert_allclose(*(np.asarray(picture, np.float64) for picture in shown), rtol=1e-5, atol=1e-3)
    planes = [original.plane(channel) for channel in range(original.channels.shape[2])]
    assert all(plane.dtype == np.float32 and plane.min() >= 0 and plane.max() <= 1 for plane in planes)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_a_colour_stay_sixteen(channels, tmp_path, random):
    values = grey(random, channels, top=65536, kind=np.uint16)
    path = tmp_path / "deep.png"
    path.write_bytes(tf.io.encode_png(values).numpy())
    original = originals.read("deep.png", path)
    assert original.channels.dtype == np.uint16 and original.channels.shape[2] == (1 if channels == 2 else 3)
    unchanged(original, tmp_path / "out.png")
    np.testing.assert_array_equal(tf.io.decode_png((tmp_path / "out.png").read_bytes(), dtype=tf.uint16), values)


def test_sixteen_bits_a_colour_stay_sixteen_in_a_tiff(tmp_path, random):
    values = grey(random, 3, top=65536, kind=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", values, photometric="rgb")
    unchanged(originals.read("deep.tif", tmp_path / "deep.tif"), tmp_path / "out.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), values)


def test_a_jpeg_keeps_its_kind_and_what_the_camera_said(tmp_path, random):
    exif = Image.Exif()
    exif[0x0112] = 6  # To be turned when shown.
    Image.fromarray(grey(random, 3)).save(tmp_path / "photo.jpg", exif=exif)
    unchanged(originals.read("photo.jpg", tmp_path / "photo.jpg"), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as after:
        assert after.format == "JPEG" and after.size == (30, 20) and after.getexif()[0x0112] == 6


def test_white_and_black_are_one_and_nought(tmp_path):
    values = np.array([[0, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(originals.read("a.png", tmp_path / "a.png").plane(0), [[0, 1]])


def test_what_is_transparent_stays_so(tmp_path, random):
    values = grey(random, 4)
    Image.fromarray(values).save(tmp_path / "a.png")
    original = originals.read("a.png", tmp_path / "a.png")
    original.save(tmp_path / "b.png", 255 - original.channels)
    with Image.open(tmp_path / "b.png") as saved:
        after = np.asarray(saved)
    np.testing.assert_array_equal(after[..., 3], values[..., 3])
    np.testing.assert_array_equal(after[..., :3], 255 - values[..., :3])


@pytest.mark.parametrize("name", ["grey.png", "colour.png", "place.png", "places.png", "place.gif"])
def test_what_a_value_or_a_palette_makes_transparent_is_so_before_and_after(name, tmp_path, random):
    grey_picture, colours = (
        Image.fromarray(random.integers(0, 4, shape, np.uint8)) for shape in ((20, 30), (20, 30, 3))
    )
    pictures = {
        "grey.png": (grey_picture, 0),
        "colour.png": (colours, (1, 2, 3)),
        "place.png": (palette_picture(random), 3),
        "places.png": (palette_picture(random), bytes([255, 0, 100, 255])),
        "place.gif": (palette_picture(random), 3),
    }
    picture, transparency = pictures[name]
    picture.save(tmp_path / name, transparency=transparency)
    original = originals.read(name, tmp_path / name)
    # Everything becomes the darkest there is, be it what is transparent.
    original.save(tmp_path / "out" / name, np.zeros_like(original.channels))
    with Image.open(tmp_path / name) as before, Image.open(tmp_path / "out" / name) as after:
        assert after.mode == before.mode
        one, other = (np.asarray(each.convert("RGBA"))[..., 3] for each in (before, after))
    assert one.min() < 255 <= one.max()
    np.testing.assert_array_equal(one, other)


def damaged(tmp_path):
    """Returns files that can't be cleaned, with a word of what is to be said of each."""
    Image.new("L", (64, 64), 128).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    files = {
        "empty.png": (b"", "empty"),
        "cut.png": (content[: len(content) - 30], "damaged"),
        "cut.jpg": (content[:40], "damaged|not a picture"),
        "notes.txt": (b"to do: buy milk", "not a picture"),
    }
    for name, (text, _) in files.items():
        (tmp_path / name).write_bytes(text)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    Image.new("1", (70_000, 3)).save(tmp_path / "long.png")
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 255)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(np.array([[np.nan]], np.float32)).save(tmp_path / "nan.tif")
    Image.new("RGB", (8, 8)).save(tmp_path / "icon.ico")
    told = {name: word for name, (_, word) in files.items()}
    return told | {
        "huge.png": "pixels", "long.png": "70000 x 3", "film.gif": "2 frames", "nan.tif": "not finite",
        "icon.ico": "format ICO",
    }  # fmt: skip


def test_files_that_cannot_be_cleaned_are_named_with_the_reason(tmp_path):
    told = damaged(tmp_path)
    found = dict(originals.read_each(originals.find(tmp_path)))
    assert isinstance(found.pop("good.png"), originals.Original)
    assert found.keys() == told.keys()
    for name, why in found.items():
        assert isinstance(why, originals.Unreadable)
        assert any(word in str(why) for word in told[name].split("|")), (name, str(why))


def test_an_absurd_size_is_seen_before_anything_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "huge.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(originals.Unreadable, match=r"declares 12000 x 12000 pixels; .* 89,478,485 in all are the most"):
        originals.read("huge.png", tmp_path / "huge.png")


def test_files_are_found_in_sub_folders_hidden_ones_are_not(tmp_path):
    for name in ("b.png", "sub/a.png", ".hidden", ".cache/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [name for name, _ in originals.find(tmp_path)] == ["b.png", "sub/a.png"]
    assert originals.find(tmp_path / "b.png") == [("b.png", tmp_path / "b.png")]


def test_a_place_without_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file or folder"):
        originals.find(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no file"):
        originals.find(tmp_path)


def test_several_pictures_are_found_in_their_order_by_names_of_their_own(tmp_path):
    for name in ("b.png", "a.png", "sub/a.png", "x,y.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 3)).save(tmp_path / name)
    several = ",".join(str(tmp_path / name) for name in ("b.png", "a.png", "sub/a.png"))
    assert [name for name, _ in originals.find_all(several)] == ["b.png", "a.png", "sub/a.png"]
    assert originals.find_all(str(tmp_path / "x,y.png")) == [("x,y.png", tmp_path / "x,y.png")]
    assert [name for name, _ in originals.find_all(str(tmp_path))] == ["a.png", "b.png", "sub/a.png", "x,y.png"]
    with pytest.raises(UserError, match="there is no such file"):
        originals.find_all(f"{tmp_path / 'a.png'},{tmp_path / 'none.png'}")
