import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import pairwise_distances_argmin_min

from cae.config import Config
from cae.data import datasets, lines
from cae.errors import UserError


@pytest.fixture(scope="module")
def ends():
    """Angles of the ends of paths that turn by less than half a circle, since the shorter turn is what is measured."""
    random = np.random.default_rng(0)
    first = random.uniform(0, 2 * np.pi, 12)
    return first, first + random.uniform(0.5, 3, 12) * random.choice([-1, 1], 12)


def paths(first, last, steps=16):
    """Lines at even steps from one angle to another, [paths, steps, 32, 32, 1] in 0..1."""
    angles = np.linspace(first, last, steps, axis=1)
    return lines.draw(angles.ravel()).reshape(*angles.shape, 32, 32, 1) / 255


def test_lines_along_the_axes_are_two_rows_or_columns_from_the_center_outward():
    right, up, left, down = lines.draw(np.arange(4) * np.pi / 2)[..., 0]
    expected = np.zeros([32, 32], np.uint8)
    expected[15:17, 16:] = 255
    for turns, image in enumerate((right, up, left, down)):
        # The edges of a line lie between pixels; the slope that replaces 0 costs a gray level.
        np.testing.assert_allclose(image.astype(int), np.rot90(expected, turns).astype(int), atol=1)


@pytest.mark.parametrize("angle", [0.2, 0.7854, 1.3, 2.5, 4.0, 6.1])
def test_a_line_is_what_pillow_draws_on_a_fine_grid(angle):
    fine = 32
    direction, aside = np.array([np.cos(angle), -np.sin(angle)]), np.array([np.sin(angle), np.cos(angle)])
    corners = [fine * (16 + along * direction + side * aside) for along, side in ((0, 1), (16, 1), (16, -1), (0, -1))]
    canvas = Image.new("L", (32 * fine, 32 * fine))
    ImageDraw.Draw(canvas).polygon([tuple(corner - 0.5) for corner in corners], fill=255)
    expected = np.asarray(canvas.reduce(fine), int)
    # Pillow counts pixels of the fine grid that an edge only touches.
    np.testing.assert_allclose(lines.draw(np.array([angle]))[0, ..., 0].astype(int), expected, atol=16)


def test_a_quarter_turn_of_the_angle_is_one_of_the_image():
    angles = np.array([0.3, 1.0, 5.0])
    before, after = lines.draw(angles), lines.draw(angles + np.pi / 2)
    np.testing.assert_allclose(after.astype(int), np.rot90(before, axes=(1, 2)).astype(int), atol=1)


def test_all_lines_are_equally_bright_and_change_continuously_with_the_angle():
    images = lines.draw(np.linspace(0, 2 * np.pi, 2001))
    np.testing.assert_allclose(images.sum(axis=(1, 2, 3)) / 255, 2 * 16, rtol=0.01)
    # The outer end moves by 16 pixels a radian, and a pixel is full after 1: 13 of 255 levels in such a step.
    assert 8 < np.abs(np.diff(images.astype(int), axis=0)).max() <= 16 * 255 * 2 * np.pi / 2000 * 1.5


def test_lines_do_not_depend_on_the_chunk_that_they_are_drawn_in():
    angles, indices = lines.sample_angles()[:1100], [0, 1023, 1024, 1099]
    np.testing.assert_array_equal(lines.draw(angles)[indices], lines.draw(angles[indices]))


# --- The data set ----------------------------------------------------------------------------------------------------


def test_the_data_set_has_four_splits_and_an_interpolation_metric():
    dataset = datasets.open_dataset(Config(dataset="lines"))
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes == {"train": 50_000, "validation": 5_000, "calibration": 5_000, "test": 10_000}
    assert dataset.image_shape == (32, 32, 1) and dataset.class_names == ()
    assert dataset.interpolation_metric is lines.evaluate_interpolation
    assert json.dumps(dataset.info())
    images, labels = dataset.load("validation")
    np.testing.assert_array_equal(images, lines.draw(lines.sample_angles()[50_000:55_000]))
    np.testing.assert_array_equal(labels, np.zeros(5_000))
    assert dataset.splits["test"].origin == "drawn lines[60000:70000]"


def test_angles_are_reproducible_and_uniform():
    angles = lines.sample_angles()
    # RandomState(0).random_sample() starts with this number in NumPy's documentation.
    assert angles[0] == pytest.approx(2 * np.pi * 0.5488135, abs=1e-6)
    assert len(np.unique(angles)) == lines.NUM_IMAGES
    np.testing.assert_allclose(np.histogram(angles, 10, (0, 2 * np.pi))[0], lines.NUM_IMAGES / 10, rtol=0.05)


@pytest.mark.parametrize("other", [{"image_size": 28}, {"channels": 3}])
def test_other_sizes_and_channels_are_refused(other):
    with pytest.raises(UserError, match=r"grayscale images of 32x32.* not supported"):
        datasets.open_dataset(Config(dataset="lines", **other))


def test_its_own_size_can_be_set():
    assert datasets.open_dataset(Config(dataset="lines", image_size=32, channels=1)).image_shape == (32, 32, 1)


# --- The metrics ------------------------------------------------------------------------------------------------------


def test_a_rotating_line_is_a_perfect_interpolation(ends):
    scores = lines.evaluate_interpolation(paths(*ends))
    # The nearest of 10,000 lines is 0.0003 radians away at most, which is a distance of 5e-7.
    assert 0 <= scores["mean_distance"] < 2e-6
    # A turn of 0.5 is 15 steps of 53 lines each; an error of one line is 2 / 796 of the total.
    assert 0 <= scores["smoothness"] < 0.003
    assert scores["scored"] == 12


def test_a_blend_of_two_lines_is_a_bad_interpolation(ends):
    images = paths(*ends)
    share = np.linspace(0, 1, 16)[:, None, None, None]
    scores = lines.evaluate_interpolation((1 - share) * images[:, :1] + share * images[:, -1:])
    assert scores["mean_distance"] > 3e-3 and scores["smoothness"] > 0.5


def test_smoothness_of_a_path_with_a_single_jump(ends):
    images = paths(*ends)
    images[:, 1:9], images[:, 9:15] = images[:, :1], images[:, -1:]
    assert lines.evaluate_interpolation(images)["smoothness"] == pytest.approx(1 - 1 / 15)


def test_a_path_across_angle_zero_is_smooth():
    scores = lines.evaluate_interpolation(paths(np.array([-0.8]), np.array([0.7])))
    assert scores["smoothness"] < 0.003


def test_smoothness_of_a_path_with_one_step_of_double_width():
    # 16 equal parts of a turn of 1.6, of which one step takes two.
    angles = np.delete(np.arange(17) * 0.1, 8)
    path = lines.draw(angles)[None] / 255
    assert lines.evaluate_interpolation(path)["smoothness"] == pytest.approx(2 / 16 - 1 / 15, abs=0.002)


def test_paths_between_equal_lines_have_no_smoothness(ends):
    images = paths(*ends)
    still = np.repeat(images[:1, :1], 16, axis=1)
    both = lines.evaluate_interpolation(np.concatenate([images, still]))
    assert both["scored"] == 12
    assert both["smoothness"] == pytest.approx(lines.evaluate_interpolation(images)["smoothness"])
    assert lines.evaluate_interpolation(still) | {"mean_distance": 0} == {
        "mean_distance": 0,
        "smoothness": None,
        "scored": 0,
    }


def test_distance_is_the_minimum_cosine_distance_to_10000_lines(random):
    images = random.random((1, 16, 32, 32, 1))
    everything = lines.draw(np.linspace(0, 2 * np.pi, 10_000, endpoint=False))
    # In the paper's scale, where the background is -1.
    _, expected = pairwise_distances_argmin_min(
        2 * images.reshape(16, -1) - 1, everything.reshape(10_000, -1) / 127.5 - 1, metric="cosine"
    )
    assert lines.evaluate_interpolation(images)["mean_distance"] == pytest.approx(expected.mean(), rel=1e-4)


def test_metrics_of_many_paths_are_means_of_those_of_each(ends, random):
    images = np.clip(paths(*ends) + random.normal(0, 0.1, (12, 16, 32, 32, 1)), 0, 1)
    many = lines.evaluate_interpolation(np.tile(images, (6, 1, 1, 1, 1)))
    single = [lines.evaluate_interpolation(path[None]) for path in images]
    assert many["mean_distance"] == pytest.approx(np.mean([each["mean_distance"] for each in single]), rel=1e-4)
    assert many["smoothness"] == pytest.approx(np.mean([each["smoothness"] for each in single]), rel=1e-4)
    assert many["scored"] == 72
