"""Detectors tell inliers from outliers at a target false positive rate, and check images."""

import itertools

import numpy as np
import pytest
from clouds import SHAPE
from small_detectors import CALIBRATION, MODEL, NOISE, TEST, TRAIN, fit

from cae.data.resizing import border_background
from cae.errors import UserError
from cae.outliers import conformal
from cae.outliers.anomaly_map import PIXEL_ALPHA
from cae.outliers.detector import Detector
from cae.outliers.scores import SCORES

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def fisher():
    return fit("fisher", alpha=0.05)


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
        fisher.discoveries(images, 0.02), conformal.discoveries(fisher.p_values(images), 0.02)
    )
    assert fisher.discoveries(images, 0.02)[20:].all() and fisher.discoveries(images, 0.02)[:20].mean() < 0.2
    assert not fisher.discoveries(images, 0.001).any()


def test_background_is_that_of_the_training_images():
    assert fit("mse").background == border_background(TRAIN)
    # By 0.5 no image is a negative, where training images would be negatives of each other.
    both = np.concatenate([np.zeros_like(TRAIN[:20]), np.full_like(TRAIN[:10], 255)])
    assert Detector.fit(MODEL, both, CALIBRATION, score="mse").background == 0.5


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
    for alpha in (0.3, fitted.alpha):
        with pytest.raises(UserError, match=rf"--alpha={alpha} does not apply to --threshold_method={method}"):
            fitted.is_inlier(TEST, alpha)
    with pytest.raises(UserError, match="does not apply to"):
        fit("hog", method, alpha=0.3, num_outliers=10)
    assert "rate" not in str(fitted) and method in str(fitted)


def test_too_few_training_images_are_refused():
    with pytest.raises(UserError, match="--score=fisher needs at least 6 training images, and there are 5"):
        Detector.fit(MODEL, TRAIN[:5], CALIBRATION, score="fisher")
    assert Detector.fit(MODEL, TRAIN[:6], CALIBRATION, score="fisher").is_inlier(CALIBRATION).any()


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


def test_unsupported_images_are_refused_by_every_method(fisher):
    for method in (fisher.scores, fisher.p_values, fisher.is_inlier, fisher.discoveries, fisher.anomaly_map):
        with pytest.raises(ValueError, match=r"\[12, 12, 1\] or \[12, 12\], not \(2, 12, 11, 1\)"):
            method(np.zeros([2, 12, 11, 1], np.uint8))


def test_results_of_one_image_have_no_batch_axis(fisher):
    for image in (TEST[0], TEST[0, ..., 0]):
        for name in ("scores", "p_values", "is_inlier", "discoveries", "anomaly_map"):
            method = getattr(fisher, name)
            (expected,) = method(TEST[:1])
            assert np.shape(method(image)) == expected.shape and method(image).dtype == expected.dtype
            np.testing.assert_array_equal(method(image), expected)


def test_anomaly_maps_exceed_one_where_an_image_is_changed():
    detector = fit()
    calibration_maps = detector.anomaly_map(CALIBRATION)
    assert calibration_maps.shape == CALIBRATION.shape[:3] and calibration_maps.min() >= 0
    assert (calibration_maps > 1).sum() == int(PIXEL_ALPHA * calibration_maps.size)
    changed = TEST[:20].copy()
    changed[:, :4, :4] = np.where(changed[:, :4, :4] < 128, 255, 0)
    before, after = detector.anomaly_map(TEST[:20]), detector.anomaly_map(changed)
    assert (after[:, :4, :4] > 1).mean() > 10 * (before > 1).mean()
    assert after[:, :4, :4].mean() > 2 * after[:, -4:, -4:].mean()
    assert detector.anomaly_map(TEST[:0]).shape == (0, *TEST.shape[1:3])


def test_scores_and_maps_of_one_pass_are_those_of_two(fisher):
    for images in (TEST[:7], TEST[:0]):
        scores, maps = fisher.scores_and_maps(images)
        np.testing.assert_array_equal(scores, fisher.scores(images))
        np.testing.assert_array_equal(maps, fisher.anomaly_map(images))
