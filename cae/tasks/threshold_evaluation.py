"""Evaluates threshold methods on the test split: their rates, and whether the conformal guarantee holds."""

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np

from cae.errors import UserError
from cae.outliers import conformal, thresholds
from cae.outliers.detector import Detector
from cae.report.report import Row

ALPHAS = (0.01, 0.05, 0.1)
"""False positive rates whose guarantee is tested, beside the detector's."""

NUM_SPLITS = 1000
"""Random splits of the test scores into halves, of which the empirical coverage is measured."""

NO_SCORES = np.zeros(0)


def make_threshold_rows(
    detector: Detector, inliers: np.ndarray, outliers: Mapping[str, np.ndarray], ood_datasets: Mapping[str, np.ndarray]
) -> list[Row]:
    """Returns a row per threshold method: its threshold and its rates on the test split, with confidence intervals.

    The outliers of other data sets are split in two: methods that need outliers are fitted to every other one from the
    first, the rest gives the true positive rate. Methods are left out that need outliers or classes that are missing,
    or more calibration images of each class, or that find no threshold.
    """
    fit_outliers, test_outliers = (
        np.concatenate([NO_SCORES, *(outliers[name][start::2] for name in ood_datasets)]) for start in (0, 1)
    )
    rows = []
    for name in thresholds.THRESHOLDS:
        with contextlib.suppress(UserError):
            threshold = _fit(name, detector, fit_outliers)
            row = describe_threshold(name, detector.alpha, threshold)
            row |= _rate("fpr", ~threshold.is_inlier(inliers)) | _rate("tpr", ~threshold.is_inlier(test_outliers))
            rows.append(row)
    return rows


def _can_fit(name: str, detector: Detector) -> bool:
    """Returns whether a threshold method that needs no outliers can be fitted to a detector's calibration scores."""
    num_calibration, two_sided = len(detector.calibration_scores), detector.score.two_sided
    try:
        thresholds.check_threshold_method(name, num_calibration, 0, detector.alpha, two_sided, detector.classes)
    except UserError:
        return False
    return True


def _fit(name: str, detector: Detector, outliers: np.ndarray = NO_SCORES) -> thresholds.Threshold:
    """Returns the threshold of another method for a detector."""
    two_sided = detector.score.two_sided
    return thresholds.fit_threshold(
        name, detector.calibration_scores, outliers, detector.alpha, two_sided, detector.classes
    )


def _rate(name: str, is_positive: np.ndarray) -> Row:
    """Returns the fraction of images that are positive, [n], with its exact 95% confidence interval."""
    count, total = int(is_positive.sum()), len(is_positive)
    low, high = conformal.clopper_pearson_interval(count, total) if total else (None, None)
    return {name: count / total if total else None, f"{name}_ci_low": low, f"{name}_ci_high": high}


def make_guarantee_rows(detector: Detector, inliers: np.ndarray) -> list[Row]:
    """Returns a row per alpha that is attainable: the test split's FPR, its exact 99% interval, and the coverage.

    The FPR's distribution is that of `conformal.fpr_distribution`.
    """
    rows, num_calibration, two_sided = [], len(detector.calibration_scores), detector.score.two_sided
    min_alpha = conformal.min_attainable_alpha(min(num_calibration, len(inliers) // 2), two_sided)
    for alpha in sorted({alpha for alpha in (*ALPHAS, detector.alpha) if alpha >= min_alpha}):
        threshold = thresholds.fit_threshold("conformal", detector.calibration_scores, NO_SCORES, alpha, two_sided)
        low, high = conformal.fpr_distribution(num_calibration, alpha, len(inliers), two_sided).interval(0.99)
        rows.append(
            {
                "alpha": alpha,
                "fpr": float(np.mean(~threshold.is_inlier(inliers))),
                "fpr_ci_low": low / len(inliers),
                "fpr_ci_high": high / len(inliers),
                "empirical_coverage": empirical_coverage(inliers, alpha, two_sided),
            }
        )
    return rows


def make_class_rows(
    detector: Detector, inliers: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[Row]:
    """Returns a row per class: false positive rates of its test images, with exact 95% confidence intervals.

    Args:
      detector: The detector.
      inliers: Scores of the test images, `[n]`.
      labels: Their classes, `[n]`.
      class_names: Names of the classes by label; no rows without any.

    Returns:
      `fpr` of the detector's threshold: a conformal one guarantees the rate of all images together, not that of a
      class. Where every class has enough calibration images, `fpr_label_known` and `fpr_label_unknown` of
      class-conditional thresholds at the same alpha, and between them the 99% interval of the exact distribution of
      the first.
    """
    rows = []
    with_classes = _can_fit("class_conditional", detector) and detector.classes.names.keys() >= {*labels.tolist()}
    for label, name in enumerate(class_names):
        scores = inliers[labels == label]
        if len(scores):
            is_positive = ~detector.threshold.is_inlier(scores)
            row = {"class": name, "num_images": len(scores), "false_positives": int(is_positive.sum())}
            row |= _rate("fpr", is_positive)
            rows.append(row | (_class_conditional_rates(detector, label, scores) if with_classes else {}))
    return rows


def _class_conditional_rates(detector: Detector, label: int, scores: np.ndarray) -> Row:
    """Returns the false positive rates of test images of a class by class-conditional thresholds."""
    alpha, two_sided, classes = detector.alpha, detector.score.two_sided, detector.classes
    each = thresholds.fit_class_thresholds(detector.calibration_scores, alpha, two_sided, classes)
    index, count = [*classes.names].index(label), classes.counts()[classes.names[label]]
    own = thresholds.Threshold(each.high[index], each.low[index])
    low, high = conformal.fpr_distribution(count, alpha, len(scores), two_sided).interval(0.99)
    return {
        "num_calibration_images": count,
        **_rate("fpr_label_known", ~own.is_inlier(scores)),
        "expected_low": low / len(scores),
        "expected_high": high / len(scores),
        **_rate("fpr_label_unknown", ~_fit("class_conditional", detector).is_inlier(scores)),
    }


def empirical_coverage(inliers: np.ndarray, alpha: float, two_sided: bool) -> float:
    """Returns for which fraction of random splits into calibration and test the FPR lies in its 99% interval."""
    half, random = len(inliers) // 2, np.random.default_rng(0)
    low, high = conformal.fpr_distribution(half, alpha, len(inliers) - half, two_sided).interval(0.99)
    num_inside = 0
    for _ in range(NUM_SPLITS):
        shuffled = random.permutation(inliers)
        threshold = thresholds.fit_threshold("conformal", shuffled[:half], NO_SCORES, alpha, two_sided)
        num_inside += low <= np.sum(~threshold.is_inlier(shuffled[half:])) <= high
    return num_inside / NUM_SPLITS


def describe_threshold(method: str, alpha: float, threshold: thresholds.Threshold) -> Row:
    """Returns a threshold's method, target rate and limits; None stands for no target rate and for no lower limit."""
    return {
        "threshold_method": method,
        "alpha": None if thresholds.get_threshold_method(method).needs_outliers else alpha,
        "threshold_low": float(threshold.low) if np.isfinite(threshold.low) else None,
        "threshold_high": threshold.high,
    }
