"""Thresholds of anomaly scores, and the guarantees that they give. Scores are [n]; outliers have larger ones."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from etils import epy

from cae.errors import UserError, unknown_choice_error

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
    """

    compute: Callable[[np.ndarray, np.ndarray, float], float]
    needs_outliers: bool = False


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The range of inliers' scores, whose lower end is minus infinity unless small scores are anomalous as well."""

    high: float
    low: float = -math.inf

    def is_inlier(self, scores: np.ndarray) -> np.ndarray:
        """Returns which scores [n] are those of inliers, bool [n]."""
        return (self.low <= scores) & (scores <= self.high)


def conformal(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns the inlier score of rank ceil((n + 1)(1 - alpha)) of n.

    Whatever the distribution of scores, if they are exchangeable, another inlier's score is larger with a probability
    of at most alpha, over the sampling of both (Vovk et al. 2005; Lei et al. 2018).
    """
    return float(np.sort(inlier_scores)[_conformal_rank(len(inlier_scores), alpha) - 1])


def percentile(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns the quantile of inlier scores at 1 - alpha, interpolated as by `numpy.quantile`."""
    return float(np.quantile(inlier_scores, 1 - alpha))


def sigma(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns mean + k standard deviations of inlier scores, k being the normal quantile at 1 - alpha."""
    return float(inlier_scores.mean() + stats.norm.isf(alpha) * inlier_scores.std())


def youden(inlier_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float) -> float:
    """Returns the threshold that maximizes true minus false positive rate (Youden 1950)."""
    fpr, tpr, thresholds = metrics.roc_curve(*binary_labels_and_scores(inlier_scores, outlier_scores))
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
    name: str, calibration_scores: np.ndarray, outlier_scores: np.ndarray, alpha: float, two_sided: bool
) -> Threshold:
    """Finds a threshold.

    Args:
      name: A key of `THRESHOLDS`.
      calibration_scores: Scores of inliers that nothing was fitted to, [n].
      outlier_scores: Scores of labeled outliers, [m], for the methods that need them; else empty.
      alpha: Target false positive rate, for the methods that need no outliers.
      two_sided: Whether small scores are anomalous as well; either side then has half of alpha.

    Returns:
      The threshold.

    Raises:
      UserError: As `check_threshold_method`.
    """
    check_threshold_method(name, len(calibration_scores), len(outlier_scores), alpha, two_sided)
    method = get_threshold_method(name)
    if method.needs_outliers or not two_sided:
        return Threshold(method.compute(calibration_scores, outlier_scores, alpha))
    high = method.compute(calibration_scores, outlier_scores, alpha / 2)
    return Threshold(high, -method.compute(-calibration_scores, outlier_scores, alpha / 2))


def check_threshold_method(name: str, num_calibration: int, num_outliers: int, alpha: float, two_sided: bool) -> None:
    """Raises `UserError` for an alpha that so few images can't guarantee, or outliers that are needed but missing."""
    if not get_threshold_method(name).needs_outliers:
        check_alpha(alpha, num_calibration, two_sided)
    elif not num_outliers:
        raise UserError(f"--threshold_method={name} needs labeled outliers; name a set of them in --outlier_datasets")


def min_attainable_alpha(num_calibration: int, two_sided: bool) -> float:
    """Returns the smallest false positive rate that so many calibration images can guarantee."""
    return (2 if two_sided else 1) / (num_calibration + 1)


def choose_alpha(alpha: float | None, method: str, num_calibration: int, two_sided: bool) -> float:
    """Returns alpha or, for None, the default; raises `UserError` for a method without a target false positive rate."""
    if alpha is None:
        return max(DEFAULT_ALPHA, min_attainable_alpha(num_calibration, two_sided))
    if get_threshold_method(method).needs_outliers:
        raise UserError(f"--alpha={alpha} does not apply to --threshold_method={method}, which has no target rate")
    return alpha


def check_rate(name: str, rate: float) -> None:
    """Raises `UserError` for a rate that is not between 0 and 1, which would find nothing or everything.

    Args:
      name: 'alpha' for a false positive rate, 'fdr' for a false discovery rate.
      rate: Its value.
    """
    if not 0 < rate < 1:
        kind = {"alpha": "positive", "fdr": "discovery"}[name]
        raise UserError(f"--{name}={rate} must be between 0 and 1: it is a false {kind} rate")


def check_alpha(alpha: float, num_calibration: int, two_sided: bool) -> None:
    """Raises `UserError` for an alpha that is not a rate, or that so few calibration images can't guarantee."""
    check_rate("alpha", alpha)
    min_alpha = min_attainable_alpha(num_calibration, two_sided)
    if alpha < min_alpha * (1 - 1e-9):
        raise UserError(f"--alpha={alpha}: {num_calibration} calibration images can guarantee {min_alpha:.2g} at least")


def p_values(calibration_scores: np.ndarray, scores: np.ndarray, two_sided: bool) -> np.ndarray:
    """Computes conformal p-values.

    Args:
      calibration_scores: Scores of inliers, [n], in any order.
      scores: Scores of other images, [m].
      two_sided: Whether small scores are anomalous as well.

    Returns:
      (1 + number of calibration scores at least as large) / (n + 1), [m], in 1/(n + 1)..1; two-sided twice the smaller
      one of both sides, at most 1.
    """
    ordered = np.sort(calibration_scores)
    above = (1 + len(ordered) - np.searchsorted(ordered, scores, side="left")) / (len(ordered) + 1)
    if not two_sided:
        return above
    below = (1 + np.searchsorted(ordered, scores, side="right")) / (len(ordered) + 1)
    return np.minimum(1.0, 2 * np.minimum(above, below))


def discoveries(p_values: np.ndarray, rate: float) -> np.ndarray:
    """Finds outliers among many images with an expected false discovery rate of at most `rate`.

    Benjamini and Hochberg's procedure (1995) on conformal p-values (Bates et al. 2021, "Testing for outliers with
    conformal p-values"), which is valid although those share their calibration images. Its condition: calibration
    images and the inliers among these images are independent samples of the same distribution.

    Args:
      p_values: Conformal p-values of all images, [n].
      rate: Maximum expected fraction of false discoveries, between 0 and 1.

    Returns:
      Which images are discoveries, bool [n].

    Raises:
      UserError: The rate is not between 0 and 1.
    """
    check_rate("fdr", rate)
    return stats.false_discovery_control(p_values, method="bh") <= rate if len(p_values) else np.zeros(0, bool)


def fpr_distribution(num_calibration: int, alpha: float, num_inliers: int, two_sided: bool = False) -> stats.rv_frozen:
    """Returns the distribution of the number of false positives of a conformal threshold.

    It is beta-binomial, exactly so for scores without ties: of the n + 1 gaps between n calibration scores, whose
    probabilities are those between uniform samples, a fixed number lies outside (Vovk 2012; Angelopoulos and Bates
    2021).

    Args:
      num_calibration: Number of calibration images.
      alpha: Target false positive rate.
      num_inliers: Number of other inliers.
      two_sided: As in `fit_threshold`.
    """
    sides = 2 if two_sided else 1
    gaps_outside = sides * (num_calibration + 1 - _conformal_rank(num_calibration, alpha / sides))
    return stats.betabinom(num_inliers, gaps_outside, num_calibration + 1 - gaps_outside)


def clopper_pearson_interval(count: int, total: int) -> tuple[float, float]:
    """Returns the exact 95% confidence interval of a rate (Clopper and Pearson 1934) of which `count` were counted."""
    interval = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def binary_labels_and_scores(inlier_scores: np.ndarray, outlier_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels (1 for outliers) and scores, [n + m] both, as scikit-learn's metrics take them."""
    labels = np.repeat([0, 1], [len(inlier_scores), len(outlier_scores)])
    return labels, np.concatenate([inlier_scores, outlier_scores])


def _conformal_rank(count: int, alpha: float) -> int:
    # 5000 * 0.99 is a little more than 4950 in floating point, whose ceiling would be one too many.
    return math.ceil((count + 1) * (1 - alpha) - 1e-9)
