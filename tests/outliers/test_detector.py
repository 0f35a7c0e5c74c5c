import functools
import hashlib
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage
from threadpoolctl import threadpool_limits

from cae.data.arrays import check_images
from cae.data.image_folder import border_background
from cae.errors import UserError
from cae.outliers import detector, neighbor_index, thresholds
from cae.outliers.detector import Detector
from cae.outliers.scores import SCORES

SHAPE = (12, 12, 1)


class QuartersAutoencoder(keras.Model):
    """Encodes an image as the means of its four quarters, and decodes these to constant quarters."""

    def encode(self, images):
        return tf.reshape(tf.nn.avg_pool2d(images, 6, 6, "VALID"), [-1, 4])

    def decode(self, latents):
        return tf.repeat(tf.repeat(tf.reshape(latents, [-1, 2, 2, 1]), 6, axis=1), 6, axis=2)

    def call(self, images):
        return self.decode(self.encode(images))


def make_clouds(seed, count):
    """Returns smooth images with a range of 0 to 255, uint8."""
    values = np.random.default_rng(seed).random((count, *SHAPE))
    values = ndimage.gaussian_filter(values, (0, 2, 2, 0), mode="wrap")
    values -= values.min(axis=(1, 2, 3), keepdims=True)
    return (255 * values / values.max(axis=(1, 2, 3), keepdims=True)).round().astype(np.uint8)


MODEL = QuartersAutoencoder()
TRAIN, CALIBRATION, TEST = make_clouds(1, 300), make_clouds(2, 199), make_clouds(3, 200)
NOISE = 255 * np.random.default_rng(4).integers(0, 2, (20, *SHAPE), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # For matrices as small as these, several threads only wait for each other.
    with threadpool_limits(1):
        yield


@functools.cache
def fit(score="mse", method="conformal", alpha=None, num_calibration=199, num_outliers=0, step=0):
    """Returns a detector, which is immutable and so the same for the same arguments."""
    options = {"score": score, "method": method, "alpha": alpha, "step": step}
    outliers = NOISE[:num_outliers] if num_outliers else None
    return Detector.fit(MODEL, TRAIN, CALIBRATION[:num_calibration], outliers=outliers, **options)


@pytest.fixture(scope="module")
def fisher():
    return fit("fisher", alpha=0.05)


def load(workdir, step=0):
    return Detector.load(workdir, MODEL, SHAPE, step)


def load_or_none(workdir, step, **expected):
    return detector.load_or_none(workdir, MODEL, SHAPE, step, **expected)


# --- Inliers and outliers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fisher", "mse", "hog", "denoising"])
def test_is_inlier_is_true_for_inliers(name):
    fitted = fit(name, alpha=0.05)
    assert not fitted.is_inlier(NOISE).any()
    # At 5%, about 190 of 200 are inliers.
    assert fitted.is_inlier(TEST).mean() > 0.88
    assert fitted.scores(NOISE).min() > np.median(fitted.scores(TEST))
    assert fitted.p_values(NOISE).max() <= 0.05 < np.median(fitted.p_values(TEST))


def test_constant_image_is_an_outlier():
    gray = np.full((1, *SHAPE), 128, np.uint8)
    # It is reconstructed without error, unlike all inliers.
    fitted = fit("mse", alpha=0.05)
    assert fitted.scores(gray) == pytest.approx(0, abs=1e-9) and not fitted.is_inlier(gray)
    assert fitted.p_values(gray) == pytest.approx(2 / 200)


@pytest.mark.parametrize("name", SCORES)
def test_inliers_are_the_images_with_p_values_above_alpha(name):
    fitted = fit(name, alpha=0.1)
    images = np.concatenate([TEST, CALIBRATION, NOISE])
    np.testing.assert_array_equal(fitted.is_inlier(images), fitted.p_values(images) > 0.1)
    np.testing.assert_array_equal(fitted.p_values(images), fitted.p_values_from_scores(fitted.scores(images)))


def test_threshold_is_calibrated_on_the_calibration_images():
    fitted = fit("mse")
    np.testing.assert_array_equal(fitted.calibration_scores, np.sort(fitted.scores(CALIBRATION)))
    # One gap of 200 lies outside on each side, so the smallest and the largest score are those of inliers.
    assert (fitted.threshold.low, fitted.threshold.high) == (
        fitted.calibration_scores[0],
        fitted.calibration_scores[-1],
    )
    errors = np.square(TEST / 255 - MODEL(TEST.astype(np.float32) / 255)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(fitted.scores(TEST), errors, rtol=1e-4)
    assert fitted.scores(TEST).dtype == np.float64


def test_discoveries_are_those_of_the_p_values(fisher):
    images = np.concatenate([TEST[:20], NOISE])
    # The smallest p-value is 1/200, so 20 of 40 images can be discoveries at 1/100.
    np.testing.assert_array_equal(
        fisher.discoveries(images, 0.02), thresholds.discoveries(fisher.p_values(images), 0.02)
    )
    assert fisher.discoveries(images, 0.02)[20:].all() and fisher.discoveries(images, 0.02)[:20].mean() < 0.2
    assert not fisher.discoveries(images, 0.001).any()


def test_background_is_that_of_the_training_images():
    assert fit("mse").background == border_background(TRAIN)


# --- Target false positive rate -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, count, alpha",
    # 1 / (n + 1), or twice that if two-sided, if it is more than 1%.
    [("hog", 199, 0.01), ("mse", 199, 0.01), ("hog", 49, 0.02), ("mse", 49, 0.04)],
)
def test_default_alpha_is_larger_for_few_calibration_images(name, count, alpha):
    assert fit(name, num_calibration=count).alpha == pytest.approx(alpha)


@pytest.mark.parametrize("name", ["hog", "mse"])
def test_another_alpha_does_not_fit_the_score_again(name):
    fitted = fit(name, alpha=0.05)
    images = np.concatenate([TEST, NOISE])
    for alpha in (0.01, 0.1, 0.5):
        np.testing.assert_array_equal(fitted.is_inlier(images, alpha), fit(name, alpha=alpha).is_inlier(images))
        other = fitted.with_alpha(alpha)
        assert (
            other.score is fitted.score
            and other.alpha == alpha
            and other.calibration_scores is fitted.calibration_scores
        )
    # The detector is unchanged.
    assert fitted.alpha == 0.05 and fitted.with_alpha(None) is fitted


@pytest.mark.parametrize("name", ["hog", "mse"])
@pytest.mark.parametrize("method", ["conformal", "percentile", "sigma"])
def test_inliers_remain_inliers_at_a_smaller_alpha(name, method):
    fitted = fit(name, method)
    inliers = [fitted.is_inlier(TEST, alpha) for alpha in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)]
    for larger, smaller in itertools.pairwise(inliers):
        assert (smaller >= larger).all()
    assert inliers[0].sum() < inliers[-1].sum()


def test_alpha_that_calibration_images_cannot_guarantee_is_refused():
    for call in (lambda: fit("mse", alpha=0.009), lambda: fit("mse").is_inlier(TEST, 0.009)):
        with pytest.raises(UserError, match=r"--alpha=0.009.*199 calibration images"):
            call()
    with pytest.raises(UserError, match=r"--alpha=1.5 must be between 0 and 1"):
        fit("mse").is_inlier(TEST, 1.5)


@pytest.mark.parametrize("method", ["youden", "f1"])
def test_method_that_needs_outliers_has_no_target_rate(method):
    fitted = fit("hog", method, num_outliers=10)
    # The scores of these are separable from those of calibration images; most others of their kind are fitted as well.
    assert fitted.is_inlier(CALIBRATION).all() and not fitted.is_inlier(NOISE[:10]).any()
    assert fitted.is_inlier(NOISE[10:]).mean() < 0.3
    with pytest.raises(UserError, match=rf"--alpha=0.3 does not apply to --threshold_method={method}"):
        fitted.is_inlier(TEST, 0.3)
    with pytest.raises(UserError, match="does not apply to"):
        fit("hog", method, alpha=0.3, num_outliers=10)
    assert "rate" not in str(fitted) and method in str(fitted)


def test_missing_outliers_are_refused():
    with pytest.raises(UserError, match=r"--threshold_method=youden needs labeled outliers.*--outlier_datasets"):
        fit(method="youden")


def test_unknown_names_are_refused_with_the_closest_name():
    with pytest.raises(UserError, match=r"unknown --score 'fishr'.*did you mean 'fisher'"):
        fit("fishr")
    with pytest.raises(UserError, match=r"unknown --threshold_method 'sigm'.*did you mean 'sigma'"):
        fit(method="sigm")


def test_str_is_score_method_threshold_and_rate(fisher):
    threshold = f"{fisher.threshold.high:.6g}"
    assert str(fisher) == f"fisher score, conformal threshold {threshold} at a false positive rate of 0.05"


# --- Checks of images -----------------------------------------------------------------------------------------------


def test_floats_and_gray_images_without_a_channel_axis_are_supported(fisher):
    expected = fisher.scores(TEST)
    for images in (TEST[..., 0], TEST / 255, (TEST / 255).astype(np.float32)[..., 0], list(TEST)):
        np.testing.assert_allclose(fisher.scores(images), expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(0, 12, 12, 1), (0, 12, 12)])
def test_no_images_give_empty_arrays(fisher, shape):
    images = np.zeros(shape, np.uint8)
    assert fisher.scores(images).shape == fisher.p_values(images).shape == (0,)
    for flags in (fisher.is_inlier(images), fisher.discoveries(images)):
        assert flags.shape == (0,) and flags.dtype == bool


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros([2, 12, 11, 1], np.uint8), r"shape \[n, 12, 12, 1\], not \(2, 12, 11, 1\)"),
        (np.zeros([2, 12, 12, 3], np.uint8), r"not \(2, 12, 12, 3\)"),
        (np.zeros([12, 12], np.uint8), r"not \(12, 12\)"),
        (np.zeros([12, 12, 1], np.uint8), r"not \(12, 12, 1\)"),
        (np.zeros([2, 12, 12, 1], np.int32), "must be uint8, or floats in 0..1, not int32"),
        (np.zeros([2, 12, 12, 1], bool), "not bool"),
        (np.full([2, 12, 12, 1], 1.1), r"floats must be in 0..1, not in 1.1..1.1"),
        (np.full([2, 12, 12, 1], -0.1), "not in -0.1"),
        (np.full([2, 12, 12, 1], 255.0), "not in 255"),
        (np.full([2, 12, 12, 1], np.nan), "not in nan"),
    ],
)
def test_unsupported_images_are_refused(fisher, images, message):
    for method in (fisher.scores, fisher.p_values, fisher.is_inlier, fisher.discoveries):
        with pytest.raises(ValueError, match=message):
            method(images)


def test_single_nan_is_refused(fisher):
    images = np.zeros([3, 12, 12, 1])
    images[1, 5, 5] = np.nan
    with pytest.raises(ValueError, match="floats must be in"):
        fisher.scores(images)


def test_color_images_need_their_channel_axis():
    assert check_images(np.zeros([2, 12, 12, 3], np.uint8), (12, 12, 3)).shape == (2, 12, 12, 3)
    with pytest.raises(ValueError, match=r"\[n, 12, 12, 3\]"):
        check_images(np.zeros([2, 12, 12], np.uint8), (12, 12, 3))


# --- Saving and loading ---------------------------------------------------------------------------------------------


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
    assert metadata["num_calibration_images"] == 199 and metadata.keys() == detector.KEYS
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


@pytest.mark.parametrize("key", sorted(detector.KEYS))
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
