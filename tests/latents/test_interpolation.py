import numpy as np
import pytest

from cae.errors import UserError
from cae.latents import interpolation


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0,1", [0, 1]),
        ("0, 0.25 ,1", [0, 0.25, 1]),
        ("1,0.5,0,0.5", [0, 0.5, 1]),
        ("0,0.1,...,1", np.arange(11) / 10),
        ("0,0.25,...,0.5,1", [0, 0.25, 0.5, 1]),
        ("0,0.3,...,1", [0, 0.3, 0.6, 0.9, 1]),
        (".5,1e0", [0.5, 1]),
        ("-1e-6,0.5,...,1.000001", [0, 0.5, 1]),
    ],
)
def test_weights_are_parsed_in_increasing_order(text, expected):
    np.testing.assert_allclose(interpolation.parse_weights(text), expected, atol=1e-9)


@pytest.mark.parametrize(
    "text, message",
    [
        ("0,half,1", "'half' is not a number from 0 to 1"),
        ("0,1.5", "'1.5' is not a number from 0 to 1"),
        ("0,1.000002", "'1.000002' is not a number from 0 to 1"),
        ("nan,1", "'nan' is not a number from 0 to 1"),
        ("-0.1,1", "'-0.1' is not a number"),
        ("0,nan", "'nan' is not a number"),
        ("", "'' is not a number"),
        ("0.5", "needs at least two weights"),
        ("0.5,0.5", "needs at least two weights"),
        ("0.5,0.5000000001", "needs at least two weights"),
        ("0,...,1", "'...' needs two increasing weights before"),
        ("0,0.1,...", "and a larger one after"),
        ("0.2,0.1,...,1", "increasing"),
    ],
)
def test_invalid_weights_are_refused(text, message):
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        interpolation.parse_weights(text)


def test_paths_start_and_end_at_the_given_vectors(random):
    start, end = random.standard_normal((2, 6, 5))
    for interpolator in interpolation.INTERPOLATORS.values():
        path = interpolation.interpolate_path(start, end, np.array([0.0, 0.3, 1.0]), interpolator)
        assert path.shape == (6, 3, 5)
        np.testing.assert_allclose(path[:, 0], start, atol=1e-12)
        np.testing.assert_allclose(path[:, -1], end, atol=1e-12)


def test_lerp_is_a_straight_line():
    path = interpolation.interpolate_path(np.array([[0.0, 4.0]]), np.array([[2.0, 0.0]]), np.array([0.25, 0.5]))
    np.testing.assert_allclose(path, [[[0.5, 3], [1, 2]]])


def test_slerp_is_on_the_sphere_at_even_angles():
    weights = np.array([0, 1 / 3, 2 / 3, 1])
    path = interpolation.interpolate_path(np.array([[2.0, 0.0]]), np.array([[0.0, 2.0]]), weights, interpolation.slerp)[
        0
    ]
    angles = np.pi / 2 * weights
    np.testing.assert_allclose(path, 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-12)


@pytest.mark.parametrize("start, end", [([1.0, 0.0], [3.0, 0.0]), ([1.0, 0.0], [-1.0, 0.0]), ([0.0, 0.0], [1.0, 2.0])])
def test_slerp_is_linear_for_parallel_and_zero_vectors(start, end):
    start, end, weights = np.array([start]), np.array([end]), np.array([0.0, 0.25, 1.0])
    arc = interpolation.interpolate_path(start, end, weights, interpolation.slerp)
    np.testing.assert_allclose(arc, interpolation.interpolate_path(start, end, weights), atol=1e-12)


def test_grid_has_the_corners_and_their_mean_in_the_middle(random):
    corners = random.standard_normal((4, 3))
    grid = interpolation.interpolate_grid(corners, 5)
    np.testing.assert_allclose([grid[0, 0], grid[0, -1], grid[-1, 0], grid[-1, -1]], corners)
    np.testing.assert_allclose(grid[2, 2], corners.mean(axis=0))
    np.testing.assert_allclose(grid[0, 2], corners[:2].mean(axis=0))


def test_closed_path_passes_each_anchor_once_and_returns(random):
    anchors = random.standard_normal((3, 4))
    path = interpolation.closed_path(anchors, 5)
    assert path.shape == (15, 4)
    np.testing.assert_allclose(path[::5], anchors)
    # It is one step from the last vector to the first.
    np.testing.assert_allclose(path[14] + (anchors[0] - anchors[2]) / 5, anchors[0])
