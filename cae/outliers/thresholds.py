"""Where an outlier begins: rules that find a threshold, and what a threshold promises. Scores are [n], larger is odder.

To add one, write a function of (normal scores, outliers' scores, alpha) to the largest score that still belongs, and
name it in `THRESHOLDS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from etils import epy

from cae.errors import UserError, unknown_name

# Both take a second to import; names are looked up before they are needed.
with epy.lazy_imports():
    from scipy import stats
    from sklearn import metrics

DEFAULT_ALPHA = 0.01


@dataclasses.dataclass(frozen=True)
class Rule:
    """A way to find a threshold. `searches`: by labelled outliers, at no certain rate of false alarms."""

    find: Callable[[np.ndarray, np.ndarray, float], float]
    searches: bool = False


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The scores that belong: from `low`, minus infinity unless a score can be suspiciously small, up to `high`."""

    high: float
    low: float = -math.inf

    def belongs(self, scores: np.ndarray) -> np.ndarray:
        """Returns which scores [n] belong: True means that it does."""
        return (self.low <= scores) & (scores <= self.high)


def conformal(normal: np.ndarray, outliers: np.ndarray, alpha: float) -> float:
    """Returns the score of rank ceil((n + 1)(1 - alpha)) among n normal ones.

    Whatever the scores' law, a further normal image lies above with a probability of at most alpha, over the drawing of
    both (Vovk et al. 2005; Lei et al. 2018), if they are exchangeable.
    """
    return float(np.sort(normal)[_rank(len(normal), alpha) - 1])


def percentile(normal: np.ndarray, outliers: np.ndarray, alpha: float) -> float:
    """Returns the normal scores' quantile at 1 - alpha, as `numpy.quantile` interpolates it."""
    return float(np.quantile(normal, 1 - alpha))


def sigma(normal: np.ndarray, outliers: np.ndarray, alpha: float) -> float:
    """Returns mean + k standard deviations of normal scores, k being the normal law's quantile at 1 - alpha."""
    return float(normal.mean() + stats.norm.isf(alpha) * normal.std())


def youden(normal: np.ndarray, outliers: np.ndarray, alpha: float) -> float:
    """Returns where detection rate minus false-alarm rate is largest (Youden 1950)."""
    false_alarms, detections, thresholds = metrics.roc_curve(*_labelled(normal, outliers))
    # An image is an alarm from the threshold on; what belongs is just below.
    return float(np.nextafter(thresholds[np.argmax(detections - false_alarms)], -math.inf))


def f1(normal: np.ndarray, outliers: np.ndarray, alpha: float) -> float:
    """Returns where the harmonic mean of precision and detection rate is largest, at the numbers of both given."""
    precision, recall, thresholds = metrics.precision_recall_curve(*_labelled(normal, outliers))
    harmonic = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(np.nextafter(thresholds[np.argmax(harmonic[:-1])], -math.inf))


THRESHOLDS = {
    "conformal": Rule(conformal),
    "percentile": Rule(percentile),
    "sigma": Rule(sigma),
    "youden": Rule(youden, searches=True),
    "f1": Rule(f1, searches=True),
}
"""What `--threshold` can name; the first is the default."""


def find(name: str) -> Rule:
    """Returns the rule of that name; raises `UserError` for another."""
    if name not in THRESHOLDS:
        raise unknown_name("--threshold", name, THRESHOLDS)
    return THRESHOLDS[name]


def search(name: str, normal: np.ndarray, outliers: np.ndarray, alpha: float, two_sided: bool) -> Threshold:
    """Returns the threshold by a rule, from calibration scores [n] and, for some rules, labelled outliers' [m].

    two_sided: small scores are odd as well; each side then has half of alpha. Raises `UserError` for an alpha that so
    few scores cannot promise, and for a rule that needs outliers where there are none.
    """
    check(name, len(normal), len(outliers), alpha, two_sided)
    rule = find(name)
    if rule.searches:
        return Threshold(rule.find(normal, outliers, alpha))
    if two_sided:
        return Threshold(rule.find(normal, outliers, alpha / 2), -rule.find(-normal, outliers, alpha / 2))
    return Threshold(rule.find(normal, outliers, alpha))


def check(name: str, normal: int, outliers: int, alpha: float, two_sided: bool) -> None:
    """Raises `UserError` where `search` would, by the numbers of normal scores and outliers' alone."""
    if not find(name).searches:
        check_alpha(alpha, normal, two_sided)
    elif not outliers:
        raise UserError(f"--threshold={name} needs labelled outliers; name a set of them in --outlier_datasets")


def least_alpha(count: int, two_sided: bool) -> float:
    """Returns the smallest rate of false alarms that so many calibration images can promise."""
    return (2 if two_sided else 1) / (count + 1)


def check_alpha(alpha: float, count: int, two_sided: bool) -> None:
    """Raises `UserError` for an alpha that is no rate, or that so many calibration images cannot promise."""
    if not 0 < alpha < 1:
        raise UserError(f"--alpha={alpha} must lie between 0 and 1: it is a rate of false alarms")
    least = least_alpha(count, two_sided)
    if alpha < least * (1 - 1e-9):
        raise UserError(f"--alpha={alpha}: {count} calibration images can promise no less than {least:.2g}")


def p_values(normal: np.ndarray, scores: np.ndarray, two_sided: bool) -> np.ndarray:
    """Returns conformal p-values [m]: (1 + normal scores at least as large) / (n + 1), in 1/(n + 1)..1.

    Two-sided it is twice the smaller one of both sides', at most 1.
    """
    ordered = np.sort(normal)
    above = (1 + len(ordered) - np.searchsorted(ordered, scores, side="left")) / (len(ordered) + 1)
    if not two_sided:
        return above
    below = (1 + np.searchsorted(ordered, scores, side="right")) / (len(ordered) + 1)
    return np.minimum(1.0, 2 * np.minimum(above, below))


def alarms(p_values: np.ndarray, rate: float) -> np.ndarray:
    """Returns which of many images are outliers, bool [n], so that at most `rate` of the alarms are false on average.

    Benjamini and Hochberg's procedure (1995) on conformal p-values (Bates et al. 2021, "Testing for outliers with
    conformal p-values"), which holds although those share their calibration images. Its condition: calibration images
    and the normal ones among these are drawn alike and independently.
    """
    return stats.false_discovery_control(p_values, method="bh") <= rate if len(p_values) else np.zeros(0, bool)


def false_alarm_law(count: int, alpha: float, images: int, two_sided: bool = False) -> stats.rv_frozen:
    """Returns the law of the number of false alarms among so many normal images, for `count` calibration images.

    It is beta-binomial, exactly so for scores without ties: of the count + 1 gaps between calibration scores, whose
    probabilities are those of a uniform law's, so many lie outside (Vovk 2012; Angelopoulos and Bates 2021).
    """
    sides = 2 if two_sided else 1
    outside = sides * (count + 1 - _rank(count, alpha / sides))
    return stats.betabinom(images, outside, count + 1 - outside)


def interval(alarms: int, images: int) -> tuple[float, float]:
    """Returns the 95% confidence interval of a rate by its count (Clopper and Pearson 1934)."""
    found = stats.binomtest(alarms, images).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _rank(count: int, alpha: float) -> int:
    # 5000 * 0.99 is a little more than 4950 in floating point, whose ceiling would be one too many.
    return math.ceil((count + 1) * (1 - alpha) - 1e-9)


def _labelled(normal: np.ndarray, outliers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0, 1], [len(normal), len(outliers)]), np.concatenate([normal, outliers])
