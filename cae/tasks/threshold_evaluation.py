"""Evaluates threshold methods on the test split: their rates, and whether the conformal guarantee holds."""

from collections.abc import Mapping, Sequence

import numpy as np

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
    first, the rest gives the true positive rate.
    """
    fit_outliers, test_outliers = (
        np.concatenate([NO_SCORES, *(outliers[name][start::2] for name in ood_datasets)]) for start in (0, 1)
    )
    rows = []
    for name, method in thresholds.THRESHOLDS.items():
        if method.needs_outliers and not len(fit_outliers):
            continue
        threshold = thresholds.fit_threshold(
            name, detector.calibration_scores, fit_outliers, detector.alpha, detector.score.two_sided
        )
        row = describe_threshold(name, detector.alpha, threshold)
        for rate, values in {"fpr": inliers, "tpr": test_outliers}.items():
            count, total = int(np.sum(~threshold.is_inlier(values))), len(values)
            low, high = conformal.clopper_pearson_interval(count, total) if total else (None, None)
            row |= {rate: count / total if total else None, f"{rate}_ci_low": low, f"{rate}_ci_high": high}
        rows.append(row)
    return rows


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
    threshold: thresholds.Threshold, inliers: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> list[Row]:
    """Returns a row per class: the false positive rate of its test images, with an exact 95% confidence interval.

    A conformal threshold guarantees the rate of all images together, not that of a class.

    Args:
      threshold: The detector's threshold.
      inliers: Scores of the test images, `[n]`.
      labels: Their classes, `[n]`.
      class_names: Names of the classes by label; no rows without any.
    """
    rows = []
    for label, name in enumerate(class_names):
        is_positive = ~threshold.is_inlier(inliers[labels == label])
        if len(is_positive):
            count, total = int(is_positive.sum()), len(is_positive)
            low, high = conformal.clopper_pearson_interval(count, total)
            row = {"class": name, "num_images": total, "false_positives": count, "fpr": count / total}
            rows.append(row | {"fpr_ci_low": low, "fpr_ci_high": high})
    return rows


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
