import numpy as np
import pytest

from cae.errors import UserError
from cae.latents import mixing


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
    ],
)
def test_degrees_are_read_in_rising_order(text, expected):
    np.testing.assert_allclose(mixing.degrees(text), expected, atol=1e-9)


@pytest.mark.parametrize(
    "text, told",
    [
        ("0,half,1", "'half' is no number from 0 to 1"),
        ("0,1.5", "'1.5' is no number from 0 to 1"),
        ("-0.1,1", "'-0.1' is no number"),
        ("0,nan", "'nan' is no number"),
        ("", "'' is no number"),
        ("0.5", "needs two degrees at least"),
        ("0.5,0.5", "needs two degrees at least"),
        ("0,...,1", "'...' needs two rising degrees before it"),
        ("0,0.1,...", "and a larger one after"),
        ("0.2,0.1,...,1", "rising"),
    ],
)
def test_what_is_no_list_of_degrees_is_refused(text, told):
    with pytest.raises(UserError, match=told.replace(".", r"\.")):
        mixing.degrees(text)


def test_the_ends_are_the_ends(random):
    start, end = random.standard_normal((2, 6, 5))
    for mixer in mixing.MIXERS.values():
        path = mixing.path(start, end, np.array([0.0, 0.3, 1.0]), mixer)
        assert path.shape == (6, 3, 5)
        np.testing.assert_allclose(path[:, 0], start, atol=1e-12)
        np.testing.assert_allclose(path[:, -1], end, atol=1e-12)


def test_linear_is_the_straight_line():
    path = mixing.path(np.array([[0.0, 4.0]]), np.array([[2.0, 0.0]]), np.array([0.25, 0.5]))
    np.testing.assert_allclose(path, [[[0.5, 3], [1, 2]]])


def test_spherical_keeps_to_the_sphere_at_an_even_angle():
    at = np.array([0, 1 / 3, 2 / 3, 1])
    path = mixing.path(np.array([[2.0, 0.0]]), np.array([[0.0, 2.0]]), at, mixing.spherical)[0]
    angles = np.pi / 2 * at
    np.testing.assert_allclose(path, 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1), atol=1e-12)


@pytest.mark.parametrize("start, end", [([1.0, 0.0], [3.0, 0.0]), ([1.0, 0.0], [-1.0, 0.0]), ([0.0, 0.0], [1.0, 2.0])])
def test_spherical_is_linear_where_there_is_no_arc(start, end):
    start, end, at = np.array([start]), np.array([end]), np.array([0.0, 0.25, 1.0])
    arc = mixing.path(start, end, at, mixing.spherical)
    np.testing.assert_allclose(arc, mixing.path(start, end, at), atol=1e-12)


def test_a_grid_has_its_four_in_the_corners_and_their_mean_in_the_middle(random):
    corners = random.standard_normal((4, 3))
    grid = mixing.grid(corners, 5)
    np.testing.assert_allclose([grid[0, 0], grid[0, -1], grid[-1, 0], grid[-1, -1]], corners)
    np.testing.assert_allclose(grid[2, 2], corners.mean(axis=0))
    np.testing.assert_allclose(grid[0, 2], corners[:2].mean(axis=0))


def test_a_ring_passes_each_station_once_and_closes(random):
    stations = random.standard_normal((3, 4))
    ring = mixing.ring(stations, 5)
    assert ring.shape == (15, 4)
    np.testing.assert_allclose(ring[::5], stations)
    # From the last image it is one step to the first.
    np.testing.assert_allclose(ring[14] + (stations[0] - stations[2]) / 5, stations[0])
