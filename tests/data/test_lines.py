import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from sklearn.metrics import pairwise_distances_argmin_min

from cae.config import Config
from cae.data import lines, sources
from cae.errors import UserError


@pytest.fixture(scope="module")
def ends():
    """Angles of the ends of paths that turn by less than half a circle, as the shorter way round is what is found."""
    random = np.random.default_rng(0)
    first = random.uniform(0, 2 * np.pi, 12)
    return first, first + random.uniform(0.5, 3, 12) * random.choice([-1, 1], 12)


def paths(first, last, steps=16):
    """Lines at even steps from one angle to another, [paths, steps, 32, 32, 1] in 0..1."""
    angles = np.linspace(first, last, steps, axis=1)
    return lines.draw(angles.ravel()).reshape(*angles.shape, 32, 32, 1) / 255


def test_lines_along_the_axes_are_two_rows_or_columns_from_the_centre_outward():
    right, up, left, down = lines.draw(np.arange(4) * np.pi / 2)[..., 0]
    expected = np.zeros([32, 32], np.uint8)
    expected[15:17, 16:] = 255
    for turns, image in enumerate((right, up, left, down)):
        # The edges of a line lie between pixels; the slope that stands in for 0 costs a grey level.
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


def test_all_lines_are_equally_bright_and_neighbours_are_alike():
    images = lines.draw(np.linspace(0, 2 * np.pi, 2001))
    np.testing.assert_allclose(images.sum(axis=(1, 2, 3)) / 255, 2 * 16, rtol=0.01)
    # The outer end moves by 16 pixels a radian, and a pixel is full after 1: 13 of 255 levels in such a step.
    assert 8 < np.abs(np.diff(images.astype(int), axis=0)).max() <= 16 * 255 * 2 * np.pi / 2000 * 1.5


def test_lines_drawn_together_are_those_drawn_alone():
    angles = lines.angles()[:600]
    np.testing.assert_array_equal(lines.draw(angles)[[0, 255, 256, 599]], lines.draw(angles[[0, 255, 256, 599]]))


# --- The data set ----------------------------------------------------------------------------------------------------


def test_the_data_set_has_four_splits_of_other_lines_and_can_judge():
    source = sources.open_source(Config(dataset="lines"))
    sizes = {name: split.images for name, split in source.splits.items()}
    assert sizes == {"train": 50_000, "validation": 5_000, "calibration": 5_000, "test": 10_000}
    assert source.image_shape == (32, 32, 1) and source.class_names == ()
    assert source.judge is lines.judge
    assert "judge" not in source.describe() and json.dumps(source.describe())
    images, labels = source.read("validation")
    np.testing.assert_array_equal(images, lines.draw(lines.angles()[50_000:55_000]))
    np.testing.assert_array_equal(labels, np.zeros(5_000))
    assert source.splits["test"].origin == "drawn lines[60000:70000]"


def test_angles_are_the_same_every_time_and_go_all_the_way_round():
    angles = lines.angles()
    # The first of RandomState(0).random_sample() that NumPy's documentation has ever shown.
    assert angles[0] == pytest.approx(2 * np.pi * 0.5488135, abs=1e-6)
    assert len(np.unique(angles)) == lines.IMAGES
    np.testing.assert_allclose(np.histogram(angles, 10, (0, 2 * np.pi))[0], lines.IMAGES / 10, rtol=0.05)


@pytest.mark.parametrize("other", [{"image_size": 28}, {"channels": 3}])
def test_other_sizes_and_colours_are_refused(other):
    with pytest.raises(UserError, match="grey images of 32x32 alone"):
        sources.open_source(Config(dataset="lines", **other))


def test_the_size_that_it_has_may_be_said():
    assert sources.open_source(Config(dataset="lines", image_size=32, channels=1)).image_shape == (32, 32, 1)


# --- The scores ------------------------------------------------------------------------------------------------------


def test_a_turning_line_is_the_best_path(ends):
    scores = lines.judge(paths(*ends))
    # The nearest of 10,000 lines is 0.0003 radians away at most, which is a distance of 5e-7.
    assert 0 <= scores["mean_distance"] < 2e-6
    # A turn of 0.5 is 15 steps of 53 lines each; a nearest line that is one beside it is 2 / 796 of the whole.
    assert 0 <= scores["smoothness"] < 0.003
    assert scores["scored"] == 12


def test_a_blend_of_two_lines_is_no_path(ends):
    whole = paths(*ends)
    share = np.linspace(0, 1, 16)[:, None, None, None]
    scores = lines.judge((1 - share) * whole[:, :1] + share * whole[:, -1:])
    assert scores["mean_distance"] > 3e-3 and scores["smoothness"] > 0.5


def test_a_path_that_jumps_has_one_step_of_fifteen(ends):
    whole = paths(*ends)
    whole[:, 1:9], whole[:, 9:15] = whole[:, :1], whole[:, -1:]
    assert lines.judge(whole)["smoothness"] == pytest.approx(1 - 1 / 15)


def test_a_path_over_the_angle_zero_is_as_smooth_as_any():
    scores = lines.judge(paths(np.array([-0.8]), np.array([0.7])))
    assert scores["smoothness"] < 0.003


def test_a_step_twice_as_wide_as_the_others_is_seen():
    # 16 equal parts of a turn of 1.6, of which one step takes two.
    angles = np.delete(np.arange(17) * 0.1, 8)
    path = lines.draw(angles)[None] / 255
    assert lines.judge(path)["smoothness"] == pytest.approx(2 / 16 - 1 / 15, abs=0.002)


def test_paths_that_end_where_they_began_are_not_scored(ends):
    whole = paths(*ends)
    still = np.repeat(whole[:1, :1], 16, axis=1)
    both = lines.judge(np.concatenate([whole, still]))
    assert both["scored"] == 12
    assert both["smoothness"] == pytest.approx(lines.judge(whole)["smoothness"])
    assert lines.judge(still) | {"mean_distance": 0} == {"mean_distance": 0, "smoothness": None, "scored": 0}


def test_the_distance_is_the_least_cosine_distance_to_10000_lines(random):
    images = random.random((1, 16, 32, 32, 1))
    everything = lines.draw(np.linspace(0, 2 * np.pi, 10_000, endpoint=False))
    # On the scale of the paper, where the background is -1.
    _, expected = pairwise_distances_argmin_min(
        2 * images.reshape(16, -1) - 1, everything.reshape(10_000, -1) / 127.5 - 1, metric="cosine"
    )
    assert lines.judge(images)["mean_distance"] == pytest.approx(expected.mean(), rel=1e-4)


def test_many_paths_are_judged_as_one_by_one(ends, random):
    whole = np.clip(paths(*ends) + random.normal(0, 0.1, (12, 16, 32, 32, 1)), 0, 1)
    many = lines.judge(np.tile(whole, (6, 1, 1, 1, 1)))
    single = [lines.judge(path[None]) for path in whole]
    assert many["mean_distance"] == pytest.approx(np.mean([each["mean_distance"] for each in single]), rel=1e-4)
    assert many["smoothness"] == pytest.approx(np.mean([each["smoothness"] for each in single]), rel=1e-4)
    assert many["scored"] == 72
