"""What calibration scores guarantee: ranks, p-values, discoveries, and the distribution of the false positive rate."""

from __future__ import annotations

import math

import numpy as np
from etils import epy

from cae.errors import UserError
from cae.outliers.calibration_classes import CalibrationClasses

# It takes a second to import.
with epy.lazy_imports():
    from scipy import stats


def conformal_rank(count: int, alpha: float) -> int:
    """Returns the rank among so many calibration scores that a score exceeds with a probability of at most alpha."""
    # 5000 * 0.99 is a little more than 4950 in floating point, whose ceiling would be one too many.
    return math.ceil((count + 1) * (1 - alpha) - 1e-9)


def min_attainable_alpha(num_calibration: int, two_sided: bool) -> float:
    """Returns the smallest false positive rate that so many calibration images can guarantee."""
    return (2 if two_sided else 1) / (num_calibration + 1)


def check_rate(name: str, rate: float) -> None:
    """Raises `UserError` for a rate that is not between 0 and 1, which would find nothing or everything.

    Args:
      name: 'alpha' for a false positive rate, 'fdr' for a false discovery rate.
      rate: Its value.
    """
    if not 0 < rate < 1:
        kind = {"alpha": "positive", "fdr": "discovery"}[name]
        raise UserError(f"--{name}={rate} must be between 0 and 1: it is a false {kind} rate")


def check_alpha(alpha: float, num_calibration: int, two_sided: bool, class_name: str = "") -> None:
    """Raises `UserError` for an alpha that is not a rate, or that so few calibration images can't guarantee.

    Args:
      alpha: The false positive rate.
      num_calibration: Number of calibration images.
      two_sided: As in `p_values`.
      class_name: Their class; '' for all classes.
    """
    check_rate("alpha", alpha)
    least, group = min_attainable_alpha(num_calibration, two_sided), f" of class '{class_name}'" if class_name else ""
    if alpha < least * (1 - 1e-9):
        images = f"{num_calibration} calibration images{group}"
        raise UserError(f"--alpha={alpha}: {images} can guarantee {least:.2g} at least")


def p_values(
    calibration_scores: np.ndarray,
    scores: np.ndarray,
    two_sided: bool,
    classes: CalibrationClasses | None = None,
    positions: np.ndarray | None = None,
) -> np.ndarray:
    """Computes conformal p-values.

    Args:
      calibration_scores: Scores of inliers, [n], in any order.
      scores: Scores of other images, [m].
      two_sided: Whether small scores are anomalous as well.
      classes: The classes of the calibration scores, for p-values of each class.
      positions: The class of each image, a position in `classes.names`, int [m]; None if they are unknown.

    Returns:
      (1 + number of calibration scores at least as large) / (n + 1), [m], in 1/(n + 1)..1; two-sided twice the smaller
      one of both sides, at most 1. With classes, each side is that of the image's class, or else the largest of all
      classes: the image is like those of some class.
    """
    groups = [calibration_scores] if classes is None else classes.split(calibration_scores)

    def side(sign: int) -> np.ndarray:
        each = np.stack([_tail_probabilities(np.sort(sign * group), sign * scores) for group in groups])
        return each.max(axis=0) if positions is None else np.take_along_axis(each, positions[None], axis=0)[0]

    return np.minimum(1.0, 2 * np.minimum(side(1), side(-1))) if two_sided else side(1)


def _tail_probabilities(ordered: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Returns (1 + number of ordered scores at least as large) / (n + 1), of scores [m]."""
    return (1 + len(ordered) - np.searchsorted(ordered, scores, side="left")) / (len(ordered) + 1)


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
      two_sided: As in `p_values`.
    """
    sides = 2 if two_sided else 1
    gaps_outside = sides * (num_calibration + 1 - conformal_rank(num_calibration, alpha / sides))
    return stats.betabinom(num_inliers, gaps_outside, num_calibration + 1 - gaps_outside)


def clopper_pearson_interval(count: int, total: int) -> tuple[float, float]:
    """Returns the exact 95% confidence interval of a rate (Clopper and Pearson 1934) of which `count` were counted."""
    interval = stats.binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)
