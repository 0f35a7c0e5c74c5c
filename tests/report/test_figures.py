import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cae.report import figures


def displayed(axis, row=0):
    return np.ma.filled(axis.images[row].get_array(), np.nan)


@pytest.mark.parametrize("latent_dim, channels", [(1, 1), (2, 3), (7, 1), (32, 3), (100, 1)])
def test_example_rows_show_any_images_and_latent_vectors(channels, latent_dim, random):
    images = random.random((3, 12, 15, channels))
    figure = figures.example_rows({"input": images, "output": images}, random.random((3, latent_dim)), "abc")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["input", "output", "error", "latent vector"]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "b", "c"]
    assert Image.open(io.BytesIO(figures.png(figure))).format == "PNG"


def test_images_have_a_fixed_range_and_the_error_is_absolute():
    target, output = np.full((1, 12, 12, 1), 0.25), np.full((1, 12, 12, 1), 1.0)
    figure = figures.example_rows({"input": target, "output": output}, np.zeros((1, 4)))
    first, _, error, _ = figure.axes[:4]
    np.testing.assert_allclose(displayed(error), 0.75)
    assert first.images[0].get_clim() == (0, 1) and (displayed(first) == 0.25).all()


def test_a_latent_vector_is_read_row_by_row_on_one_scale_around_zero():
    latents = np.stack([np.arange(7.0), -np.arange(7.0)])
    images = np.zeros((2, 12, 12, 1))
    figure = figures.example_rows({"a": images, "b": images}, latents)
    column = figure.axes[3]
    for row, latent in enumerate(latents):
        np.testing.assert_array_equal(displayed(column, row).ravel()[:7], latent)
        assert np.isnan(displayed(column, row).ravel()[7:]).all()
    (low, high), second = (image.get_clim() for image in column.images)
    assert low == -high and second == (low, high)
    wide = figures.example_rows({"a": images, "b": images}, np.zeros((2, 32)))
    assert displayed(wide.axes[3]).shape == (4, 8)


@pytest.mark.parametrize("height, width", [(12, 12), (10, 20), (20, 10)])
def test_rows_of_examples_lie_below_each_other_beside_their_labels(height, width, random):
    images = random.random((3, height, width, 1))
    figure = figures.example_rows({"a": images, "b": images}, random.random((3, 5)), ["x", "y", "a wide label of it"])
    for axis in figure.axes[:4]:
        for row, image in enumerate(axis.images):
            left, right, bottom, top = image.get_extent()
            assert (right - left) / (bottom - top) == pytest.approx(width / height)
            assert top <= figure.axes[0].get_yticks()[row] <= bottom
            assert row == 0 or top > axis.images[row - 1].get_extent()[2]
    assert {text.get_rotation() for text in figure.axes[0].get_yticklabels()} == {0 if height < 20 else 90}


def test_a_model_without_a_latent_space_has_no_column_for_it(random):
    images = random.random((2, 12, 12, 1))
    axes = figures.example_rows({"input": images, "output": images}, None).axes
    assert [axis.get_title() for axis in axes[:3]] == ["input", "output", "error"]


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_table_has_every_image_in_its_place(channels, random):
    rows = {"one": random.random((3, 5, 4, channels)), "two": random.random((3, 5, 4, channels))}
    axis = figures.image_table(rows, ["a", "b", "c"]).axes[0]
    picture = displayed(axis).reshape(14, 18, -1)
    assert np.allclose(picture[0], figures.FRAME_GRAY) and np.allclose(picture[:, 6], figures.FRAME_GRAY)
    for row, images in enumerate(rows.values()):
        for column, image in enumerate(images):
            np.testing.assert_allclose(picture[7 * row + 1 : 7 * row + 6, 6 * column + 1 : 6 * column + 5], image)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["one", "two"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "b", "c"]
    assert axis.get_yticks().tolist() == [3.5, 10.5] and axis.get_xticks().tolist() == [3, 9, 15]


def test_images_of_a_table_are_drawn_no_smaller_than_they_are(random):
    for width, inches in ((28, 0.55), (64, 0.6), (500, 1.2)):  # 66 pixels at 110 to an inch.
        size = figures.image_table(random.random((2, 3, 10, width, 1))).get_size_inches()
        assert size == pytest.approx([3 * inches, 2 * inches * 12 / (width + 2)])


def test_titles_that_are_wider_than_an_image_are_slanted_and_bounded(random):
    rows = random.random((1, 2, 32, 32, 3))
    for titles, cell_inches, rotation in (
        (["cat", "dog"], 0.55, 0),
        (["cat", "automobile"], 0.55, 60),  # 0.7 inches.
        (["non-local\nmeans", "a"], 0.95, 0),
        (["cat", "a" * 99], 0.95, 60),
    ):
        labels = figures.image_table(rows, titles, cell_inches).axes[0].get_xticklabels()
        assert {each.get_rotation() for each in labels} == {rotation}
        assert max(len(each.get_text()) for each in labels) <= figures.MAX_LABEL_CHARACTERS


def test_an_image_table_leaves_missing_cells_white(random):
    one, two, three = random.random((3, 12, 12, 1))
    axis = figures.image_table({"rain": [one, two], "snow": [None, three]}).axes[0]
    picture = displayed(axis)
    assert (picture[14:, :14] == 1).all()
    for image, (row, column) in ((one, (0, 0)), (two, (0, 1)), (three, (1, 1))):
        np.testing.assert_allclose(picture[14 * row + 1 :, 14 * column + 1 :][:12, :12], image[..., 0])


def test_an_image_table_without_labels_has_no_ticks(random):
    axis = figures.image_table(random.random((2, 3, 12, 12, 1))).axes[0]
    assert not len(axis.get_xticks()) and not len(axis.get_yticks())


@pytest.mark.parametrize("count", [1, 4])
def test_a_contact_sheet_shows_each_image_before_and_after(count, random):
    pairs = [(f"{number}.png", *random.random((2, 12, 10, 3))) for number in range(count)]
    axes = [axis for axis in figures.contact_sheet(pairs).axes if axis.images]
    assert len(axes) == 2 * count
    for (name, before, after), first, second in zip(pairs, axes[::2], axes[1::2]):
        assert first.get_title() == name and second.get_title() == "denoised"
        np.testing.assert_allclose(displayed(first), before)
        np.testing.assert_allclose(displayed(second), after)


@pytest.mark.parametrize("text", ["a$b$c", r"\$", "$", r"$\frac$ & $", "_x^2 % {"])
def test_a_label_is_drawn_as_it_is(text):
    drawn, expected = Figure(), Figure()
    drawn.text(0.5, 0.5, figures.label(text))
    expected.text(0.5, 0.5, text, parse_math=False)
    assert figures.png(drawn) == figures.png(expected)


def test_a_label_escapes_what_is_not_printable_and_shortens_lines():
    assert figures.label("caf\udce9\tx\ny") == "caf\\udce9\\tx\ny"
    assert figures.label("x" * 30 + "$\nabc", 8) == "...xxxx\\$\nabc"


def test_figures_accept_names_that_are_not_text_or_look_like_formulas(random):
    names, images = ["caf\udce9", "$x_1$ & $", "a\nb"], random.random((3, 8, 8, 1))
    drawn = {
        "caf\\udce9 \\$x_1\\$ & \\$ a\\nb": figures.contact_sheet([(name, *images[:2]) for name in names]),
        "caf\\udce9\np \\$x_1\\$ & \\$\np a\\nb\np": figures.captioned_grid([(name, "p", images[0]) for name in names]),
    }
    for titles, figure in drawn.items():
        assert " ".join(axis.get_title() for axis in figure.axes if axis.get_title() not in ("", "denoised")) == titles
    rows = figures.example_rows(dict.fromkeys(names, images), None, names)
    table = figures.image_table(dict.fromkeys(names, images), names)
    assert [axis.get_title() for axis in rows.axes[:3]] == [figures.label(name) for name in names]
    for axis in (rows.axes[0], table.axes[0]):
        assert [each.get_text() for each in axis.get_yticklabels()] == [figures.label(name) for name in names]
    assert all(map(figures.png, [*drawn.values(), rows, table]))


def test_a_captioned_grid_has_a_name_and_a_caption_over_each_image(random):
    images = [(f"{number}.png", f"p {number}", random.random((8, 8, 1))) for number in range(7)]
    figure = figures.captioned_grid([*images, ("x" * 30, "p 7", random.random((4, 9, 3)))])
    titles = [axis.get_title() for axis in figure.axes if axis.images]
    assert titles == [f"{number}.png\np {number}" for number in range(7)] + ["..." + "x" * 17 + "\np 7"]
    assert len(figure.axes) == 12 and not any(axis.axison for axis in figure.axes[8:])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gif_shows_every_image_for_ever(channels, random):
    images = random.random((5, 7, 9, channels))
    with Image.open(io.BytesIO(figures.gif(images, frame_seconds=0.1))) as animation:
        assert animation.n_frames == 5 and animation.info["loop"] == 0 and animation.info["duration"] == 100
        assert animation.size[0] % 9 == 0 and animation.size[0] / animation.size[1] == 9 / 7
        animation.seek(4)
        frame = np.asarray(animation.convert("RGB"))[:: animation.size[1] // 7, :: animation.size[0] // 9] / 255
    np.testing.assert_allclose(frame, np.broadcast_to(images[4], (7, 9, 3)), atol=0.3 if channels == 3 else 0.01)
