"""Class-conditional calibration: the false positive rate holds in each class, with and without the image's label."""

import numpy as np
import pytest
from clouds import SHAPE
from small_detectors import CALIBRATION, LABELS, MODEL, NAMES, TEST, fit

from cae.errors import UserError
from cae.outliers import conformal, thresholds
from cae.outliers.calibration_classes import CalibrationClasses
from cae.outliers.detector import Detector
from cae.outliers.thresholds import Threshold

pytestmark = pytest.mark.usefixtures("one_thread")

NO_SCORES = np.zeros(0)

SCORES, BY_HAND = np.array([1.0, 10, 2, 3, 20, 4]), CalibrationClasses(np.array([0, 7, 0, 0, 7, 0]), {0: "a", 7: "b"})


def fit_threshold(scores, alpha, two_sided, classes):
    return thresholds.fit_threshold("class_conditional", scores, NO_SCORES, alpha, two_sided, classes)


# --- By hand ----------------------------------------------------------------------------------------------------------


def test_p_values_are_those_of_the_class_or_else_the_largest_of_all_classes():
    scores = np.array([3.5, 15, 30])
    # As large are 1, 0 and 0 of 4 scores of a, and 2, 1 and 0 of 2 of b.
    expected = {0: np.array([2, 1, 1]) / 5, 7: np.array([3, 2, 1]) / 3}
    for label, values in expected.items():
        positions = BY_HAND.positions(np.full(3, label), (3,))
        np.testing.assert_allclose(conformal.p_values(SCORES, scores, False, BY_HAND, positions), values)
    np.testing.assert_allclose(conformal.p_values(SCORES, scores, False, BY_HAND), expected[7])
    # As small are 3 of a, and none, 1 and 2 of b. Unknown, above 1 of b and below 4/5 of a, and so on.
    positions = np.array([0, 1, 1])
    np.testing.assert_allclose(conformal.p_values(SCORES, scores, True, BY_HAND, positions), [4 / 5, 1, 2 / 3])
    np.testing.assert_allclose(conformal.p_values(SCORES, scores, True, BY_HAND), [1, 1, 2 / 3])


def test_the_threshold_without_labels_is_the_largest_of_the_classes():
    # Ranks of 5/2 in a and of 3/2 in b, rounded up.
    each = thresholds.fit_class_thresholds(SCORES, 0.5, False, BY_HAND)
    np.testing.assert_array_equal(each.high, [3, 20])
    assert fit_threshold(SCORES, 0.5, False, BY_HAND) == Threshold(20)
    # At 0.4 a side, ranks of 3 in a and of 1.8 in b.
    each = thresholds.fit_class_thresholds(SCORES, 0.8, True, BY_HAND)
    np.testing.assert_array_equal([each.low, each.high], [[2, 10], [3, 20]])
    assert fit_threshold(SCORES, 0.8, True, BY_HAND) == Threshold(20, 2)


@pytest.mark.parametrize(
    "alpha, two_sided, classes, message",
    [
        (0.3, False, BY_HAND, r"--alpha=0.3: 2 calibration images of class 'b' can guarantee 0.33 at least"),
        (0.6, True, BY_HAND, r"--alpha=0.6: 2 calibration images of class 'b' can guarantee 0.67 at least"),
        (None, False, CalibrationClasses(BY_HAND.labels, {0: "a", 5: "c"}), r"0 calibration images of class 'c'"),
        (0.5, False, None, r"class_conditional needs images of two classes or more, and these have no labels"),
        (None, False, CalibrationClasses(np.zeros(6), {0: "a"}), r"and these have only the class 'a'"),
        (1.5, False, BY_HAND, r"--alpha=1.5 must be between 0 and 1"),
    ],
)  # fmt: skip
def test_classes_that_cannot_guarantee_alpha_are_named(alpha, two_sided, classes, message):
    with pytest.raises(UserError, match=message):
        alpha = thresholds.choose_alpha(alpha, "class_conditional", 6, two_sided, classes)
        fit_threshold(SCORES, alpha, two_sided, classes)


# --- Guarantees -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("decimals", [1, 9])
def test_inliers_are_the_images_with_p_values_above_alpha(random, two_sided, decimals):
    classes = CalibrationClasses(random.permutation(np.repeat([2, 3, 9], [19, 40, 140])), {2: "a", 3: "b", 9: "c"})
    calibration = (random.normal(size=199) * (1 + classes.labels)).round(decimals)
    scores = np.concatenate([10 * random.normal(size=400).round(decimals), calibration])
    positions = random.integers(0, 3, len(scores))
    for alpha in (0.1, 0.12, 0.2, 0.3, 0.5, 0.9):
        unknown = fit_threshold(calibration, alpha, two_sided, classes).is_inlier(scores)
        p_values = conformal.p_values(calibration, scores, two_sided, classes)
        np.testing.assert_array_equal(unknown, p_values > alpha + 1e-9)
        each = thresholds.fit_class_thresholds(calibration, alpha, two_sided, classes)
        known = Threshold(each.high[positions], each.low[positions]).is_inlier(scores)
        p_values = conformal.p_values(calibration, scores, two_sided, classes, positions)
        np.testing.assert_array_equal(known, p_values > alpha + 1e-9)
        assert unknown[known].all()


@pytest.mark.parametrize("two_sided", [False, True])
def test_the_rate_holds_in_each_class_whatever_the_frequencies_of_classes(random, two_sided):
    """At 0.1 with 39 and 19 calibration images, of gamma distributions that differ in scale."""
    classes = CalibrationClasses(np.repeat([0, 1], [39, 19]), {0: "narrow", 1: "wide"})
    known, unknown, marginal = np.zeros([3, 2])
    for _ in range(500):
        calibration = random.gamma(2, size=58) * (1 + 9 * classes.labels)
        each = thresholds.fit_class_thresholds(calibration, 0.1, two_sided, classes)
        hull = fit_threshold(calibration, 0.1, two_sided, classes)
        pooled = thresholds.fit_threshold("conformal", calibration, NO_SCORES, 0.1, two_sided)
        for index in range(2):
            scores = random.gamma(2, size=40) * (1 + 9 * index)
            known[index] += np.mean(~Threshold(each.high[index], each.low[index]).is_inlier(scores)) / 500
            unknown[index] += np.mean(~hull.is_inlier(scores)) / 500
            marginal[index] += np.mean(~pooled.is_inlier(scores)) / 500
    # The standard error of each is 0.003.
    np.testing.assert_allclose(known, 0.1, atol=0.012)
    assert (unknown <= 0.112).all() and unknown[0] < 0.06
    assert two_sided or marginal[1] > 0.2, "all images together are not enough"


# --- Detectors --------------------------------------------------------------------------------------------------------

TEST_LABELS = np.where(np.arange(len(TEST)) % 2, 0, 3)


@pytest.mark.parametrize("name", ["hog", "mse"])
def test_a_detector_decides_by_the_calibration_images_of_the_class(name, tmp_path):
    fitted = fit(name, "class_conditional", alpha=0.05, labeled=True)
    classes, calibration, scores = CalibrationClasses(LABELS, NAMES), fitted.scores(CALIBRATION), fitted.scores(TEST)
    positions, two_sided = (TEST_LABELS == 3).astype(int), fitted.score.two_sided
    expected = {
        "known": conformal.p_values(calibration, scores, two_sided, classes, positions),
        "unknown": conformal.p_values(calibration, scores, two_sided, classes),
    }
    fitted.save(tmp_path)
    for detector in (fitted, Detector.load(tmp_path, MODEL, SHAPE, 0)):
        np.testing.assert_array_equal(detector.p_values(TEST, TEST_LABELS), expected["known"])
        np.testing.assert_array_equal(detector.p_values(TEST), expected["unknown"])
        for alpha in (None, 0.2):
            limit = (alpha or 0.05) + 1e-9
            np.testing.assert_array_equal(detector.is_inlier(TEST, alpha, TEST_LABELS), expected["known"] > limit)
            np.testing.assert_array_equal(detector.is_inlier(TEST, alpha), expected["unknown"] > limit)
        assert detector.p_values(TEST[0], 3) == expected["known"][0]
        assert detector.is_inlier(TEST[0], labels=3) == (expected["known"][0] > 0.05)
        assert detector.with_alpha(0.2).alpha == 0.2 and detector.classes.names == NAMES
        # There are 66 images of 'square'.
        assert detector.min_alpha == pytest.approx((2 if two_sided else 1) / 67)
        assert str(detector).endswith("at a false positive rate of 0.05 in each class")
    with pytest.raises(UserError, match=r"--alpha=0.01: 66 calibration images of class 'square' can guarantee"):
        fitted.is_inlier(TEST, 0.01)


def test_labels_do_not_change_other_thresholds(tmp_path):
    """Detectors of earlier versions have no labels: those are then all that differs."""
    labeled, plain = fit("hog", alpha=0.05, labeled=True), fit("hog", alpha=0.05)
    labeled.save(tmp_path)
    loaded = Detector.load(tmp_path, MODEL, SHAPE, 0)
    np.testing.assert_array_equal(loaded.p_values(TEST), plain.p_values(TEST))
    assert loaded.threshold == plain.threshold and plain.classes is None
    np.testing.assert_array_equal(loaded.classes.labels, labeled.classes.labels)


def test_labels_that_cannot_be_used_are_refused():
    fitted = fit("hog", "class_conditional", alpha=0.05, labeled=True)
    for call in (fitted.p_values, lambda images, labels: fitted.is_inlier(images, labels=labels)):
        with pytest.raises(ValueError, match=r"one for each image, of shape \[200\], not \[3\]"):
            call(TEST, TEST_LABELS[:3])
        with pytest.raises(ValueError, match=r"images with the label 1; labels: 0 \(round\), 3 \(square\)"):
            call(TEST[:2], [3, 1])
    with pytest.raises(UserError, match=r"labels need --threshold_method=class_conditional, .*'s is conformal"):
        fit("hog", labeled=True).p_values(TEST, TEST_LABELS)


def test_classes_are_those_that_training_and_calibration_images_have():
    found = CalibrationClasses.find(np.array([3, 1, 1]), np.array([1, 4]), ("a", "b", "c", "d", "e"))
    assert found.names == {1: "b", 3: "d", 4: "e"} and found.counts() == {"b": 2, "d": 1, "e": 0}
    assert CalibrationClasses.find(np.zeros(3, int), np.zeros(2, int), ()) is None
