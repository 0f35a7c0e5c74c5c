import dataclasses

import numpy as np
import pytest
from PIL import Image

from cae.data import originals
from cae.outliers import detector as detectors
from cae.tasks import screen


@pytest.fixture(scope="module")
def normal():
    """Bright squares of 4 or 5 pixels somewhere on black, no two alike: of equal neighbours either may be found."""
    random = np.random.default_rng(0)
    images = np.zeros([400, 12, 12, 1], np.uint8)
    for image, (row, column, side) in zip(images, random.integers([2, 2, 4], [6, 6, 6], [400, 3])):
        image[row : row + side, column : column + side] = random.integers(180, 256, [side, side, 1])
    return images


@pytest.fixture(scope="module")
def detector(subject, normal):
    return detectors.make("gradients", subject.trained.model, normal[:300], normal[300:], rule="conformal", alpha=0.05)


def screened(detector, folder, invert="auto"):
    return dict(screen.run(detector, originals.read_each(originals.find(folder)), invert))


def save(image, path, size=None, mode="L"):
    picture = Image.fromarray(image[..., 0]).convert(mode)
    (picture.resize(size) if size else picture).save(path)


def test_pictures_of_the_models_size_are_taken_as_they_are(detector, normal, tmp_path):
    for number in range(3):
        save(normal[300 + number], tmp_path / f"{number}.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, [12, 12], np.uint8)).save(tmp_path / "odd.png")
    told = screened(detector, tmp_path)
    for number in range(3):
        each = told[f"{number}.png"]
        np.testing.assert_array_equal(each.image, normal[300 + number])
        assert each.score == pytest.approx(detector.scores(normal[300 + number][None])[0], rel=1e-4, abs=1e-6)
        # Not the p-value of the image by itself: it is one of those that it is ranked among, and scores of batches of
        # other sizes differ in their last bits.
        assert each.p_value == detector.p_values_of(np.array([each.score]))[0]
        assert (each.fitted, each.warnings) == ("", ())
    assert not told["odd.png"].belongs and told["odd.png"].p_value == pytest.approx(1 / 101)


def test_what_fitting_may_have_hidden_is_said(detector, normal, tmp_path):
    save(normal[0], tmp_path / "large.png", (36, 36))
    save(normal[0], tmp_path / "small.png", (4, 4))
    save(normal[0], tmp_path / "wide.png", (24, 12))
    Image.new("RGB", (12, 12), (200, 0, 0)).save(tmp_path / "red.png")
    told = screened(detector, tmp_path)
    assert told["large.png"].fitted == "36x36 to 12x12" and told["large.png"].warnings == (
        "shrunk 3.0 times: fine detail is gone",
    )
    assert told["small.png"].warnings == ("enlarged 3.0 times: it is blurred",)
    assert "padded to another shape" in told["wide.png"].warnings
    assert told["red.png"].warnings == ("colours are gone",)


def test_black_on_white_is_inverted_and_said_so_unless_told_otherwise(detector, normal, tmp_path):
    save(255 - normal[0], tmp_path / "a.png")
    for invert, image in {"auto": normal[0], "never": 255 - normal[0], "always": normal[0]}.items():
        told = screened(detector, tmp_path, invert)["a.png"]
        np.testing.assert_array_equal(told.image, image)
        assert ("inverted" in told.fitted) == (invert != "never") == bool(told.warnings)
    # Where training images are bright themselves, a bright picture is no negative.
    bright = dataclasses.replace(detector, background=1.0)
    assert screened(bright, tmp_path)["a.png"].fitted == ""


def test_grey_backgrounds_are_left_alone(detector, tmp_path):
    Image.new("L", (12, 12), 128).save(tmp_path / "grey.png")
    assert screened(detector, tmp_path)["grey.png"].fitted == ""


def test_files_come_back_in_turn_with_those_that_cannot_be_read(detector, normal, tmp_path, monkeypatch):
    monkeypatch.setattr(screen, "AT_ONCE", 2)
    for name in "abde":
        save(normal[0], tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    told = screened(detector, tmp_path)
    assert [*told] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
    assert isinstance(told["c.png"], originals.Unreadable)
    assert told["e.png"].score == pytest.approx(told["a.png"].score, rel=1e-4)
