import dataclasses
import os

import numpy as np
import pytest
from PIL import Image

from cae.predict import anomaly_maps


@pytest.mark.parametrize("shape, size", [((28, 20), (180, 252)), ((300, 200), (200, 300)), ((1000, 400), (205, 512))])
def test_a_picture_has_the_resolution_of_the_file_within_bounds(shape, size, decode, tmp_path):
    gray = anomaly_maps.shrink_to_gray(decode(np.full(shape, 200, np.uint8)))
    anomaly_maps.write_picture(tmp_path / "a/b.png", gray, shape[::-1], np.zeros((12, 12), np.float32))
    with Image.open(tmp_path / "a/b.png") as picture:
        assert picture.size == size and picture.mode == "RGB"
        assert (np.asarray(picture) == 200).all()


def test_colors_are_shown_in_gray_and_the_image_upright(decode):
    values = np.zeros((4, 6, 3), np.uint8)
    values[:2] = [90, 120, 150]
    decoded = dataclasses.replace(decode(values), orientation=6)  # Its top is on the right, once upright.
    assert decoded.upright_size == (4, 6)
    expected = np.zeros((6, 4))
    expected[:, 2:] = 120
    np.testing.assert_array_equal(anomaly_maps.shrink_to_gray(decoded), expected)


def test_the_maximum_is_that_of_the_image_without_padding():
    values = np.zeros((12, 12), np.float32)
    values[2], values[3, 11] = 7, 5  # An image of 40x20 has the rows 3 to 8.
    assert anomaly_maps.content_maximum(values, (40, 20)) == 5 and anomaly_maps.content_maximum(values, (20, 20)) == 7


def test_every_name_has_a_picture_of_its_own(tmp_path):
    names = [
        "a.png",
        "a.jpg",
        "b/a.png",
        os.fsdecode(b"caf\xe9.png"),
        "\N{PILE OF POO}" * 63 + "a",
        "x" * 254,
        "x" * 255,
    ]
    paths = [anomaly_maps.picture_path(tmp_path, name) for name in names]
    assert paths[:3] == [tmp_path / "a.png.png", tmp_path / "a.jpg.png", tmp_path / "b/a.png.png"]
    assert len({*paths}) == len(names)
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
