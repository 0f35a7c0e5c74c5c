"""Thresholds of anomaly scores. Scores are [n]; outliers have larger ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from etils import epy

from cae.errors import UserError, unknown_choice_error
from cae.outliers.calibration_classes import CalibrationClasses
from cae.outliers.conformal import check_alpha, conformal_rank, min_attainable_alpha

# Both take a second to import; names are looked up before they are needed.
with epy.lazy_imports():
    from scipy import stats
    from sklearn import metrics

DEFAULT_ALPHA = 0.01


@dataclasses.dataclass(frozen=True)
class ThresholdMethod:
    """A method to find a threshold.

    Attributes:
      compute: (inlier scores [n], outlier scores [m], alpha) to the largest score of an inlier.
      needs_outliers: Whether it maximizes a measure on labeled outliers, so that it has no target false positive rate.
      by_class: Whether it has a threshold for each class; an image of unknown class is an inlier if it is one by any.
    """

    compute: Callable[[np.ndarray, np.ndarray, float], float]
    needs_outliers: bool = False
    by_class: bool = False


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The range of inliers' scores, whose lower end is minus infinity unless small scores are anomalous as well.

    Both ends may be arrays, of as many thresholds.
    """

    high: float | np.ndarray
    low: float | np.ndarray = -math.inf

    def is_inlier(self, scores: np.ndarray) -> np.ndarray:
        """Returns which scores [n] are those of inliers, bool [n]."""
        return (self.low <= scores) & (scores <= self.high)


def conformal(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns the inlier score of rank ceil((n + 1)(1 - alpha)) of n.

    Whatever the distribution of scores, if they are exchangeable, another inlier's score is larger with a probability
    of at most alpha, over the sampling of both (Vovk et al. 2005; Lei et al. 2018).
    """
    return float(np.sort(inlier_scores)[conformal_rank(len(inlier_scores), alpha) - 1])


def percentile(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns the quantile of inlier scores at 1 - alpha, interpolated as by `numpy.quantile`."""
    return float(np.quantile(inlier_scores, 1 - alpha))


def sigma(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns mean + k standard deviations of inlier scores, k being the normal quantile at 1 - alpha."""
    return float(inlier_scores.mean() + stats.norm.isf(alpha) * inlier_scores.std())


def youden(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns the threshold that maximizes true minus false positive rate (Youden 1950).

    Raises:
      UserError: No threshold is better than calling all images inliers.
    """
    fpr, tpr, thresholds = metrics.roc_curve(*binary_labels_and_scores(inlier_scores, outlier_scores))
    if np.all(tpr <= fpr):  # Scikit-learn's first threshold is infinite.
        raise UserError(
            "--threshold_method=youden finds no threshold: the outliers have no larger scores than the calibration"
            " images; use --threshold_method=conformal, or another --score"
        )
    # Scores are positive from scikit-learn's threshold on; the largest one of an inlier is just below.
    return float(np.nextafter(thresholds[np.argmax(tpr - fpr)], -math.inf))


def f1(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns the threshold that maximizes the F1 score, at the given numbers of inliers and outliers."""
    labels_and_scores = binary_labels_and_scores(inlier_scores, outlier_scores)
    precision, recall, thresholds = metrics.precision_recall_curve(*labels_and_scores)
    f1_scores = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(np.nextafter(thresholds[np.argmax(f1_scores[:-1])], -math.inf))


# The names in `--threshold_method`; the first is the default. To add one, write a function of inlier scores, outlier
# scores and alpha to the largest score of an inlier:
#
#   def largest(inlier_scores, outlier_scores, alpha):
#       return float(inlier_scores.max())
#
#   THRESHOLDS["largest"] = ThresholdMethod(largest)
THRESHOLDS = {
    "conformal": ThresholdMethod(conformal),
    "class_conditional": ThresholdMethod(conformal, by_class=True),
    "percentile": ThresholdMethod(percentile),
    "sigma": ThresholdMethod(sigma),
    "youden": ThresholdMethod(youden, needs_outliers=True),
    "f1": ThresholdMethod(f1, needs_outliers=True),
}


def get_threshold_method(name: str) -> ThresholdMethod:
    """Returns the method of that name; raises `UserError` for an unknown name."""
    if name not in THRESHOLDS:
        raise unknown_choice_error("--threshold_method", name, THRESHOLDS)
    return THRESHOLDS[name]


def fit_threshold(
    name: str,
    calibration_scores: np.ndarray,
    outlier_scores: np.ndarray,
    alpha: float,
    two_sided: bool,
    classes: CalibrationClasses | None = None,
) -> Threshold:
    """Finds a threshold; that of a method by class is for images of unknown class: inliers by any class' threshold.

    Args:
      name: A key of `THRESHOLDS`.
      calibration_scores: Scores of inliers that nothing was fitted to, [n].
      outlier_scores: Scores of labeled outliers, [m], for the methods that need them; else empty.
      alpha: Target false positive rate, for the methods that need no outliers.
      two_sided: Whether small scores are anomalous as well; either side then has half of alpha.
      classes: The classes of the calibration scores, for the methods that need them.

    Returns:
      The threshold.

    Raises:
      UserError: As `check_threshold_method`.
    """
    check_threshold_method(name, len(calibration_scores), len(outlier_scores), alpha, two_sided, classes)
    method = get_threshold_method(name)
    if method.by_class:
        each = fit_class_thresholds(calibration_scores, alpha, two_sided, classes)
        return Threshold(float(np.max(each.high)), float(np.min(each.low)))
    if method.needs_outliers or not two_sided:
        return Threshold(method.compute(calibration_scores, outlier_scores, alpha))
    high = method.compute(calibration_scores, outlier_scores, alpha / 2)
    return Threshold(high, -method.compute(-calibration_scores, outlier_scores, alpha / 2))


def fit_class_thresholds(
    calibration_scores: np.ndarray, alpha: float, two_sided: bool, classes: CalibrationClasses
) -> Threshold:
    """Returns the conformal thresholds of all classes, float64 [classes], in the order of `classes.names`.

    An inlier of a class lies outside of its range with a probability of at most alpha, whatever the frequencies of the
    classes (label-conditional conformal predictors: Vovk et al. 2003; Vovk 2012).

    Args:
      calibration_scores, alpha, two_sided: As in `fit_threshold`.
      classes: The classes of the calibration scores.

    Raises:
      UserError: A class has too few calibration images for alpha.
    """
    check_threshold_method("class_conditional", len(calibration_scores), 0, alpha, two_sided, classes)
    groups, no_outliers = classes.split(calibration_scores), np.zeros(0)
    each = [fit_threshold("conformal", group, no_outliers, alpha, two_sided) for group in groups]
    return Threshold(np.array([one.high for one in each]), np.array([one.low for one in each]))


def check_threshold_method(
    name: str,
    num_calibration: int,
    num_outliers: int,
    alpha: float,
    two_sided: bool,
    classes: CalibrationClasses | None = None,
) -> None:
    """Raises `UserError` for an alpha that so few images can't guarantee, or outliers or classes that are missing."""
    if not get_threshold_method(name).needs_outliers:
        class_name, count = _smallest_group(name, num_calibration, classes)
        check_alpha(alpha, count, two_sided, class_name)
    elif not num_outliers:
        raise UserError(f"--threshold_method={name} needs labeled outliers; name a set of them in --outlier_datasets")


def _smallest_group(name: str, num_calibration: int, classes: CalibrationClasses | None) -> tuple[str, int]:
    """Returns the class with the fewest calibration images, '' for all of them together, and their number."""
    if not get_threshold_method(name).by_class:
        return "", num_calibration
    if classes is None or len(classes.names) < 2:
        found = "no labels" if classes is None else f"only the class '{next(iter(classes.names.values()))}'"
        raise UserError(f"--threshold_method={name} needs images of two classes or more, and these have {found}")
    return min(classes.counts().items(), key=lambda item: item[1])


def min_alpha(name: str, num_calibration: int, two_sided: bool, classes: CalibrationClasses | None = None) -> float:
    """Returns the smallest false positive rate that a method can guarantee, of each class if it is by class."""
    return min_attainable_alpha(_smallest_group(name, num_calibration, classes)[1], two_sided)


def choose_alpha(
    alpha: float | None,
    name: str,
    num_calibration: int,
    two_sided: bool,
    classes: CalibrationClasses | None = None,
) -> float:
    """Returns alpha or, for None, the default; raises `UserError` for a method without a target false positive rate."""
    if alpha is None:
        least = min_alpha(name, num_calibration, two_sided, classes)
        return max(DEFAULT_ALPHA, least) if least < 1 else DEFAULT_ALPHA
    if get_threshold_method(name).needs_outliers:
        raise UserError(f"--alpha={alpha} does not apply to --threshold_method={name}, which has no target rate")
    return alpha


def binary_labels_and_scores(inlier_scores: np.ndarray, outlier_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels (1 for outliers) and scores, [n + m] both, as scikit-learn's metrics take them."""
    labels = np.repeat([0, 1], [len(inlier_scores), len(outlier_scores)])
    return labels, np.concatenate([inlier_scores, outlier_scores])
