import numpy as np
import pytest

from cae.data.decoded_image import DecodedImage, UnreadableImageError, with_background, with_range

FLOATS = ["float16", "float32", "float64"]


def make(values, **attributes):
    channels = np.asarray(values)
    channels = channels.reshape(*channels.shape[:2], -1)
    defaults = {"alpha": None, "black": 0, "white": 1, "format": "TIFF", "mode": "L", "encode": None}
    return DecodedImage(channels=channels, **defaults | attributes)


@pytest.mark.parametrize(
    "values, black, white, warning",
    [
        (np.array([[0, 200]], np.uint8), 0, 255, None),
        (np.array([[0, 1]], np.uint8), 0, 255, "dark: its largest value is 1 of 255"),
        (np.array([[0, 5000]], np.uint16), 0, 65_535, None),
        (np.array([[0, 4095]], np.uint16), 0, 65_535, "dark: its largest value is 4095 of 65535"),
        (np.array([[True, False]]), 0, 1, None),
        (np.array([[0.0, 0.25]]), 0, 1, None),
        (np.array([[-1e-7, 1 + 1e-6]], np.float32), 0, 1, None),
        (np.array([[0, 1.01]], np.float16), 0, 255, "the range 0..255 was guessed from its values, 0 to 1.00977"),
        (np.array([[0, 1]], np.int32), 0, 1, "the range 0..1 was guessed from its values, 0 to 1"),
        (np.array([[3, 256]], np.int64), 0, 65_535, "the range 0..65535 was guessed from its values, 3 to 256"),
        (np.array([[-5, 10.0]]), -5, 10, "its values, -5 to 10, have no usual range; the smallest is taken as black"),
        (np.array([[0, 0]], np.int16), 0, 1, None),
    ],
)
def test_one_rule_gives_the_range(values, black, white, warning):
    decoded = with_range(make(values))
    assert (decoded.black, decoded.white, decoded.warnings) == (black, white, (warning,) if warning else ())
    inverted = with_range(make(values, black=1, white=0))
    assert (inverted.black, inverted.white) == (white, black)
    np.testing.assert_allclose(inverted.to_float(0), 1 - decoded.to_float(0), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(UnreadableImageError, match="not finite"):
        with_range(make(np.array([[0, value]])))


@pytest.mark.parametrize("kind", [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)] + FLOATS)
def test_what_is_bright_is_not_written_as_black(kind):
    limits = np.finfo(kind) if kind in FLOATS else np.iinfo(kind)
    decoded = with_range(make(np.array([[0, limits.max]], kind)))
    with np.errstate(all="raise"):  # What a type cannot hold is an invalid cast.
        written = decoded.from_float(np.array([-1e-6, 0, 0.4, 0.9, 1, 1 + 1e-6], np.float32))
    assert written.dtype == kind and written[0] == written[1] == 0
    assert (np.diff(written.astype(np.float64)) >= 0).all()
    assert float(written[-1]) == float(written[-2]) == pytest.approx(float(limits.max), rel=1e-15)


def test_what_is_denoised_and_what_is_scored_has_one_range():
    for values in (np.arange(256, dtype=np.int32), np.arange(256) * 257.0, np.arange(256) / 255):
        decoded = with_range(make(values.reshape(16, 16)))
        np.testing.assert_array_equal(np.asarray(decoded.to_pil()).ravel(), np.arange(256))
        np.testing.assert_allclose(decoded.to_float(0).ravel(), np.arange(256) / 255, atol=1e-6)


def drawing(color, alpha):
    """A square of a color on transparency."""
    values, opacity = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)
    values[2:6, 2:6], opacity[2:6, 2:6] = color, alpha
    return with_background(make(values, alpha=opacity, white=255))


@pytest.mark.parametrize(
    "color, background", [((255, 255, 255), 0), ((240, 250, 245), 0), ((0, 0, 0), 255), ((255, 255, 0), 255)]
)
def test_transparent_parts_are_white_unless_that_would_hide_the_drawing(color, background):
    decoded = drawing(color, alpha=255)
    assert decoded.background == background and bool(decoded.warnings) == (background == 0)
    shown = np.asarray(decoded.to_pil())
    assert (shown[0, 0] == background).all() and (shown[3, 3] == color).all()


def test_half_transparent_colors_are_blended():
    assert np.asarray(drawing((0, 100, 200), alpha=51).to_pil())[3, 3].tolist() == [204, 224, 244]
    values = np.full((2, 2, 1), 100, np.uint8)
    premultiplied = make(values, alpha=np.full((2, 2), 102, np.uint8), white=255, premultiplied=True)
    assert np.asarray(premultiplied.to_pil())[0, 0] == 100 + 153


def test_what_is_opaque_or_fully_transparent_is_known():
    opaque = with_background(make(np.zeros((2, 2)), alpha=np.full((2, 2), 255, np.uint8)))
    assert opaque.alpha is None and not opaque.warnings
    blank = with_background(make(np.zeros((2, 2), np.uint8), alpha=np.zeros((2, 2), np.uint8), white=255))
    assert blank.warnings == ("transparent everywhere: it is blank",)
