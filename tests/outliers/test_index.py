"""The index of nearest neighbors, as it is kept."""

import os
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest

from cae import models
from cae.config import Config
from cae.outliers import detector, index

ROOT = Path(__file__).resolve().parents[2]


def exact(references, queries, count):
    """Returns the squared distances of the nearest ones."""
    return np.sort(np.square(queries[:, None] - references).sum(axis=2), axis=1)[:, :count]


@pytest.mark.parametrize("count", [40, 2500])
def test_an_index_comes_back_as_it_was_built(count, random):
    references, queries = (random.normal(size=(size, 6)).astype(np.float32) for size in (count, 30))
    content = index.build(references)
    assert content.dtype == np.uint8 and content.ndim == 1
    again = index.load(content)
    np.testing.assert_array_equal(faiss.serialize_index(again), content)
    assert again.ntotal == count and again.d == 6
    distances, positions, found = again.search_and_reconstruct(queries, 5)
    np.testing.assert_array_equal(found, references[positions])
    np.testing.assert_allclose(distances, np.square(found - queries[:, None]).sum(axis=2), rtol=1e-4, atol=1e-5)
    # It holds the vectors once: 6 numbers of 4 bytes each, an integer of 8 bytes, and the centroids of lists.
    assert content.nbytes < count * (6 * 4 + 8) * 1.1 + 2000


def test_few_vectors_are_searched_exactly_and_many_by_lists(random):
    few, many = (random.normal(size=(count, 4)).astype(np.float32) for count in (index.LISTED - 1, index.LISTED))
    found = index.load(index.build(few))
    assert isinstance(found, faiss.IndexFlat)
    distances, _ = found.search(few[:9] + 1, 3)
    np.testing.assert_allclose(distances, exact(few, few[:9] + 1, 3), rtol=1e-3, atol=1e-4)
    lists = index.load(index.build(many))
    # The root of 2,000 are 44 lists; a 32nd of them is less than 8.
    assert isinstance(lists, faiss.IndexIVFFlat) and (lists.nlist, lists.nprobe) == (44, 8)


def test_the_number_of_lists_that_are_looked_through_survives(random, monkeypatch):
    monkeypatch.setattr(index, "LISTED", 500)
    monkeypatch.setattr(index, "np", type("Root", (), {**vars(np), "sqrt": staticmethod(lambda _: 320)}))
    found = index.load(index.build(random.normal(size=(13_000, 2)).astype(np.float32)))
    assert (found.nlist, found.nprobe) == (320, 10)


SCORES_ELSEWHERE = """
import sys
import numpy as np
from cae import models
from cae.config import Config
from cae.outliers import detector
import faiss
assert faiss.omp_get_max_threads() == 3
workdir, images, scores = sys.argv[1:]
model = models.build(Config(latent_dim=4, width=4), (12, 12, 1))
from pathlib import Path
found = {name: detector.read(Path(workdir) / name, model, (12, 12, 1), 0) for name in ("neighbours", "combined")}
np.savez(scores, **{name: each.scores(np.load(images)) for name, each in found.items()})
"""


@pytest.mark.e2e
def test_another_number_of_threads_finds_the_same_neighbors(tmp_path, random):
    """What was calibrated in one process is used in another."""
    train = random.integers(0, 256, (2800, 12, 12, 1), np.uint8)
    calibration, test = (random.integers(0, 256, (99, 12, 12, 1), np.uint8) for _ in range(2))
    model, expected = models.build(Config(latent_dim=4, width=4), (12, 12, 1)), {}
    for name in ("neighbours", "combined"):
        made = detector.make(name, model, train, calibration, rule="conformal", alpha=0.05)
        assert isinstance(index.load(made.score.state["index"]), faiss.IndexIVFFlat)
        made.save(tmp_path / name)
        expected[name] = made.scores(test)
    np.save(tmp_path / "images.npy", test)
    words = [tmp_path, tmp_path / "images.npy", tmp_path / "scores.npz"]
    # FAISS's threads alone: NumPy's would change the last bits of what is asked for, not what is found.
    environment = os.environ | {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", SCORES_ELSEWHERE, *words], check=True, cwd=ROOT, env=environment)
    with np.load(tmp_path / "scores.npz") as found:
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)
