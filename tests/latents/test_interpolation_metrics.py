import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cae.latents import interpolation_metrics


def test_distances_match_scipy(random):
    images = random.integers(0, 256, (50, 6, 5, 3), np.uint8)
    queries = random.random((4, 7, 6, 5, 3), np.float32)
    index = interpolation_metrics.NearestNeighborIndex(images)
    expected = cdist(queries.reshape(28, -1), images.reshape(50, -1) / 255).min(axis=1)
    np.testing.assert_allclose(index.distances(queries), expected.reshape(4, 7), rtol=1e-4)
    np.testing.assert_allclose(index.distances(images / 255), np.zeros(50), atol=1e-2)


def constant_images(values):
    """Returns images whose pixels are all equal."""
    return np.asarray(values, float)[:, :, None, None, None] * np.ones((2, 2, 1))


def test_max_step_ratio_is_the_largest_step_over_the_mean():
    weights = np.array([0, 0.25, 0.5, 0.75, 1])
    even, jump, still = [0, 0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1, 1], [0.5] * 5
    np.testing.assert_allclose(
        interpolation_metrics.max_step_ratio(constant_images([even, jump, still]), weights), [1, 4, 1], rtol=1e-6
    )


def test_max_step_ratio_is_relative_to_the_steps_of_weights():
    # The largest step of the image is that of the weight.
    weights = np.array([0, 0.1, 0.9, 1])
    assert interpolation_metrics.max_step_ratio(constant_images([weights]), weights) == pytest.approx(1)


def test_distinct_labels_are_counted_once():
    labels = np.array([[3, 3, 3, 3], [3, 3, 8, 8], [3, 5, 3, 8], [1, 2, 3, 4]])
    assert interpolation_metrics.num_distinct_labels(labels).tolist() == [1, 2, 3, 4]


def test_pairs_are_of_the_same_and_of_different_classes(random):
    labels = random.integers(0, 4, 100)
    found = interpolation_metrics.sample_pairs(labels, 4, 30, seed=1)
    assert found["same_class"].shape == found["different_class"].shape == (30, 2)
    first, second = labels[found["same_class"]].T
    assert (first == second).all() and set(first) == {0, 1, 2, 3}
    assert (found["same_class"][:, 0] != found["same_class"][:, 1]).all()
    first, second = labels[found["different_class"]].T
    assert (first != second).all()
    again, other = (
        interpolation_metrics.sample_pairs(labels, 4, 30, seed=1),
        interpolation_metrics.sample_pairs(labels, 4, 30, seed=2),
    )
    assert all(np.array_equal(found[pair_type], again[pair_type]) for pair_type in found)
    assert not np.array_equal(found["different_class"], other["different_class"])


def test_a_rare_class_has_as_many_pairs_of_different_classes():
    labels = np.repeat([0, 1], [990, 10])
    pairs = interpolation_metrics.sample_pairs(labels, 2, 300, seed=0)["different_class"]
    assert pairs.shape == (300, 2) and (labels[pairs[:, 0]] != labels[pairs[:, 1]]).all()


def test_unlabeled_images_have_pairs_of_any_type():
    found = interpolation_metrics.sample_pairs(np.zeros(5, int), 0, 40, seed=0)
    assert [*found] == ["any"] and found["any"].shape == (40, 2)
    assert (found["any"][:, 0] != found["any"][:, 1]).all() and found["any"].max() < 5


def test_classes_of_one_image_each_have_no_pairs_of_the_same_class():
    assert [*interpolation_metrics.sample_pairs(np.arange(4), 4, 6, seed=0)] == ["different_class"]
