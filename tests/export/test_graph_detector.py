import numpy as np
import pytest
import tensorflow as tf
from small_detectors import CALIBRATION, LABELS, MODEL, NOISE, TEST, fit

from cae.export.graph_detector import GraphDetector, decide
from cae.export.manifest import describe_detector
from cae.outliers import conformal, thresholds
from cae.outliers.anomaly_map import PIXEL_ALPHA
from cae.outliers.calibration_classes import CalibrationClasses

IMAGES = (TEST / 255).astype(np.float32)


def call(detector, images, alpha):
    return {name: value.numpy() for name, value in detector(tf.constant(images), tf.constant(alpha)).items()}


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("count", [1, 19, 99, 100, 999, 5000])
def test_decisions_are_those_of_conformal_thresholds(count, two_sided, random):
    """Of scores with ties, of the calibration scores themselves, and at alphas that are ranks."""
    calibration = np.sort(random.integers(0, 500, count)).astype(np.float32)
    scores = np.arange(-1, 501, dtype=np.float32)
    alphas = {0.01, 0.05, 0.1, 0.3, *(gap / (count + 1) for gap in range(1, count + 1, max(1, count // 40)))}
    for alpha in sorted(alphas):
        p_values, is_inlier = decide(tf.constant(scores), tf.constant(alpha, tf.float32), calibration, two_sided)
        np.testing.assert_allclose(p_values, conformal.p_values(calibration, scores, two_sided), rtol=1e-6)
        if alpha * (1 + 1e-9) < conformal.min_attainable_alpha(count, two_sided):
            assert np.all(is_inlier), "a rate that cannot be guaranteed has no false positives"
            continue
        threshold = thresholds.fit_threshold("conformal", calibration, np.zeros(0), alpha, two_sided)
        np.testing.assert_array_equal(is_inlier, threshold.is_inlier(scores), f"alpha {alpha}")


@pytest.mark.parametrize("two_sided", [False, True])
def test_class_conditional_decisions_are_those_of_the_threshold_without_labels(two_sided, random):
    classes = CalibrationClasses(random.permutation(np.repeat([2, 5, 6], [19, 50, 130])), {2: "a", 5: "b", 6: "c"})
    calibration = random.integers(0, 100 * classes.labels).astype(np.float32)
    scores = np.arange(-1, 601, dtype=np.float32)
    for alpha in (0.1, 0.15, 0.5):
        p_values, is_inlier = decide(
            tf.constant(scores), tf.constant(alpha, tf.float32), calibration, two_sided, classes
        )
        expected = conformal.p_values(calibration, scores, two_sided, classes)
        np.testing.assert_allclose(p_values, expected, rtol=1e-6)
        threshold = thresholds.fit_threshold("class_conditional", calibration, np.zeros(0), alpha, two_sided, classes)
        np.testing.assert_array_equal(is_inlier, threshold.is_inlier(scores), f"alpha {alpha}")


def test_a_class_conditional_detector_is_exported_as_such():
    detector = fit("mse", "class_conditional", alpha=0.05, labeled=True)
    graph = GraphDetector(MODEL, detector, CALIBRATION, LABELS)
    outputs = call(graph, IMAGES, 0.05)
    near = np.min(np.abs(detector.scores(TEST)[:, None] / detector.calibration_scores - 1), axis=1) < 1e-4
    np.testing.assert_allclose(outputs["p_value"][~near], detector.p_values(TEST)[~near], rtol=1e-5)
    np.testing.assert_array_equal(outputs["is_inlier"][~near], detector.is_inlier(TEST)[~near])
    assert graph.min_alpha == detector.min_alpha and describe_detector(graph)["threshold_method"] == "class_conditional"
    assert graph.threshold(0.05).high == pytest.approx(detector.threshold.high, rel=1e-4)


def test_a_score_that_is_not_a_number_is_an_outlier():
    for two_sided in (False, True):
        p_value, is_inlier = decide(tf.constant([np.nan]), tf.constant(0.4), np.arange(9, dtype=np.float32), two_sided)
        assert p_value.numpy() == pytest.approx(0.2 if two_sided else 0.1) and not is_inlier.numpy().any()


@pytest.mark.parametrize("score", ["mse", "hog"])
def test_detector_decides_as_in_python(score):
    detector = fit(score)
    graph = GraphDetector(MODEL, detector, CALIBRATION)
    outputs = call(graph, IMAGES, 0.05)
    np.testing.assert_allclose(outputs["score"], detector.scores(TEST), rtol=1e-4)
    np.testing.assert_allclose(outputs["anomaly_map"], detector.anomaly_map(TEST), rtol=1e-4)
    near = np.min(np.abs(detector.scores(TEST)[:, None] / detector.calibration_scores - 1), axis=1) < 1e-4
    np.testing.assert_array_equal(outputs["is_inlier"][~near], detector.is_inlier(TEST, 0.05)[~near])
    np.testing.assert_allclose(outputs["p_value"][~near], detector.p_values(TEST)[~near], rtol=1e-5)
    assert not call(graph, (NOISE / 255).astype(np.float32), 0.05)["is_inlier"].any()


def test_calibration_is_of_its_own_scores_and_pixels():
    graph = GraphDetector(MODEL, fit("mse"), CALIBRATION)
    outputs = call(graph, (CALIBRATION / 255).astype(np.float32), 0.01)
    np.testing.assert_array_equal(np.sort(outputs["score"]), graph.calibration_scores)
    assert (outputs["anomaly_map"] > 1).mean() == pytest.approx(PIXEL_ALPHA, abs=1e-3)


def test_alpha_is_that_of_the_detector_or_what_calibration_images_can_guarantee():
    assert GraphDetector(MODEL, fit("hog", alpha=0.2), CALIBRATION).default_alpha == 0.2
    assert GraphDetector(MODEL, fit("hog", method="youden", num_outliers=20), CALIBRATION).default_alpha == 0.01
    few = GraphDetector(MODEL, fit("mse", alpha=0.05), CALIBRATION[:19])
    assert few.default_alpha == few.min_alpha == pytest.approx(2 / 20)
