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

from cae.errors import UserError
from cae.outliers import detector, index, thresholds
from cae.outliers.scores import SCORES

SHAPE = (12, 12, 1)


class Quarters(keras.Model):
    """Encodes an image as the means of its four quarters, and paints these."""

    def encode(self, images):
        return tf.reshape(tf.nn.avg_pool2d(images, 6, 6, "VALID"), [-1, 4])

    def decode(self, latents):
        return tf.repeat(tf.repeat(tf.reshape(latents, [-1, 2, 2, 1]), 6, axis=1), 6, axis=2)

    def call(self, images):
        return self.decode(self.encode(images))


def clouds(seed, count):
    """Returns smooth images whose darkest pixel is black and brightest one white, uint8."""
    values = np.random.default_rng(seed).random((count, *SHAPE))
    values = ndimage.gaussian_filter(values, (0, 2, 2, 0), mode="wrap")
    values -= values.min(axis=(1, 2, 3), keepdims=True)
    return (255 * values / values.max(axis=(1, 2, 3), keepdims=True)).round().astype(np.uint8)


MODEL = Quarters()
TRAIN, CALIBRATION, TEST = clouds(1, 300), clouds(2, 199), clouds(3, 200)
NOISE = 255 * np.random.default_rng(4).integers(0, 2, (20, *SHAPE), np.uint8)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Of matrices as small as these, several threads only wait for each other where the processors are busy.
    with threadpool_limits(1):
        yield


@functools.cache
def make(name="mse", rule="conformal", alpha=None, calibrated_on=199, searched_by=0, step=0):
    """Returns a detector, the same for the same arguments; nothing changes one that is made."""
    outliers = NOISE[:searched_by] if searched_by else None
    made = {"rule": rule, "alpha": alpha, "outliers": outliers, "step": step}
    return detector.make(name, MODEL, TRAIN, CALIBRATION[:calibrated_on], **made)


@pytest.fixture(scope="module")
def combined():
    return make("combined", alpha=0.05)


def read(workdir, step=0):
    return detector.read(workdir, MODEL, SHAPE, step)


# --- What it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["combined", "mse", "gradients", "denoising"])
def test_true_means_that_an_image_belongs(name):
    found = make(name, alpha=0.05)
    assert not found.belongs(NOISE).any()
    # At 5%, about 190 of 200 belong.
    assert found.belongs(TEST).mean() > 0.88
    assert found.scores(NOISE).min() > np.median(found.scores(TEST))
    assert found.p_values(NOISE).max() <= 0.05 < np.median(found.p_values(TEST))


def test_what_is_too_easy_does_not_belong_either():
    grey = np.full((1, *SHAPE), 128, np.uint8)
    # It is made anew without fault, which none of the normal ones is.
    found = make("mse", alpha=0.05)
    assert found.scores(grey) == pytest.approx(0, abs=1e-9) and not found.belongs(grey)
    assert found.p_values(grey) == pytest.approx(2 / 200)


@pytest.mark.parametrize("name", SCORES)
def test_an_image_belongs_where_its_p_value_is_larger_than_alpha(name):
    found = make(name, alpha=0.1)
    images = np.concatenate([TEST, CALIBRATION, NOISE])
    np.testing.assert_array_equal(found.belongs(images), found.p_values(images) > 0.1)
    np.testing.assert_array_equal(found.p_values(images), found.p_values_of(found.scores(images)))


def test_scores_are_calibrated_on_the_calibration_images():
    found = make("mse")
    np.testing.assert_array_equal(found.calibration, np.sort(found.scores(CALIBRATION)))
    # One gap of 200 lies outside on each side, and so the largest and the smallest one belong.
    assert (found.threshold.low, found.threshold.high) == (found.calibration[0], found.calibration[-1])
    assert found.calibrated_on == "199 images of the calibration split"
    squares = np.square(TEST / 255 - MODEL(TEST.astype(np.float32) / 255)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(found.scores(TEST), squares, rtol=1e-4)
    assert found.scores(TEST).dtype == np.float64


def test_alarms_are_those_of_the_p_values(combined):
    images = np.concatenate([TEST[:20], NOISE])
    # The least p-value is 1/200, so that 20 of 40 images are told at 1/100.
    np.testing.assert_array_equal(combined.alarms(images, 0.02), thresholds.alarms(combined.p_values(images), 0.02))
    assert combined.alarms(images, 0.02)[20:].all() and combined.alarms(images, 0.02)[:20].mean() < 0.2
    assert not combined.alarms(images, 0.001).any()


def test_the_background_is_what_most_of_the_border_is(random):
    images = random.integers(0, 256, (5, 9, 7, 3), np.uint8)
    # Whatever there is inside, and in one image of five.
    images[:4, [0, -1]] = images[:4, :, [0, -1]] = 51
    assert detector.background(images) == pytest.approx(0.2)
    assert make("mse").background == detector.background(TRAIN)


# --- Its rate of false alarms ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, count, alpha",
    # 1 / (n + 1), or twice that where small scores are odd as well, if it is more than 1%.
    [("gradients", 199, 0.01), ("mse", 199, 0.01), ("gradients", 49, 0.02), ("mse", 49, 0.04)],
)
def test_the_usual_alpha_is_larger_where_few_images_calibrate(name, count, alpha):
    assert make(name, calibrated_on=count).alpha == pytest.approx(alpha)


@pytest.mark.parametrize("name", ["gradients", "mse"])
def test_another_alpha_needs_no_further_fitting(name):
    found = make(name, alpha=0.05)
    images = np.concatenate([TEST, NOISE])
    for alpha in (0.01, 0.1, 0.5):
        np.testing.assert_array_equal(found.belongs(images, alpha), make(name, alpha=alpha).belongs(images))
        other = found.with_alpha(alpha)
        assert other.score is found.score and other.alpha == alpha and other.calibration is found.calibration
    # It stays what it was.
    assert found.alpha == 0.05 and found.with_alpha(None) is found


@pytest.mark.parametrize("name", ["gradients", "mse"])
@pytest.mark.parametrize("rule", ["conformal", "percentile", "sigma"])
def test_what_belongs_still_does_at_a_smaller_alpha(name, rule):
    found = make(name, rule)
    belonging = [found.belongs(TEST, alpha) for alpha in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)]
    for larger, smaller in itertools.pairwise(belonging):
        assert (smaller >= larger).all()
    assert belonging[0].sum() < belonging[-1].sum()


def test_an_alpha_that_the_calibration_cannot_promise_is_refused():
    for ask in (lambda: make("mse", alpha=0.009), lambda: make("mse").belongs(TEST, 0.009)):
        with pytest.raises(UserError, match=r"--alpha=0.009.*199 calibration images"):
            ask()
    with pytest.raises(UserError, match=r"--alpha=1.5 must lie between 0 and 1"):
        make("mse").belongs(TEST, 1.5)


@pytest.mark.parametrize("rule", ["youden", "f1"])
def test_a_rule_that_searches_by_outliers_knows_no_rate(rule):
    found = make("gradients", rule, searched_by=10)
    # These are wholly apart from the calibration images; by that, most others of their kind are found as well.
    assert found.belongs(CALIBRATION).all() and not found.belongs(NOISE[:10]).any()
    assert found.belongs(NOISE[10:]).mean() < 0.3
    with pytest.raises(UserError, match=rf"--alpha=0.3 has no meaning for --threshold={rule}"):
        found.belongs(TEST, 0.3)
    assert "rate" not in found.described() and rule in found.described()


def test_a_rule_that_searches_needs_outliers():
    with pytest.raises(UserError, match=r"--threshold=youden needs labelled outliers.*--outlier_datasets"):
        make(rule="youden")


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match=r"unknown --score 'combine'.*did you mean 'combined'"):
        make("combine")
    with pytest.raises(UserError, match=r"unknown --threshold 'sigm'.*did you mean 'sigma'"):
        make(rule="sigm")


def test_in_words_it_says_rule_threshold_and_rate(combined):
    assert combined.described().startswith("conformal threshold")
    assert f"{combined.threshold.high:.6g}" in combined.described() and "0.05" in combined.described()


# --- What it takes ---------------------------------------------------------------------------------------------------


def test_floats_and_grey_images_without_a_channel_are_taken(combined):
    expected = combined.scores(TEST)
    for images in (TEST[..., 0], TEST / 255, (TEST / 255).astype(np.float32)[..., 0], list(TEST)):
        np.testing.assert_allclose(combined.scores(images), expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(0, 12, 12, 1), (0, 12, 12)])
def test_of_no_images_nothing_is_said(combined, shape):
    none = np.zeros(shape, np.uint8)
    assert combined.scores(none).shape == combined.p_values(none).shape == (0,)
    for told in (combined.belongs(none), combined.alarms(none)):
        assert told.shape == (0,) and told.dtype == bool


@pytest.mark.parametrize(
    "images, told",
    [
        (np.zeros([2, 12, 11, 1], np.uint8), r"shape \(2, 12, 11, 1\) do not fit; \[n, 12, 12, 1\] does"),
        (np.zeros([2, 12, 12, 3], np.uint8), r"shape \(2, 12, 12, 3\) do not fit"),
        (np.zeros([12, 12], np.uint8), r"shape \(12, 12\) do not fit"),
        (np.zeros([12, 12, 1], np.uint8), r"shape \(12, 12, 1\) do not fit"),
        (np.zeros([2, 12, 12, 1], np.int32), "int32 do not fit"),
        (np.zeros([2, 12, 12, 1], bool), "bool do not fit"),
        (np.full([2, 12, 12, 1], 1.1), r"floats in 1.1..1.1 do not fit; 0..1 does"),
        (np.full([2, 12, 12, 1], -0.1), "floats in -0.1"),
        (np.full([2, 12, 12, 1], 255.0), "floats in 255"),
        (np.full([2, 12, 12, 1], np.nan), "floats in nan"),
    ],
)
def test_what_the_model_does_not_take_is_refused(combined, images, told):
    for ask in (combined.scores, combined.p_values, combined.belongs, combined.alarms):
        with pytest.raises(ValueError, match=told):
            ask(images)


def test_a_single_value_that_is_not_a_number_is_found(combined):
    images = np.zeros([3, 12, 12, 1])
    images[1, 5, 5] = np.nan
    with pytest.raises(ValueError, match="do not fit"):
        combined.scores(images)


def test_colours_need_their_channels():
    assert detector.check(np.zeros([2, 12, 12, 3], np.uint8), (12, 12, 3)).shape == (2, 12, 12, 3)
    with pytest.raises(ValueError, match=r"\[n, 12, 12, 3\] does"):
        detector.check(np.zeros([2, 12, 12], np.uint8), (12, 12, 3))


# --- Saved and read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORES)
def test_what_was_saved_says_the_same_when_it_is_read(name, tmp_path):
    found = make(name, alpha=0.03, step=7)
    found.save(tmp_path)
    again = read(tmp_path, 7)
    images = np.concatenate([TEST, NOISE])
    np.testing.assert_array_equal(again.scores(images), found.scores(images))
    np.testing.assert_array_equal(again.p_values(images), found.p_values(images))
    np.testing.assert_array_equal(again.belongs(images), found.belongs(images))
    np.testing.assert_array_equal(again.belongs(images, 0.2), found.belongs(images, 0.2))
    for field in ("name", "rule", "alpha", "threshold", "step", "calibrated_on", "background", "image_shape"):
        assert getattr(again, field) == getattr(found, field)


@pytest.mark.parametrize("rule", ["percentile", "sigma", "f1"])
def test_every_rule_is_saved_and_read(rule, tmp_path):
    found = make("gradients", rule, searched_by=20)
    found.save(tmp_path)
    assert read(tmp_path).threshold == found.threshold and read(tmp_path).rule == rule


def test_it_is_there_for_that_step_score_and_threshold(tmp_path):
    assert not detector.is_there(tmp_path, 3)
    make("mse", step=3).save(tmp_path)
    assert detector.is_there(tmp_path, 3)
    assert detector.is_there(tmp_path, 3, score="mse", threshold="conformal")
    assert not detector.is_there(tmp_path, 4)
    assert not detector.is_there(tmp_path, 3, score="ssim")
    assert not detector.is_there(tmp_path, 3, threshold="sigma")


def test_the_record_can_be_read_by_anyone(tmp_path):
    make("gradients", alpha=0.05, step=3).save(tmp_path)
    record = json.loads((tmp_path / "detector" / "detector.json").read_text())
    assert record["score"] == "gradients" and record["alpha"] == 0.05 and record["calibration_images"] == 199
    # JSON knows no infinity.
    assert record["belongs_from"] is None
    assert sorted(path.name for path in (tmp_path / "detector").iterdir()) == ["arrays.npz", "detector.json"]
    arrays = (tmp_path / "detector" / "arrays.npz").read_bytes()
    assert record["arrays_sha256"] == hashlib.sha256(arrays).hexdigest()


def test_a_new_one_takes_the_place_of_the_old_one(tmp_path):
    make("mahalanobis", step=1).save(tmp_path)
    make("gradients", step=2).save(tmp_path)
    assert read(tmp_path, 2).name == "gradients" and not detector.is_there(tmp_path, 1)


def test_without_a_detector_it_is_said_how_to_make_one(tmp_path):
    with pytest.raises(UserError, match=r"holds no detector; eval.py --workdir=.* --tasks=outliers makes one"):
        read(tmp_path)


def test_a_newer_model_needs_a_new_detector(tmp_path):
    make("mse", step=3).save(tmp_path)
    with pytest.raises(UserError, match=r"has a newer model than its detector; eval\.py"):
        read(tmp_path, 4)


@pytest.mark.parametrize("text", [None, "", "{", "[]", "3", '{"score": "mse", "step": 0}'])
def test_half_a_detector_counts_as_none(tmp_path, text):
    make("mse").save(tmp_path)
    record = tmp_path / "detector" / "detector.json"
    record.unlink()
    if text is not None:
        record.write_text(text)
    assert not detector.is_there(tmp_path, 0)
    with pytest.raises(UserError, match="holds no detector"):
        read(tmp_path)
    make("mse").save(tmp_path)
    assert detector.is_there(tmp_path, 0)


def test_a_save_that_fails_leaves_none_rather_than_halves_of_two(tmp_path):
    make("mse").save(tmp_path)
    # A folder cannot be overwritten by a file.
    (tmp_path / "detector" / "arrays.npz").unlink()
    (tmp_path / "detector" / "arrays.npz").mkdir()
    with pytest.raises(OSError):
        make("gradients").save(tmp_path)
    assert not detector.is_there(tmp_path, 0)


def without_calibration(path):
    np.savez(path, score_mean=np.zeros(3))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-200])


def with_one_bit_turned(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def with_a_pickle(path):
    np.savez(path, calibration=np.array([{}], object))


def with_another_index(path):
    """The file as a whole is sound, which the index is not: FAISS might crash."""
    with np.load(path) as arrays:
        held = dict(arrays)
    held["score_index"][8:40] = 255
    np.savez(path, **held)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no arrays"),
        without_calibration,
        cut_off,
        with_one_bit_turned,
        with_a_pickle,
        with_another_index,
    ],
)
def test_arrays_that_are_missing_or_damaged_say_so(tmp_path, damage):
    make("gradients").save(tmp_path)
    damage(tmp_path / "detector" / "arrays.npz")
    with pytest.raises(UserError, match=r"is damaged; eval\.py --tasks=outliers makes it again"):
        read(tmp_path)


def test_a_detector_that_was_saved_without_its_index_is_refused(tmp_path):
    make("gradients", alpha=0.05).save(tmp_path)
    path = tmp_path / "detector" / "detector.json"
    record = json.loads(path.read_text())
    del record["arrays_sha256"]
    path.write_text(json.dumps(record))
    with pytest.raises(
        UserError, match=r"of an earlier version, without its index; eval\.py .*--tasks=outliers makes one"
    ):
        read(tmp_path)
    # So that eval.py makes one for pictures that it is given.
    assert not detector.is_there(tmp_path, 0)


@pytest.mark.parametrize("listed", [100, 10_000])
@pytest.mark.parametrize("name", ["neighbours", "gradients", "combined"])
def test_an_index_is_not_built_again(name, listed, tmp_path, monkeypatch):
    """Another one might find other neighbors, for which the rate of false alarms is not promised."""
    monkeypatch.setattr(index, "LISTED", listed)
    found = detector.make(name, MODEL, TRAIN, CALIBRATION, rule="conformal", alpha=0.05)
    found.save(tmp_path)
    monkeypatch.setattr(index, "build", None)
    again = read(tmp_path)
    np.testing.assert_array_equal(again.scores(TEST), found.scores(TEST))
    np.testing.assert_array_equal(np.sort(again.scores(CALIBRATION)), again.calibration)
