"""Detectors are saved and loaded, and those that are damaged, of another model or of an earlier version are refused."""

import hashlib
import json

import numpy as np
import pytest
from clouds import SHAPE
from small_detectors import CALIBRATION, MODEL, NOISE, TEST, TRAIN, fit

from cae.errors import UserError
from cae.outliers import detector, detector_files, neighbor_index
from cae.outliers.detector import Detector
from cae.outliers.scores import SCORES

pytestmark = pytest.mark.usefixtures("one_thread")


def load(workdir, step=0):
    return Detector.load(workdir, MODEL, SHAPE, step)


def load_or_none(workdir, step, **expected):
    return detector.load_or_none(workdir, MODEL, SHAPE, step, **expected)


@pytest.mark.parametrize("name", SCORES)
def test_saved_detector_round_trips(name, tmp_path):
    fitted = fit(name, alpha=0.03, step=7)
    fitted.save(tmp_path)
    loaded = load(tmp_path, 7)
    images = np.concatenate([TEST, NOISE])
    np.testing.assert_array_equal(loaded.scores(images), fitted.scores(images))
    np.testing.assert_array_equal(loaded.p_values(images), fitted.p_values(images))
    np.testing.assert_array_equal(loaded.is_inlier(images), fitted.is_inlier(images))
    np.testing.assert_array_equal(loaded.is_inlier(images, 0.2), fitted.is_inlier(images, 0.2))
    for field in ("score_name", "method", "alpha", "threshold", "step", "background", "image_shape"):
        assert getattr(loaded, field) == getattr(fitted, field)


@pytest.mark.parametrize("method", ["percentile", "sigma", "f1"])
def test_every_threshold_method_round_trips(method, tmp_path):
    fitted = fit("hog", method, num_outliers=20)
    fitted.save(tmp_path)
    assert load(tmp_path).threshold == fitted.threshold and load(tmp_path).method == method


def test_detector_of_another_step_score_or_threshold_method_is_none(tmp_path):
    assert load_or_none(tmp_path, 3) is None
    fit("mse", step=3).save(tmp_path)
    assert load_or_none(tmp_path, 3).threshold == fit("mse", step=3).threshold
    assert load_or_none(tmp_path, 3, score="mse", threshold_method="conformal") is not None
    assert load_or_none(tmp_path, 4) is None
    assert load_or_none(tmp_path, 3, score="ssim") is None
    assert load_or_none(tmp_path, 3, threshold_method="sigma") is None


def test_detector_json_is_readable(tmp_path):
    fit("hog", alpha=0.05, step=3).save(tmp_path)
    metadata = json.loads((tmp_path / "detector" / "detector.json").read_text())
    assert metadata["score"] == "hog" and metadata["alpha"] == 0.05
    assert metadata["num_calibration_images"] == 199 and metadata.keys() == detector_files.KEYS | {"score_version"}
    # JSON has no infinity.
    assert metadata["threshold_low"] is None
    assert sorted(path.name for path in (tmp_path / "detector").iterdir()) == ["arrays.npz", "detector.json"]
    arrays = (tmp_path / "detector" / "arrays.npz").read_bytes()
    assert metadata["arrays_sha256"] == hashlib.sha256(arrays).hexdigest()


def test_new_detector_replaces_the_old_one(tmp_path):
    fit("mahalanobis", step=1).save(tmp_path)
    fit("hog", step=2).save(tmp_path)
    assert load(tmp_path, 2).score_name == "hog" and load_or_none(tmp_path, 1) is None


def test_error_for_a_missing_detector_names_the_command(tmp_path):
    with pytest.raises(UserError, match=r"contains no detector; run eval.py --workdir=.* --tasks=outliers"):
        load(tmp_path)


def test_detector_of_an_older_model_is_refused(tmp_path):
    fit("mse", step=3).save(tmp_path)
    with pytest.raises(UserError, match=r"has a newer model than its detector; run eval\.py"):
        load(tmp_path, 4)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3"])
def test_detector_without_valid_json_is_none(tmp_path, text):
    fit("mse").save(tmp_path)
    path = tmp_path / "detector" / "detector.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert load_or_none(tmp_path, 0) is None
    with pytest.raises(UserError, match="contains no detector"):
        load(tmp_path)
    fit("mse").save(tmp_path)
    assert load_or_none(tmp_path, 0) is not None


def test_failed_save_leaves_no_detector(tmp_path):
    fit("mse").save(tmp_path)
    # A file cannot replace a folder.
    (tmp_path / "detector" / "arrays.npz").unlink()
    (tmp_path / "detector" / "arrays.npz").mkdir()
    with pytest.raises(OSError):
        fit("hog").save(tmp_path)
    assert load_or_none(tmp_path, 0) is None


def remove_calibration_scores(path):
    np.savez(path, score_mean=np.zeros(3))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def write_pickle(path):
    np.savez(path, calibration_scores=np.array([{}], object))


def corrupt_index(path):
    """Writes a valid file with a corrupt index, on which FAISS might crash."""
    with np.load(path) as file:
        arrays = dict(file)
    arrays["score_index"][8:40] = 255
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no arrays"),
        remove_calibration_scores,
        truncate,
        flip_bit,
        write_pickle,
        corrupt_index,
    ],
)
def test_missing_or_corrupt_arrays_are_refused(tmp_path, damage):
    fit("hog").save(tmp_path)
    damage(tmp_path / "detector" / "arrays.npz")
    with pytest.raises(UserError, match=r"is damaged; eval\.py --tasks=outliers fits it again"):
        load(tmp_path)


def test_damaged_detector_is_not_replaced_silently(tmp_path):
    fit("hog").save(tmp_path)
    flip_bit(tmp_path / "detector" / "arrays.npz")
    with pytest.raises(UserError, match="is damaged"):
        load_or_none(tmp_path, 0)


@pytest.mark.parametrize("key", sorted(detector_files.KEYS))
def test_detector_of_an_earlier_version_is_refused(tmp_path, key):
    fit("hog", alpha=0.05).save(tmp_path)
    path = tmp_path / "detector" / "detector.json"
    metadata = json.loads(path.read_text())
    del metadata[key]
    path.write_text(json.dumps(metadata))
    with pytest.raises(UserError, match=r"a detector of an earlier version; run eval\.py .*--tasks=outliers"):
        load(tmp_path)
    # A new one is fitted instead.
    assert load_or_none(tmp_path, 0) is None


@pytest.mark.parametrize("min_references", [100, 10_000])
@pytest.mark.parametrize("name", ["knn", "hog", "fisher"])
def test_loaded_detector_does_not_rebuild_its_index(name, min_references, tmp_path, monkeypatch):
    """A new index might find other neighbors, with which the false positive rate is not guaranteed."""
    monkeypatch.setattr(neighbor_index, "IVF_MIN_REFERENCES", min_references)
    fitted = Detector.fit(MODEL, TRAIN, CALIBRATION, score=name, method="conformal", alpha=0.05)
    fitted.save(tmp_path)
    monkeypatch.setattr(neighbor_index, "build", None)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(loaded.scores(TEST), fitted.scores(TEST))
    np.testing.assert_array_equal(np.sort(loaded.scores(CALIBRATION)), loaded.calibration_scores)
