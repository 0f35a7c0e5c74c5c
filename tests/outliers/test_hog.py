import numpy as np
import pytest
import tensorflow as tf

from cae.outliers import hog

ANGLES = 2 * np.pi * np.arange(8) / 8


def hog_descriptors(images):
    """Returns descriptors as [n, rows of windows, columns of windows, directions]."""
    return hog.hog_descriptors(tf.constant(images, tf.float32)).numpy().reshape(-1, 7, 7, 8)


def expected_descriptor(image):
    """Returns the descriptor of one gray image [h, w], computed window by window with a repeated border."""
    height, width = image.shape
    padded = np.pad(image.astype(np.float64), 1, "edge")
    horizontal, vertical = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    descriptor = np.zeros([7, 7, 8])
    for row in range(7):
        for column in range(7):
            row_offsets = (np.arange(height) + 0.5) / height * 7 - (row + 0.5)
            column_offsets = (np.arange(width) + 0.5) / width * 7 - (column + 0.5)
            # A window's standard deviation is half the distance between windows.
            weights = np.exp(-2 * row_offsets[:, None] ** 2) * np.exp(-2 * column_offsets**2)
            for index, angle in enumerate(ANGLES):
                gradients = np.maximum(np.cos(angle) * horizontal + np.sin(angle) * vertical, 0)
                descriptor[row, column, index] = np.sqrt((weights * gradients).sum() / weights.sum())
    return descriptor


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_have_no_gradients(value):
    # Diagonal directions leave a rounding error.
    np.testing.assert_allclose(hog_descriptors(np.full([2, 12, 12, 1], value)), 0, atol=1e-6)


@pytest.mark.parametrize("turns", range(4))
def test_ramp_has_the_gradient_of_its_direction(turns):
    # 1/28 per pixel from left to right; rotated counterclockwise it rises upwards, at -90 degrees.
    ramp = np.rot90(np.tile(np.arange(28) / 28, (28, 1)), turns)
    expected = np.sqrt(1 / 28 * np.maximum(0, np.cos(ANGLES + turns * np.pi / 2)))
    descriptors = hog_descriptors(ramp[None, :, :, None])[0, 2:5, 2:5]
    np.testing.assert_allclose(descriptors, np.broadcast_to(expected, descriptors.shape), atol=2e-3)


@pytest.mark.parametrize("sides", [(12, 12), (20, 31)])
def test_descriptors_match_those_computed_window_by_window(random, sides):
    images = random.random([2, *sides])
    expected = np.stack([expected_descriptor(image) for image in images])
    np.testing.assert_allclose(hog_descriptors(images[..., None]), expected, atol=1e-4)


def test_flip_reverses_columns_of_windows_and_directions(random):
    images = random.random([3, 20, 31, 1])
    # Direction theta becomes pi - theta.
    expected = hog_descriptors(images)[:, :, ::-1][..., (4 - np.arange(8)) % 8]
    np.testing.assert_allclose(hog_descriptors(images[:, :, ::-1]), expected, atol=1e-4)


def test_color_images_are_described_by_the_mean_of_channels(random):
    images = random.random([3, 16, 16, 3])
    np.testing.assert_allclose(hog_descriptors(images), hog_descriptors(images.mean(axis=-1, keepdims=True)), atol=1e-4)


def test_descriptors_scale_with_the_root_of_contrast(random):
    images = random.random([2, 16, 16, 1])
    np.testing.assert_allclose(hog_descriptors(images / 4), hog_descriptors(images) / 2, atol=1e-4)


def test_descriptor_does_not_depend_on_the_batch(random):
    images = random.random([9, 14, 14, 1])
    alone = np.concatenate([hog_descriptors(image[None]) for image in images])
    np.testing.assert_allclose(hog_descriptors(images), alone, atol=1e-5)


def test_distance_from_a_plane_is_the_height_above_it():
    # These neighbors span the plane z = 2.
    neighbors = np.array([[0.0, 0, 2], [1, 0, 2], [0, 1, 2], [5, 7, 2]])
    points = np.array([[0.3, 0.4, 5], [100, -50, 2], [1, 0, 1]])
    distances = hog.local_hyperplane_distance(points[None], neighbors[None], 1e-12)
    np.testing.assert_allclose(distances, [[9, 0, 1]], atol=1e-4)


def test_ridge_penalizes_points_far_from_the_neighbors_mean():
    # Neighbors at -1 and 1 with a ridge of 1: variance 1, Gram matrix [[1, -1], [-1, 1]] + I. Of the squared distance
    # a^2 of a point on their line 2 a^2 / 3 is explained; none of the part orthogonal to it is.
    neighbors = np.array([[[-1.0, 0], [1, 0]]] * 2)
    distances = hog.local_hyperplane_distance(np.array([[[3.0, 0]], [[3, 2]]]), neighbors, 1.0)
    np.testing.assert_allclose(distances, [[3], [7]], rtol=1e-6)


@pytest.mark.parametrize("ridge", [0.03, 0.3, 3])
@pytest.mark.parametrize("dtype, tolerance", [(np.float64, 1e-6), (np.float32, 1e-3)])
def test_distance_is_the_residual_of_ridge_regression(random, ridge, dtype, tolerance):
    points, neighbors = random.normal(size=[6, 10]).astype(dtype), random.normal(size=[6, 4, 10]).astype(dtype)
    expected = []
    for point, near in zip(points.astype(np.float64), neighbors.astype(np.float64)):
        centered = near - near.mean(axis=0)
        # The ridge as further equations, weights = 0.
        penalty = np.sqrt(ridge * np.square(centered).sum(axis=1).mean()) * np.eye(4)
        target = np.concatenate([point - near.mean(axis=0), np.zeros(4)])
        expected.append(np.linalg.lstsq(np.concatenate([centered.T, penalty]), target)[1][0])
    np.testing.assert_allclose(
        hog.local_hyperplane_distance(points[:, None], neighbors, ridge)[:, 0], expected, rtol=tolerance
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_span_of_equal_neighbors_is_that_point(random, dtype):
    points, near = random.normal(size=[5, 8]).astype(dtype), random.normal(size=[5, 8]).astype(dtype)
    distances = hog.local_hyperplane_distance(points[:, None], np.repeat(near[:, None], 6, axis=1), 0.3)[:, 0]
    np.testing.assert_allclose(distances, np.square(points - near).sum(axis=1), rtol=1e-3)


def test_distance_is_finite_with_more_neighbors_than_dimensions_and_a_point_among_them(random):
    neighbors = random.normal(size=[1, 30, 4]).astype(np.float32)
    distances = hog.local_hyperplane_distance(neighbors[:, :1], neighbors, 0.3)[:, 0]
    assert (
        np.isfinite(distances).all()
        and 0 <= distances[0] < np.square(neighbors[0, 0] - neighbors[0].mean(axis=0)).sum()
    )
