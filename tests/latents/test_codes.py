import numpy as np
import pytest

from cae.data import prepared
from cae.latents import codes, linear
from cae.latents.codes import Codes


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """As few iterations as scikit-learn's t-SNE takes."""
    monkeypatch.setattr(codes, "TSNE_ITERATIONS", 250)


def clusters(random, count, labels=3, dims=4):
    """Points around corners that are far from each other, and the corner of each."""
    names = np.arange(count) % labels
    return Codes((10 * np.eye(labels, dims)[names] + random.normal(size=(count, dims))).astype(np.float32), names)


def test_images_of_few_components_are_kept_whole(random):
    two = random.integers(0, 100, (50, 2, 1, 1, 1)) * random.integers(0, 2, (1, 2, 5, 4, 3))
    images = two.sum(axis=1).astype(np.uint8)
    assert linear.pca_error(images, images, 2) == pytest.approx(0, abs=1e-10)
    # One component leaves what the second one holds: the second singular value of the centred images.
    flat = images.reshape(50, -1) / 255
    left = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)[1] ** 2 / flat.size
    assert linear.pca_error(images, images, 1) == pytest.approx(left, rel=1e-3) and left > 1e-3


def test_there_are_no_more_components_than_pixels_or_images(random):
    images = random.integers(0, 256, (6, 3, 2, 1)).astype(np.uint8)
    assert linear.fit(images, 100).n_components_ == 6 and linear.fit(images[:4], 100).n_components_ == 4
    assert linear.reconstructed(linear.fit(images, 100), images[:2]).shape == (2, 3, 2, 1)


@pytest.mark.real_data
def test_components_of_real_digits_have_their_known_error(tfds_dir):
    builder, shape = prepared.builder("mnist", tfds_dir), (28, 28, 1)
    train, test = (prepared.read(builder, split, shape)[0] for split in ("train[:50000]", "test"))
    pca = linear.fit(train, 32)
    assert linear.error(pca, test) == pytest.approx(0.0168, abs=5e-5)
    pca.components_ = pca.components_[:2]  # The first two are the same whatever number is fitted.
    assert linear.error(pca, test) == pytest.approx(0.0557, abs=5e-5)


def test_classes_that_lie_apart_are_told_and_chance_is_chance(random):
    train, validation, test = (clusters(random, count) for count in (120, 30, 90))
    assert codes.linear_accuracy(train, validation, test) == 1
    shuffled = Codes(test.vectors, (test.labels + np.arange(90) // 3) % 3)  # Each class has a third of each corner.
    assert codes.linear_accuracy(train, validation, shuffled) == pytest.approx(1 / 3)


def test_the_regularisation_is_chosen_on_validation_codes(random):
    def noisy(count):
        labels = np.arange(count) % 2
        return Codes(np.concatenate([labels[:, None] + random.normal(size=(count, 1)) * 2,
                                     random.normal(size=(count, 40))], axis=1), labels)  # fmt: skip

    train, validation, test = noisy(50), noisy(2000), noisy(2000)
    each = {strength: codes._classifier(train, strength) for strength in codes.STRENGTHS}
    scores = {strength: found.score(validation.vectors, validation.labels) for strength, found in each.items()}
    best = max(scores, key=scores.get)
    assert len(set(scores.values())) > 1
    assert codes.linear_accuracy(train, validation, test) == each[best].score(test.vectors, test.labels)


@pytest.mark.parametrize("whiten", [True, False])
def test_clusters_are_matched_with_classes_whatever_their_order(whiten, random):
    found = codes.cluster(clusters(random, 120), clusters(random, 60), whiten, n_init=10)
    assert found.accuracy == 1 and found.restarts == 10
    np.testing.assert_array_equal(found.confusion, 20 * np.eye(3))
    np.testing.assert_array_equal(found.matches, [0, 1, 2])


def test_k_means_is_begun_less_often_where_it_takes_long(random, monkeypatch):
    begun = []

    def counted(vectors, count, seed):
        begun.append(seed)
        return k_means(vectors, count, seed)

    k_means = codes._k_means
    monkeypatch.setattr(codes, "_k_means", counted)
    few = clusters(random, 120)
    # 120 vectors of 4 numbers in 3 clusters: 1,440 in all, of which QUICK is a quarter.
    monkeypatch.setattr(codes, "QUICK", 360)
    assert codes.cluster(few, few, whiten=False).restarts == len(begun) == 25
    monkeypatch.setattr(codes, "QUICK", 1)
    assert codes.cluster(few, few, whiten=False).restarts == codes.FEWEST_RESTARTS
    begun.clear()
    assert codes.cluster(few, few, whiten=False, n_init=2).restarts == len(begun) == 2
    assert begun == [0, 1]


def test_the_best_matching_is_not_the_greedy_one():
    # The greedy one takes 10, and 0 for the other; the best takes 9 and 8.
    confusion, classes = codes.matched(np.array([[8, 10, 0], [0, 9, 0]]))
    np.testing.assert_array_equal(classes, [0, 1])
    assert confusion[0, 0] + confusion[1, 1] == 17
    confusion, classes = codes.matched(np.array([[0, 1, 5], [7, 1, 0]]))
    np.testing.assert_array_equal(classes, [0, 2])
    np.testing.assert_array_equal(confusion, [[7, 1, 0], [0, 1, 5]])


def test_whitening_finds_classes_along_a_small_direction(random):
    def flat(count):
        labels = np.arange(count) % 2
        wide, narrow = 20 * random.normal(size=count), labels + 0.1 * random.normal(size=count)
        return Codes(np.stack([wide, narrow], axis=1), labels)

    train, test = flat(400), flat(200)
    assert codes.cluster(train, test, whiten=True, n_init=10).accuracy > 0.95
    assert codes.cluster(train, test, whiten=False, n_init=10).accuracy < 0.7


def test_whitening_leaves_out_what_has_next_to_no_variance(random):
    vectors = random.normal(size=(500, 3)) @ np.diag([2, 1, 0.5])
    padded = np.concatenate([vectors, np.full((500, 1), 7), 1e-4 * random.normal(size=(500, 1))], axis=1)
    whitened = codes.whitening(padded).transform(padded)
    assert whitened.shape == (500, 3)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=1e-6)
    # Another image's rounding stays what it is.
    assert np.abs(codes.whitening(padded).transform(padded + 1e-3)).max() < 5
    same = np.ones((20, 4), np.float32)
    assert np.isfinite(codes.whitening(same).transform(same)).all()


def test_used_dimensions_are_counted(random):
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) @ np.diag([3, 1])
    # Variances 9 and 1: 10^2 / 82; and 90% of it lies along the first.
    assert codes.usage(corners) == {"participation_ratio": pytest.approx(100 / 82), "components_99": 2, "active": 2}
    even = np.concatenate([np.eye(8), -np.eye(8)])
    assert codes.usage(even) == {"participation_ratio": pytest.approx(8), "components_99": 8, "active": 8}
    # One direction, spread over all three numbers, and a number that is not used.
    line = np.outer(random.normal(size=50), [1, 1, -1, 0.001])
    assert codes.usage(line) == {"participation_ratio": pytest.approx(1), "components_99": 1, "active": 3}
    assert set(codes.usage(np.ones((5, 3))).values()) == {0}
    assert codes.usage(np.arange(5.0)[:, None])["active"] == 1


def test_maps_show_which_images_are_alike_and_are_the_same_every_time(random, monkeypatch):
    monkeypatch.setattr(codes, "TSNE_ITERATIONS", 500)
    found = clusters(random, 150)
    maps = codes.maps(found.vectors)
    assert list(maps) == ["PCA", "t-SNE"]
    for points in maps.values():
        assert points.shape == (150, 2)
        centres = np.stack([points[found.labels == label].mean(axis=0) for label in range(3)])
        nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
        assert (nearest == found.labels).all()
    np.testing.assert_array_equal(codes.maps(found.vectors)["t-SNE"], maps["t-SNE"])
    assert list(codes.maps(found.vectors, t_sne=False)) == ["PCA"]
    assert list(codes.maps(np.ones((9, 3)), t_sne=False)) == ["PCA"]


@pytest.mark.parametrize("shape", [(2, 3), (8, 1), (8, 2), (30, 5)])
def test_there_are_maps_of_few_images_and_of_short_vectors(shape, random):
    for vectors in (random.normal(size=shape), np.ones(shape)):
        for points in codes.maps(vectors).values():
            assert points.shape == (shape[0], 2) and np.isfinite(points).all()
