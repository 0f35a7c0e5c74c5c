import os
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from cae import models
from cae.config import Config
from cae.outliers import neighbor_index
from cae.outliers.detector import Detector

ROOT = Path(__file__).resolve().parents[2]


def exact_distances(references, queries, count):
    """Returns the squared distances of the nearest references."""
    return np.sort(np.square(queries[:, None] - references).sum(axis=2), axis=1)[:, :count]


@pytest.mark.parametrize("count", [40, 2500])
def test_serialized_index_round_trips(count, random):
    references, queries = (random.normal(size=(size, 6)).astype(np.float32) for size in (count, 30))
    serialized = neighbor_index.build(references)
    assert serialized.dtype == np.uint8 and serialized.ndim == 1
    index = neighbor_index.load(serialized)
    np.testing.assert_array_equal(faiss.serialize_index(index), serialized)
    assert index.ntotal == count and index.d == 6
    distances, indices, neighbors = index.search_and_reconstruct(queries, 5)
    np.testing.assert_array_equal(neighbors, references[indices])
    np.testing.assert_allclose(distances, np.square(neighbors - queries[:, None]).sum(axis=2), rtol=1e-4, atol=1e-5)
    # It contains the vectors once: 6 values of 4 bytes each, an integer of 8 bytes, and the centroids of lists.
    assert serialized.nbytes < count * (6 * 4 + 8) * 1.1 + 2000


def test_few_vectors_are_searched_exactly_and_many_by_inverted_lists(random):
    count = neighbor_index.IVF_MIN_REFERENCES
    few, many = (random.normal(size=(size, 4)).astype(np.float32) for size in (count - 1, count))
    flat = neighbor_index.load(neighbor_index.build(few))
    assert isinstance(flat, faiss.IndexFlat)
    distances, _ = flat.search(few[:9] + 1, 3)
    np.testing.assert_allclose(distances, exact_distances(few, few[:9] + 1, 3), rtol=1e-3, atol=1e-4)
    ivf = neighbor_index.load(neighbor_index.build(many))
    # The root of 2,000 are 44 lists; a 32nd of them is less than 8.
    assert isinstance(ivf, faiss.IndexIVFFlat) and (ivf.nlist, ivf.nprobe) == (44, 8)


def test_every_query_has_a_neighbor_where_most_lists_are_empty(random):
    """Vectors of which there are three different ones are in three lists."""
    vectors = random.normal(size=(3, 6)).astype(np.float32)
    index = neighbor_index.load(neighbor_index.build(np.repeat(vectors, 1000, axis=0)))
    queries = 3 * random.normal(size=(200, 6)).astype(np.float32)
    is_missing = index.search(queries, 2)[1][:, 0] < 0
    assert 0 < is_missing.sum() < 200
    distances, indices, neighbors = neighbor_index.search(index, queries, 2, reconstruct=True)
    np.testing.assert_array_equal(neighbors, vectors[indices // 1000])
    expected = exact_distances(vectors, queries[is_missing], 1)
    np.testing.assert_allclose(distances[is_missing][:, :1], expected, rtol=1e-4)
    np.testing.assert_array_equal(neighbor_index.search(index, queries, 2)[0], distances)


def test_number_of_lists_to_search_is_saved(random, monkeypatch):
    monkeypatch.setattr(neighbor_index, "IVF_MIN_REFERENCES", 500)
    monkeypatch.setattr(neighbor_index, "np", type("Root", (), {**vars(np), "sqrt": staticmethod(lambda _: 320)}))
    index = neighbor_index.load(neighbor_index.build(random.normal(size=(13_000, 2)).astype(np.float32)))
    assert (index.nlist, index.nprobe) == (320, 10)


SCORE_IN_ANOTHER_PROCESS = """
import sys
from pathlib import Path
import numpy as np
from cae import models
from cae.config import Config
from cae.outliers.detector import Detector
import faiss
assert faiss.omp_get_max_threads() == 3
workdir, images, scores = sys.argv[1:]
model = models.build_model(Config(latent_dim=4, base_filters=4), (12, 12, 1))
detectors = {name: Detector.load(Path(workdir) / name, model, (12, 12, 1), 0) for name in ("knn", "fisher")}
np.savez(scores, **{name: detector.scores(np.load(images)) for name, detector in detectors.items()})
"""


@pytest.mark.parametrize("count", [50, neighbor_index.IVF_MIN_REFERENCES])
def test_the_vectors_of_an_index_are_those_it_was_built_of(count, random):
    vectors = random.normal(size=(count, 4)).astype(np.float32)
    np.testing.assert_array_equal(neighbor_index.references(neighbor_index.build(vectors)), vectors)


@pytest.mark.e2e
def test_another_number_of_threads_finds_the_same_neighbors(tmp_path, random):
    """Calibration and use may be in different processes."""
    train = random.integers(0, 256, (2800, 12, 12, 1), np.uint8)
    calibration, test = (random.integers(0, 256, (99, 12, 12, 1), np.uint8) for _ in range(2))
    model, expected = models.build_model(Config(latent_dim=4, base_filters=4), (12, 12, 1)), {}
    for name in ("knn", "fisher"):
        detector = Detector.fit(model, train, calibration, score=name, method="conformal", alpha=0.05)
        assert isinstance(neighbor_index.load(detector.score.state["index"]), faiss.IndexIVFFlat)
        detector.save(tmp_path / name)
        expected[name] = detector.scores(test)
    np.save(tmp_path / "images.npy", test)
    arguments = [tmp_path, tmp_path / "images.npy", tmp_path / "scores.npz"]
    # FAISS's threads alone: NumPy's would change the last bits of the queries, not the neighbors.
    environment = os.environ | {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCORE_IN_ANOTHER_PROCESS, *arguments]
    subprocess.run(command, check=True, cwd=ROOT, env=environment)
    with np.load(tmp_path / "scores.npz") as scores:
        for name, values in expected.items():
            np.testing.assert_array_equal(scores[name], values)
