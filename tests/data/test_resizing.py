import numpy as np
import pytest
from PIL import Image

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
