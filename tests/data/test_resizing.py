import numpy as np
import pytest
from PIL import Image, ImageOps

from cae.data import resizing


def resize(image, side=16, channels=1):
    return resizing.resize_with_pad(image, side, side, channels)


def test_image_of_the_right_size_is_unchanged(random):
    values = random.integers(0, 256, (16, 16), np.uint8)
    np.testing.assert_array_equal(resize(Image.fromarray(values))[..., 0], values)


def read(path, image, channels=1):
    image.save(path)
    return resizing.read_resized(path, (16, 16, channels))[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_converted_to_eight_bits_and_the_given_channels(mode, channels, tmp_path):
    result = read(tmp_path / "a.tif", Image.new(mode, (40, 30)), channels)
    assert result.shape == (16, 16, channels) and result.dtype == np.uint8


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    values = np.full((16, 16), 0x8040, np.uint16)
    assert (read(tmp_path / "a.png", Image.fromarray(values)) == 0x80).all()


def test_transparent_parts_turn_white(tmp_path):
    assert (read(tmp_path / "a.png", Image.new("RGBA", (16, 16), (0, 0, 0, 0))) == 255).all()
    assert (read(tmp_path / "a.png", Image.new("RGBA", (16, 16), (0, 0, 0, 255))) == 0).all()


def test_aspect_ratio_is_kept_and_padding_has_the_color_of_the_border():
    wide = Image.new("L", (64, 32), 200)
    wide.paste(10, (28, 12, 36, 20))  # An 8x8 square in the middle, which becomes 2x2.
    result = resize(wide)[..., 0]
    assert (result[:4] == 200).all() and (result[-4:] == 200).all()
    dark = result < 105
    assert dark.sum() == 4 and dark[7:9, 7:9].all()


def test_padding_of_color_images_has_the_color_of_the_border():
    assert (resize(Image.new("RGB", (64, 32), (10, 120, 230)), channels=3) == [10, 120, 230]).all()


def test_background_is_the_median_of_the_borders(random):
    images = random.integers(0, 256, (5, 9, 7, 3), np.uint8)
    # Whatever is inside, and in one image of five.
    images[:4, [0, -1]] = images[:4, :, [0, -1]] = 51
    assert resizing.border_background(images) == pytest.approx(0.2)


def test_images_have_negatives_unless_some_of_them_would_be_ones(random):
    dark = random.integers(0, 30, (6, 9, 9, 1), np.uint8)
    assert resizing.are_negatives(255 - dark, 0.05).all() and not resizing.are_negatives(dark, 0.05).any()
    assert resizing.inversion_background(dark) == resizing.border_background(dark) < 0.1
    both = np.concatenate([dark, 255 - dark[:1]])
    background = resizing.inversion_background(both)
    assert background == 0.5 and not resizing.are_negatives(np.concatenate([both, 255 - both]), background).any()


@pytest.mark.parametrize("size", [(28, 28), (64, 32), (31, 50), (100, 99), (7, 3), (400, 11), (9, 10)])
@pytest.mark.parametrize("height, width", [(28, 28), (12, 20)])
def test_the_box_of_the_content_is_where_the_image_is_put(size, height, width):
    padded = ImageOps.pad(Image.new("L", size, 255), (width, height), Image.Resampling.LANCZOS, color=0)
    assert resizing.content_box(size, height, width) == padded.getbbox()


@pytest.mark.parametrize("size", [(96, 32), (32, 96)])
@pytest.mark.parametrize("resized", [None, 0.5, 2])
def test_a_bright_dot_in_a_corner_is_found_there_after_resizing(size, resized):
    original = Image.new("L", size, 10)
    original.paste(255, (size[0] - 8, size[1] - 8, *size))
    size_found = None if resized is None else (int(size[0] * resized), int(size[1] * resized))
    values = resize(original, side=24)[..., 0].astype(np.float32)  # 24x8 pixels and padding; the dot is 2x2.
    found = resizing.undo_resize_with_pad(values, size, size_found)
    width, height = size_found or size
    assert found.shape == (height, width)
    rows, columns = np.nonzero(found > 128)
    dot = 8 * width / size[0]
    assert rows.max() == height - 1 and columns.max() == width - 1
    assert abs(height - rows.min() - dot) <= dot / 4 and abs(width - columns.min() - dot) <= dot / 4


@pytest.mark.parametrize("size", [(1000, 1), (1, 1000), (37, 20), (20, 37), (100, 3)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_images_of_any_aspect_ratio_are_resized_as_pillow_does(size, mode, random):
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    image = Image.fromarray(random.integers(0, 256, shape, np.uint8))
    result = resize(image, channels=len(image.getbands()))
    if min(size) / max(size) > 1 / 32:  # Pillow rounds smaller sides to 0.
        edges = resizing.border_pixels(np.asarray(image).reshape(size[1], size[0], -1))
        color = tuple(np.median(edges, axis=0).astype(int).tolist())
        expected = ImageOps.pad(image, (16, 16), Image.Resampling.LANCZOS, color=color)
        np.testing.assert_array_equal(result, np.asarray(expected).reshape(result.shape))
    assert result.std() > 0
