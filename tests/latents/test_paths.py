import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cae.latents import paths


def test_distances_are_those_of_scipy(random):
    images = random.integers(0, 256, (50, 6, 5, 3), np.uint8)
    queries = random.random((4, 7, 6, 5, 3), np.float32)
    found = paths.Nearest(images).distances(queries)
    expected = cdist(queries.reshape(28, -1), images.reshape(50, -1) / 255).min(axis=1)
    np.testing.assert_allclose(found, expected.reshape(4, 7), rtol=1e-4)
    np.testing.assert_allclose(paths.Nearest(images).distances(images / 255), np.zeros(50), atol=1e-2)


def constant(values):
    """Images of one value each."""
    return np.asarray(values, float)[:, :, None, None, None] * np.ones((2, 2, 1))


def test_smoothness_is_the_largest_step_over_the_mean():
    degrees = np.array([0, 0.25, 0.5, 0.75, 1])
    even, jump, still = [0, 0.1, 0.2, 0.3, 0.4], [0, 0, 0, 1, 1], [0.5] * 5
    np.testing.assert_allclose(paths.smoothness(constant([even, jump, still]), degrees), [1, 4, 1], rtol=1e-6)


def test_smoothness_knows_uneven_degrees():
    # In even motion, a larger step of mixing is a larger step of the image.
    degrees = np.array([0, 0.1, 0.9, 1])
    assert paths.smoothness(constant([degrees]), degrees) == pytest.approx(1)


def test_labels_passed_are_counted_once():
    labels = np.array([[3, 3, 3, 3], [3, 3, 8, 8], [3, 5, 3, 8], [1, 2, 3, 4]])
    assert paths.labels_passed(labels).tolist() == [1, 2, 3, 4]


def test_pairs_are_within_and_between_classes(random):
    labels = random.integers(0, 4, 100)
    found = paths.pairs(labels, 4, 30, seed=1)
    assert found["within"].shape == found["between"].shape == (30, 2)
    first, second = labels[found["within"]].T
    assert (first == second).all() and set(first) == {0, 1, 2, 3}
    assert (found["within"][:, 0] != found["within"][:, 1]).all()
    first, second = labels[found["between"]].T
    assert (first != second).all()
    again, other = paths.pairs(labels, 4, 30, seed=1), paths.pairs(labels, 4, 30, seed=2)
    assert all(np.array_equal(found[kind], again[kind]) for kind in found)
    assert not np.array_equal(found["between"], other["between"])


def test_unlabelled_images_have_pairs_of_any_kind():
    found = paths.pairs(np.zeros(5, int), 0, 40, seed=0)
    assert [*found] == ["any"] and found["any"].shape == (40, 2)
    assert (found["any"][:, 0] != found["any"][:, 1]).all() and found["any"].max() < 5


def test_classes_of_one_image_each_have_no_pairs_within():
    assert [*paths.pairs(np.arange(4), 4, 6, seed=0)] == ["between"]
