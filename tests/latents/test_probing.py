import numpy as np
import pytest
from sklearn.cluster import KMeans

from cae.latents import probing
from cae.latents.probing import Codes


@pytest.fixture(autouse=True)
def few_tsne_iterations(monkeypatch):
    """The fewest iterations that scikit-learn's t-SNE allows."""
    monkeypatch.setattr(probing, "TSNE_ITERATIONS", 250)


def make_clusters(random, count, num_classes=3, dims=4):
    """Returns points around centers that are far from each other, labeled by center."""
    labels = np.arange(count) % num_classes
    return Codes(
        (10 * np.eye(num_classes, dims)[labels] + random.normal(size=(count, dims))).astype(np.float32), labels
    )


def test_linear_probe_separates_clusters_and_is_at_chance_for_shuffled_labels(random):
    train, validation, test = (make_clusters(random, count) for count in (120, 30, 90))
    assert probing.linear_probe_accuracy(train, validation, test) == 1
    shuffled = Codes(test.vectors, (test.labels + np.arange(90) // 3) % 3)  # Each class has a third of each cluster.
    assert probing.linear_probe_accuracy(train, validation, shuffled) == pytest.approx(1 / 3)


def test_regularization_is_chosen_on_validation_codes(random):
    def make_noisy_codes(count):
        labels = np.arange(count) % 2
        return Codes(np.concatenate([labels[:, None] + random.normal(size=(count, 1)) * 2,
                                     random.normal(size=(count, 40))], axis=1), labels)  # fmt: skip

    train, validation, test = make_noisy_codes(50), make_noisy_codes(2000), make_noisy_codes(2000)
    probes = {c: probing._fit_probe(train, c) for c in probing.C_GRID}
    scores = {c: probe.score(validation.vectors, validation.labels) for c, probe in probes.items()}
    best = max(scores, key=scores.get)
    assert len(set(scores.values())) > 1
    assert probing.linear_probe_accuracy(train, validation, test) == probes[best].score(test.vectors, test.labels)


@pytest.mark.parametrize("whiten", [True, False])
def test_clusters_are_matched_with_classes(whiten, random):
    found = probing.cluster(make_clusters(random, 120), make_clusters(random, 60), whiten, n_init=10)
    assert found.accuracy == 1 and found.n_init == 10
    np.testing.assert_array_equal(found.confusion, 20 * np.eye(3))
    np.testing.assert_array_equal(found.matches, [0, 1, 2])


def test_large_problems_have_fewer_initializations(random, monkeypatch):
    codes = make_clusters(random, 120)
    # 120 vectors of 4 dimensions in 3 clusters: a size of 1,440, four times this.
    monkeypatch.setattr(probing, "MAX_N_INIT_SIZE", 360)
    assert probing.cluster(codes, codes, whiten=False).n_init == probing.MAX_N_INIT / 4
    monkeypatch.setattr(probing, "MAX_N_INIT_SIZE", 1)
    assert probing.cluster(codes, codes, whiten=False).n_init == probing.MIN_N_INIT
    assert probing.cluster(codes, codes, whiten=False, n_init=2).n_init == 2


def test_best_initialization_is_kept(random, monkeypatch):
    codes, candidates = Codes(random.normal(size=(300, 2)), np.arange(300) % 8), []
    predict = KMeans.predict
    monkeypatch.setattr(KMeans, "predict", lambda self, vectors: candidates.append(self) or predict(self, vectors))
    probing.cluster(codes, codes, whiten=False, n_init=20)
    inertias = [probing._fit_kmeans(codes.vectors, 8, seed).inertia_ for seed in range(20)]
    assert len(candidates) == 1 and candidates[0].inertia_ == min(inertias) < max(inertias)


def test_hungarian_match_is_better_than_greedy():
    # The greedy matching has 10 and 0, the best 9 and 8.
    confusion, classes = probing.hungarian_match(np.array([[8, 10, 0], [0, 9, 0]]))
    np.testing.assert_array_equal(classes, [0, 1])
    assert confusion[0, 0] + confusion[1, 1] == 17
    confusion, classes = probing.hungarian_match(np.array([[0, 1, 5], [7, 1, 0]]))
    np.testing.assert_array_equal(classes, [0, 2])
    np.testing.assert_array_equal(confusion, [[7, 1, 0], [0, 1, 5]])


def test_whitening_finds_classes_along_a_direction_of_small_variance(random):
    def make_flat_codes(count):
        labels = np.arange(count) % 2
        wide, narrow = 20 * random.normal(size=count), labels + 0.1 * random.normal(size=count)
        return Codes(np.stack([wide, narrow], axis=1), labels)

    train, test = make_flat_codes(400), make_flat_codes(200)
    assert probing.cluster(train, test, whiten=True, n_init=10).accuracy > 0.95
    assert probing.cluster(train, test, whiten=False, n_init=10).accuracy < 0.7


def test_whitening_excludes_directions_of_negligible_variance(random):
    vectors = random.normal(size=(500, 3)) @ np.diag([2, 1, 0.5])
    padded = np.concatenate([vectors, np.full((500, 1), 7), 1e-4 * random.normal(size=(500, 1))], axis=1)
    whitened = probing.fit_whitening(padded).transform(padded)
    assert whitened.shape == (500, 3)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=1e-6)
    # Rounding errors of other images are not amplified.
    assert np.abs(probing.fit_whitening(padded).transform(padded + 1e-3)).max() < 5
    equal = np.ones((20, 4), np.float32)
    assert np.isfinite(probing.fit_whitening(equal).transform(equal)).all()


def test_effective_dimensions_of_known_distributions(random):
    def measure(vectors):
        measured = probing.effective_dimensions(vectors)
        return measured["participation_ratio"], measured["n_components_99"], measured["active_units"]

    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) @ np.diag([3, 1])
    # Variances 9 and 1: 10^2 / 82; and 90% of it lies along the first.
    assert probing.effective_dimensions(corners) == {
        "participation_ratio": pytest.approx(100 / 82),
        "n_components_99": 2,
        "active_units": 2,
    }
    even = np.concatenate([np.eye(8), -np.eye(8)])
    assert probing.effective_dimensions(even) == {
        "participation_ratio": pytest.approx(8),
        "n_components_99": 8,
        "active_units": 8,
    }
    # One direction, spread over three dimensions, and an unused dimension.
    line = np.outer(random.normal(size=50), [1, 1, -1, 0.001])
    assert probing.effective_dimensions(line) == {
        "participation_ratio": pytest.approx(1),
        "n_components_99": 1,
        "active_units": 3,
    }
    assert set(probing.effective_dimensions(np.ones((5, 3))).values()) == {0}
    assert probing.effective_dimensions(np.arange(5.0)[:, None])["active_units"] == 1


def test_embeddings_separate_clusters_and_are_reproducible(random, monkeypatch):
    monkeypatch.setattr(probing, "TSNE_ITERATIONS", 500)
    found = make_clusters(random, 150)
    embeddings = probing.embed_2d(found.vectors)
    assert list(embeddings) == ["PCA", "t-SNE"]
    for points in embeddings.values():
        assert points.shape == (150, 2)
        centers = np.stack([points[found.labels == label].mean(axis=0) for label in range(3)])
        nearest = np.linalg.norm(points[:, None] - centers, axis=2).argmin(axis=1)
        assert (nearest == found.labels).all()
    np.testing.assert_array_equal(probing.embed_2d(found.vectors)["t-SNE"], embeddings["t-SNE"])
    assert list(probing.embed_2d(found.vectors, t_sne=False)) == ["PCA"]
    assert list(probing.embed_2d(np.ones((9, 3)), t_sne=False)) == ["PCA"]


@pytest.mark.parametrize("shape", [(2, 3), (8, 1), (8, 2), (30, 5)])
def test_few_images_and_short_vectors_are_embedded(shape, random):
    for vectors in (random.normal(size=shape), np.ones(shape)):
        for points in probing.embed_2d(vectors).values():
            assert points.shape == (shape[0], 2) and np.isfinite(points).all()
