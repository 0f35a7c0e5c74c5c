import numpy as np
import pytest
import tensorflow as tf

from cae.outliers import gradients

ANGLES = 2 * np.pi * np.arange(8) / 8


def describe(images):
    """Returns descriptors with an axis each for the windows' rows, their columns, and the directions."""
    return gradients.describe(tf.constant(images, tf.float32)).numpy().reshape(-1, 7, 7, 8)


def by_hand(image):
    """Returns the descriptor of one grey image [h, w], window by window; its border goes on outside."""
    height, width = image.shape
    padded = np.pad(image.astype(np.float64), 1, "edge")
    across, down = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    found = np.zeros([7, 7, 8])
    for row in range(7):
        for column in range(7):
            off_row = (np.arange(height) + 0.5) / height * 7 - (row + 0.5)
            off_column = (np.arange(width) + 0.5) / width * 7 - (column + 0.5)
            # A window's deviation is half the distance of two.
            weights = np.exp(-2 * off_row[:, None] ** 2) * np.exp(-2 * off_column**2)
            for number, angle in enumerate(ANGLES):
                along = np.maximum(np.cos(angle) * across + np.sin(angle) * down, 0)
                found[row, column, number] = np.sqrt((weights * along).sum() / weights.sum())
    return found


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_have_no_slopes_whatever_their_value(value):
    # Diagonal directions leave a rounding error.
    np.testing.assert_allclose(describe(np.full([2, 12, 12, 1], value)), 0, atol=1e-6)


@pytest.mark.parametrize("turns", range(4))
def test_a_ramp_rises_in_its_own_direction(turns):
    # From left to right by 1/28 a pixel; turned against the clock it rises upwards, that is by -90 degrees.
    ramp = np.rot90(np.tile(np.arange(28) / 28, (28, 1)), turns)
    expected = np.sqrt(1 / 28 * np.maximum(0, np.cos(ANGLES + turns * np.pi / 2)))
    found = describe(ramp[None, :, :, None])[0, 2:5, 2:5]
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=2e-3)


@pytest.mark.parametrize("sides", [(12, 12), (20, 31)])
def test_descriptors_are_those_worked_out_window_by_window(random, sides):
    images = random.random([2, *sides])
    expected = np.stack([by_hand(image) for image in images])
    np.testing.assert_allclose(describe(images[..., None]), expected, atol=1e-4)


def test_a_mirror_swaps_the_windows_columns_and_the_directions(random):
    images = random.random([3, 20, 31, 1])
    # What pointed along theta points along pi - theta.
    expected = describe(images)[:, :, ::-1][..., (4 - np.arange(8)) % 8]
    np.testing.assert_allclose(describe(images[:, :, ::-1]), expected, atol=1e-4)


def test_of_colours_the_mean_is_described(random):
    images = random.random([3, 16, 16, 3])
    np.testing.assert_allclose(describe(images), describe(images.mean(axis=-1, keepdims=True)), atol=1e-4)


def test_contrast_counts_by_its_root(random):
    images = random.random([2, 16, 16, 1])
    np.testing.assert_allclose(describe(images / 4), describe(images) / 2, atol=1e-4)


def test_an_image_is_described_alike_alone_and_among_others(random):
    images = random.random([9, 14, 14, 1])
    alone = np.concatenate([describe(image[None]) for image in images])
    np.testing.assert_allclose(describe(images), alone, atol=1e-5)


def test_a_point_is_as_far_from_a_plane_as_it_is_above_it():
    # These neighbours span the plane z = 2.
    neighbours = np.array([[0.0, 0, 2], [1, 0, 2], [0, 1, 2], [5, 7, 2]])
    points = np.array([[0.3, 0.4, 5], [100, -50, 2], [1, 0, 1]])
    found = gradients.distance_to_span(points[None], neighbours[None], 1e-12)
    np.testing.assert_allclose(found, [[9, 0, 1]], atol=1e-4)


def test_the_ridge_keeps_near_the_neighbours_mean():
    # Neighbours at -1 and 1 with a ridge of 1: spread 1, products [[1, -1], [-1, 1]] + 1, and of a point at a in their
    # line 2 a^2 / 3 is explained; none of what lies across it is.
    neighbours = np.array([[[-1.0, 0], [1, 0]]] * 2)
    found = gradients.distance_to_span(np.array([[[3.0, 0]], [[3, 2]]]), neighbours, 1.0)
    np.testing.assert_allclose(found, [[3], [7]], rtol=1e-6)


@pytest.mark.parametrize("ridge", [0.03, 0.3, 3])
@pytest.mark.parametrize("dtype, precision", [(np.float64, 1e-6), (np.float32, 1e-3)])
def test_the_distance_is_that_of_least_squares_with_a_ridge(random, ridge, dtype, precision):
    points, neighbours = random.normal(size=[6, 10]).astype(dtype), random.normal(size=[6, 4, 10]).astype(dtype)
    expected = []
    for point, near in zip(points.astype(np.float64), neighbours.astype(np.float64)):
        centred = near - near.mean(axis=0)
        # The ridge as further equations, which want all weights to be zero.
        penalty = np.sqrt(ridge * np.square(centred).sum(axis=1).mean()) * np.eye(4)
        wanted = np.concatenate([point - near.mean(axis=0), np.zeros(4)])
        expected.append(np.linalg.lstsq(np.concatenate([centred.T, penalty]), wanted)[1][0])
    np.testing.assert_allclose(
        gradients.distance_to_span(points[:, None], neighbours, ridge)[:, 0], expected, rtol=precision
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neighbours_that_are_all_the_same_span_just_that_point(random, dtype):
    points, near = random.normal(size=[5, 8]).astype(dtype), random.normal(size=[5, 8]).astype(dtype)
    found = gradients.distance_to_span(points[:, None], np.repeat(near[:, None], 6, axis=1), 0.3)[:, 0]
    np.testing.assert_allclose(found, np.square(points - near).sum(axis=1), rtol=1e-3)


def test_more_neighbours_than_dimensions_and_a_point_among_them_are_no_trouble(random):
    neighbours = random.normal(size=[1, 30, 4]).astype(np.float32)
    found = gradients.distance_to_span(neighbours[:, :1], neighbours, 0.3)[:, 0]
    assert np.isfinite(found).all() and 0 <= found[0] < np.square(neighbours[0, 0] - neighbours[0].mean(axis=0)).sum()
