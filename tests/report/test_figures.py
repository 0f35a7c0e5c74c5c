import io

import numpy as np
import pytest
from PIL import Image

from cae.report import figures


@pytest.mark.parametrize("latent_dim, channels", [(1, 1), (2, 3), (7, 1), (32, 3), (100, 1)])
def test_a_display_shows_any_images_and_latent_vectors(channels, latent_dim, random):
    images = random.random((3, 12, 15, channels))
    figure = figures.display({"input": images, "output": images}, random.random((3, latent_dim)), "abc")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["input", "output", "error", "latent vector"]
    assert Image.open(io.BytesIO(figures.png(figure))).format == "PNG"


def shown(axis):
    return np.ma.filled(axis.images[0].get_array(), np.nan)


def test_images_are_shown_in_their_true_range_and_the_error_is_absolute():
    target, output = np.full((1, 12, 12, 1), 0.25), np.full((1, 12, 12, 1), 1.0)
    _, _, error, _ = figures.display({"input": target, "output": output}, np.zeros((1, 4))).axes[:4]
    np.testing.assert_allclose(shown(error), 0.75)
    first = figures.display({"input": target, "output": output}, np.zeros((1, 4))).axes[0]
    assert first.images[0].get_clim() == (0, 1) and (shown(first) == 0.25).all()


def test_a_latent_vector_is_read_line_by_line_on_one_scale_around_zero():
    latents = np.stack([np.arange(7.0), -np.arange(7.0)])
    images = np.zeros((2, 12, 12, 1))
    first, second = (figures.display({"a": images, "b": images}, latents).axes[i] for i in (3, 7))
    np.testing.assert_array_equal(shown(first).ravel()[:7], np.arange(7))
    assert np.isnan(shown(first).ravel()[7:]).all()
    low, high = first.images[0].get_clim()
    assert low == -high and second.images[0].get_clim() == (low, high)
    assert shown(figures.display({"a": images, "b": images}, np.zeros((2, 32))).axes[3]).shape == (4, 8)


def test_a_model_without_latent_vectors_has_no_column_for_them(random):
    images = random.random((2, 12, 12, 1))
    axes = figures.display({"input": images, "output": images}, None).axes
    assert [axis.get_title() for axis in axes[:3]] == ["input", "output", "error"]


def test_a_gallery_has_a_line_and_a_column_for_each_name(random):
    one, two, three = random.random((3, 12, 12, 1))
    figure = figures.gallery({"rain": {"a": one, "b": two}, "snow": {"b": three}}, ["a", "b"])
    first, second, empty, last = figure.axes
    assert [axis.get_title() for axis in (first, second)] == ["a", "b"]
    assert (first.get_ylabel(), empty.get_ylabel()) == ("rain", "snow")
    for axis, image in ((first, one), (second, two), (last, three)):
        np.testing.assert_allclose(shown(axis), image[..., 0])
    assert not empty.images


@pytest.mark.parametrize("count", [1, 4])
def test_a_contact_sheet_shows_each_picture_before_and_after(count, random):
    pairs = [(f"{number}.png", *random.random((2, 12, 10, 3))) for number in range(count)]
    axes = [axis for axis in figures.sheet(pairs).axes if axis.images]
    assert len(axes) == 2 * count
    for (name, before, after), first, second in zip(pairs, axes[::2], axes[1::2]):
        assert first.get_title(loc="left") == name and second.get_title(loc="left") == "cleaned"
        np.testing.assert_allclose(shown(first), before)
        np.testing.assert_allclose(shown(second), after)


def test_a_contact_sheet_shows_names_that_are_no_text_and_no_formula(random):
    names = ["caf\udce9.png", "$x_1$ & $.png"]
    axes = figures.sheet([(name, *random.random((2, 8, 8, 1))) for name in names])
    assert figures.png(axes)
    assert [axis.get_title(loc="left") for axis in axes.axes[:3:2]] == ["caf\\udce9.png", "$x_1$ & $.png"]


def test_curves_of_many_lines_are_told_apart():
    lines = {f"method {number}": [(0, number), (1, number + 1)] for number in range(12)}
    axis = figures.curves(lines, "level", "PSNR (dB)").axes[0]
    assert len({(line.get_color(), line.get_linestyle()) for line in axis.lines}) == 12
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(lines)


def test_curves_of_sizes_name_the_powers_of_two():
    axis = figures.curves({"error": [(2, 0.1), (64, 0.01)]}, "size", "error", log=True, log_x=True).axes[0]
    assert (axis.get_xscale(), axis.get_yscale()) == ("log", "log")
    assert {"2", "64"} <= {text.get_text() for text in axis.get_xticklabels()}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mosaic_has_every_image_in_its_place(channels, random):
    lines = {"one": random.random((3, 5, 4, channels)), "two": random.random((3, 5, 4, channels))}
    axis = figures.mosaic(lines, ["a", "b", "c"]).axes[0]
    whole = shown(axis).reshape(14, 18, -1)
    assert np.allclose(whole[0], 0.5) and np.allclose(whole[:, 6], 0.5), "frames are grey"
    for row, images in enumerate(lines.values()):
        for column, image in enumerate(images):
            np.testing.assert_allclose(whole[7 * row + 1 : 7 * row + 6, 6 * column + 1 : 6 * column + 5], image)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["one", "two"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_shows_every_image_for_ever(channels, random):
    images = random.random((5, 7, 9, channels))
    with Image.open(io.BytesIO(figures.gif(images, seconds=0.1))) as animation:
        assert animation.n_frames == 5 and animation.info["loop"] == 0 and animation.info["duration"] == 100
        assert animation.size[0] % 9 == 0 and animation.size[0] / animation.size[1] == 9 / 7
        animation.seek(4)
        frame = np.asarray(animation.convert("RGB"))[:: animation.size[1] // 7, :: animation.size[0] // 9] / 255
    np.testing.assert_allclose(frame, np.broadcast_to(images[4], (7, 9, 3)), atol=0.3 if channels == 3 else 0.01)
