import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from cae.errors import UserError
from cae.outliers import conformal, thresholds
from cae.outliers.thresholds import Threshold

NO_SCORES = np.zeros(0)


def fit(name, inliers, outliers=NO_SCORES, alpha=0.1, two_sided=False):
    return thresholds.fit_threshold(name, np.asarray(inliers, float), np.asarray(outliers, float), alpha, two_sided)


# --- Methods with a target false positive rate ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "count, alpha, rank",
    [
        # ceil((n + 1)(1 - alpha)): 100 * 0.9, 10 * 0.85, 10 * 0.9, 2 * 0.5.
        (99, 0.1, 90),
        (9, 0.15, 9),
        (9, 0.1, 9),
        (1, 0.5, 1),
        # 5000 * 0.99 is a little more than 4950 in floating point.
        (4999, 0.01, 4950),
        (999, 0.001, 999),
    ],
)
def test_conformal_threshold_is_the_score_of_the_conformal_rank(random, count, alpha, rank):
    assert fit("conformal", random.permutation(np.arange(1, count + 1)), alpha=alpha) == Threshold(rank)


def test_each_side_of_a_two_sided_threshold_has_half_of_alpha():
    # Of 1..99 at 0.05 a side, the 95th and the 5th are still inliers.
    assert fit("conformal", np.arange(1, 100), two_sided=True) == Threshold(95, 5)
    assert Threshold(95, 5).is_inlier(np.array([4.9, 5, 50, 95, 95.1])).tolist() == [False, True, True, True, False]


def test_percentile_and_sigma_thresholds_match_numpy_and_scipy(random):
    inliers = random.gamma(2, size=500)
    threshold = fit("percentile", inliers, alpha=0.05, two_sided=True)
    np.testing.assert_allclose([threshold.low, threshold.high], np.percentile(inliers, [2.5, 97.5]))
    assert fit("percentile", inliers, alpha=0.05).high == pytest.approx(np.percentile(inliers, 95))
    threshold = fit("sigma", inliers, alpha=0.05, two_sided=True)
    np.testing.assert_allclose(
        [threshold.low, threshold.high], stats.norm(inliers.mean(), inliers.std()).interval(0.95)
    )
    assert fit("sigma", inliers, alpha=0.05).high == pytest.approx(stats.norm(*stats.norm.fit(inliers)).ppf(0.95))


@pytest.mark.parametrize("name", ["conformal", "percentile", "sigma"])
def test_one_sided_threshold_has_no_lower_end(random, name):
    assert fit(name, random.random(99)).low == -math.inf


@pytest.mark.parametrize("two_sided, min_alpha", [(False, 1 / 100), (True, 2 / 100)])
@pytest.mark.parametrize("name", ["conformal", "percentile", "sigma"])
def test_alpha_that_calibration_images_cannot_guarantee_is_refused(name, two_sided, min_alpha):
    assert conformal.min_attainable_alpha(99, two_sided) == pytest.approx(min_alpha)
    with pytest.raises(UserError, match=rf"--alpha=.*99 calibration images can guarantee {min_alpha:.2g} at least"):
        fit(name, np.arange(1, 100), alpha=0.99 * min_alpha, two_sided=two_sided)
    threshold = fit(name, np.arange(1, 100), alpha=min_alpha, two_sided=two_sided)
    if name == "conformal":
        assert threshold == Threshold(99, 1 if two_sided else -math.inf)


@pytest.mark.parametrize("alpha", [0, 1, 1.5, -0.1, math.nan])
def test_alpha_that_is_not_a_rate_is_refused(alpha):
    with pytest.raises(UserError, match=r"--alpha=.* must be between 0 and 1"):
        fit("conformal", np.arange(99), alpha=alpha)


# --- Methods that need labeled outliers -----------------------------------------------------------------------------


def count_positives(inliers, outliers):
    """Returns the numbers of false and true positives at every threshold."""
    values = [*np.unique(np.concatenate([inliers, outliers])), math.inf]
    return [((inliers >= value).sum(), (outliers >= value).sum()) for value in values]


def youden(fp, tp, num_inliers, num_outliers):
    return tp / num_outliers - fp / num_inliers


def f1(fp, tp, num_inliers, num_outliers):
    # 2 TP / (2 TP + FP + FN)
    return 2 * tp / (tp + fp + num_outliers)


@pytest.mark.parametrize("name, measure", [("youden", youden), ("f1", f1)])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 9])
def test_threshold_maximizes_the_measure(name, measure, seed, decimals):
    random = np.random.default_rng(seed)
    # With one decimal, there are many ties.
    inliers, outliers = random.normal(size=80).round(decimals), random.normal(1, 2, size=30).round(decimals)
    threshold = fit(name, inliers, outliers)
    assert threshold.low == -math.inf
    fp, tp = (~threshold.is_inlier(inliers)).sum(), (~threshold.is_inlier(outliers)).sum()
    best = max(measure(*counts, 80, 30) for counts in count_positives(inliers, outliers))
    assert measure(fp, tp, 80, 30) == pytest.approx(best)
    if name == "f1":
        labels, scores = thresholds.binary_labels_and_scores(inliers, outliers)
        assert metrics.f1_score(labels, ~threshold.is_inlier(scores)) == pytest.approx(best)


@pytest.mark.parametrize("name", ["youden", "f1"])
def test_separable_scores_are_separated(name):
    threshold = fit(name, [1, 2, 3], [4, 5])
    assert threshold.is_inlier(np.array([1, 2, 3, 4, 5])).tolist() == [True] * 3 + [False] * 2


def test_outliers_that_score_below_all_inliers_have_no_threshold():
    with pytest.raises(UserError, match="--threshold_method=youden finds no threshold: the outliers have no larger"):
        fit("youden", [4, 5, 6], [1, 2, 3])
    assert fit("youden", [4, 5, 6], [1, 2, 7]).is_inlier(np.array([6, 7])).tolist() == [True, False]


@pytest.mark.parametrize("name", ["youden", "f1"])
def test_missing_outliers_are_refused(name):
    with pytest.raises(UserError, match=rf"--threshold_method={name} needs labeled outliers.*--outlier_datasets"):
        fit(name, np.arange(99))


def test_unknown_method_is_refused_with_the_closest_name():
    for call in (lambda: thresholds.get_threshold_method("conforml"), lambda: fit("conforml", np.arange(99))):
        with pytest.raises(UserError, match=r"unknown --threshold_method 'conforml'.*did you mean 'conformal'"):
            call()
