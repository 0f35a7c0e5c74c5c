import numpy as np
import pytest
from PIL import Image

from cae.data import pictures
from cae.errors import UserError


def fitted(picture, side=16, channels=1):
    return pictures.fit(picture, side, side, channels)


def test_a_picture_of_the_right_size_stays_as_it_is(random):
    values = random.integers(0, 256, (16, 16), np.uint8)
    np.testing.assert_array_equal(fitted(Image.fromarray(values))[..., 0], values)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_eight_bits_of_the_channels_wanted(mode, channels):
    result = fitted(Image.new(mode, (40, 30)), channels=channels)
    assert result.shape == (16, 16, channels) and result.dtype == np.uint8


def test_sixteen_bits_keep_their_upper_eight():
    values = np.full((16, 16), 0x8040, np.uint16)
    assert (fitted(Image.fromarray(values)) == 0x80).all()


def test_transparent_parts_turn_white():
    assert (fitted(Image.new("RGBA", (16, 16), (0, 0, 0, 0))) == 255).all()
    assert (fitted(Image.new("RGBA", (16, 16), (0, 0, 0, 255))) == 0).all()


def test_proportions_are_kept_and_the_rest_is_filled_like_the_border():
    wide = Image.new("L", (64, 32), 200)
    wide.paste(10, (28, 12, 36, 20))  # An 8x8 square in the middle, which becomes 2x2.
    result = fitted(wide)[..., 0]
    assert (result[:4] == 200).all() and (result[-4:] == 200).all()
    dark = result < 105
    assert dark.sum() == 4 and dark[7:9, 7:9].all()


def save(path, picture=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or Image.new("L", (20, 20), 128)).save(path)


def test_a_folder_is_read_with_its_sub_folders_and_what_cannot_be_read_is_named(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "deep" / "er" / "b.JPG")
    save(tmp_path / "c.bmp")
    (tmp_path / "notes.txt").write_text("not a picture, and does not say so")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    folder = pictures.read_folder(tmp_path, 28, 28, 1)
    assert sorted(folder.names) == ["a.png", "c.bmp", "deep/er/b.JPG"]
    assert folder.images.shape == (3, 28, 28, 1)
    assert folder.skipped == ["cut.png", "empty.png", "text.jpg"]


def test_a_picture_that_declares_an_absurd_size_is_left_out(tmp_path):
    save(tmp_path / "a.png")
    # A one-bit image of 400 million pixels, whose file is small.
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    assert pictures.read_folder(tmp_path, 28, 28, 1).skipped == ["huge.png"]


def test_order_depends_on_names_alone(tmp_path):
    for folder, names in (("one", "abcdef"), ("other", "fbdace")):
        for name in names:
            save(tmp_path / folder / f"{name}.png")
    one, other = (pictures.read_folder(tmp_path / folder, 16, 16, 1).names for folder in ("one", "other"))
    assert one == other != sorted(one)


def test_sub_folders_are_classes_where_every_picture_is_in_one(tmp_path):
    for name in ("cat/1.png", "cat/more/2.png", "dog/3.png"):
        save(tmp_path / name)
    folder = pictures.read_folder(tmp_path, 16, 16, 1)
    assert folder.classes() == ["cat", "dog"]
    expected = [0 if name.startswith("cat") else 1 for name in folder.names]
    assert folder.labels().tolist() == expected
    save(tmp_path / "4.png")
    assert pictures.read_folder(tmp_path, 16, 16, 1).classes() == []


def test_a_folder_that_is_missing_or_without_pictures_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        pictures.read_folder(tmp_path / "nowhere", 28, 28, 1)
    with pytest.raises(UserError, match="it holds none"):
        pictures.read_folder(tmp_path, 28, 28, 1)
    (tmp_path / "bad.png").write_text("no")
    with pytest.raises(UserError, match="none of its 1 can be read"):
        pictures.read_folder(tmp_path, 28, 28, 1)
