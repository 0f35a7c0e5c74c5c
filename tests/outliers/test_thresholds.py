import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from cae.errors import UserError
from cae.outliers import thresholds
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
    assert thresholds.min_attainable_alpha(99, two_sided) == pytest.approx(min_alpha)
    with pytest.raises(UserError, match=rf"--alpha=.*99 calibration images can guarantee {min_alpha:.2g} at least"):
        fit(name, np.arange(1, 100), alpha=0.99 * min_alpha, two_sided=two_sided)
    threshold = fit(name, np.arange(1, 100), alpha=min_alpha, two_sided=two_sided)
    if name == "conformal":
        assert threshold == Threshold(99, 1 if two_sided else -math.inf)


def test_min_attainable_alpha_is_accepted_for_every_number_of_images():
    for count in range(2, 800):
        for two_sided in (False, True):
            alpha = thresholds.min_attainable_alpha(count, two_sided)
            thresholds.check_alpha(alpha, count, two_sided)
            # One gap lies outside on each side.
            assert thresholds.fpr_distribution(count, alpha, 10, two_sided).args[1] == (2 if two_sided else 1)


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


@pytest.mark.parametrize("name", ["youden", "f1"])
def test_missing_outliers_are_refused(name):
    with pytest.raises(UserError, match=rf"--threshold_method={name} needs labeled outliers.*--outlier_datasets"):
        fit(name, np.arange(99))


def test_unknown_method_is_refused_with_the_closest_name():
    for call in (lambda: thresholds.get_threshold_method("conforml"), lambda: fit("conforml", np.arange(99))):
        with pytest.raises(UserError, match=r"unknown --threshold_method 'conforml'.*did you mean 'conformal'"):
            call()


# --- p-values -------------------------------------------------------------------------------------------------------


def test_p_values_count_calibration_scores_at_least_as_large():
    calibration = np.array([3.0, 1, 2, 2])
    # For 0 all four are, and so on; ties count.
    p_values = thresholds.p_values(calibration, np.array([0, 1, 1.5, 2, 2.5, 3, 9]), two_sided=False)
    np.testing.assert_allclose(p_values, np.array([5, 5, 4, 4, 2, 2, 1]) / 5)


def test_two_sided_p_values_are_twice_those_of_the_smaller_side():
    calibration = np.array([1.0, 2, 2, 3])
    # As large: 5 5 4 2 2 1, as small: 1 2 4 4 5 5, of 5; twice 4/5 is no probability.
    p_values = thresholds.p_values(calibration, np.array([0, 1, 2, 2.5, 3, 9]), two_sided=True)
    np.testing.assert_allclose(p_values, [2 / 5, 4 / 5, 1, 4 / 5, 4 / 5, 2 / 5])


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("count", [20, 49, 99, 999])
@pytest.mark.parametrize("decimals", [1, 9])
def test_inliers_are_the_images_with_p_values_above_alpha(random, two_sided, count, decimals):
    calibration, scores = (random.normal(size=size).round(decimals) for size in (count, 400))
    scores = np.concatenate([scores, calibration])
    p_values = thresholds.p_values(calibration, scores, two_sided)
    # Alphas that a p-value can equal, and others between.
    alphas = [step / (count + 1) for step in range(2 if two_sided else 1, 19)] + [0.1 + 1 / 7, 0.5, 0.77, 0.9]
    for alpha in alphas:
        is_inlier = fit("conformal", calibration, alpha=alpha, two_sided=two_sided).is_inlier(scores)
        np.testing.assert_array_equal(is_inlier, p_values > alpha, err_msg=str(alpha))


# --- Guarantees -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count, alpha, two_sided, gaps_outside",
    # n + 1 gaps between scores: a fraction alpha of them, rounded down on each side.
    [(99, 0.1, False, 10), (99, 0.1, True, 10), (99, 0.055, False, 5), (99, 0.055, True, 4), (4999, 0.01, False, 50)],
)
def test_expected_fpr_is_the_fraction_of_gaps_outside(count, alpha, two_sided, gaps_outside):
    distribution = thresholds.fpr_distribution(count, alpha, 1000, two_sided)
    assert distribution.mean() == pytest.approx(1000 * gaps_outside / (count + 1))
    assert distribution.mean() <= 1000 * alpha * (1 + 1e-9)


def test_single_image_is_a_false_positive_with_probability_alpha():
    assert thresholds.fpr_distribution(99, 0.1, 1).pmf(1) == pytest.approx(0.1)


@pytest.mark.parametrize("two_sided", [False, True])
def test_false_positives_of_random_halves_follow_their_distribution(random, two_sided):
    scores = random.gamma(2, size=398)
    distribution = thresholds.fpr_distribution(199, 0.05, 199, two_sided)
    low, high = distribution.interval(0.99)
    false_positives = []
    for _ in range(1000):
        random.shuffle(scores)
        threshold = fit("conformal", scores[:199], alpha=0.05, two_sided=two_sided)
        false_positives.append((~threshold.is_inlier(scores[199:])).sum())
    false_positives = np.array(false_positives)
    assert ((low <= false_positives) & (false_positives <= high)).mean() >= 0.98
    # 10 of 200 gaps are outside; the standard error of the mean of 1000 samples is a thirtieth of the deviation.
    assert distribution.mean() == pytest.approx(199 * 0.05)
    assert false_positives.mean() == pytest.approx(distribution.mean(), abs=4 * distribution.std() / math.sqrt(1000))
    assert false_positives.std() == pytest.approx(distribution.std(), rel=0.1)


def test_discoveries_are_those_of_benjamini_and_hochberg():
    # Sorted 0.01 0.02 0.03 0.05 0.5 against 0.02 0.04 0.06 0.08 0.1: the fourth is the last below.
    p_values = np.array([0.5, 0.03, 0.01, 0.05, 0.02])
    assert thresholds.discoveries(p_values, 0.1).tolist() == [False, True, True, True, True]
    # 0.05 is above its 0.04, but a discovery since 0.06 is below 0.08.
    assert thresholds.discoveries(np.array([0.06, 0.05]), 0.08).tolist() == [True, True]
    assert thresholds.discoveries(np.array([0.06, 0.05]), 0.055).tolist() == [False, False]


@pytest.mark.parametrize("rate", [0, 1, -1, 2, float("nan")])
def test_a_rate_that_is_not_between_0_and_1_is_refused(rate):
    with pytest.raises(UserError, match=f"--fdr={rate} must be between 0 and 1: it is a false discovery rate"):
        thresholds.discoveries(np.array([0.5]), rate)
    with pytest.raises(UserError, match=f"--alpha={rate} must be between 0 and 1: it is a false positive rate"):
        thresholds.check_alpha(rate, num_calibration=99, two_sided=False)


def test_no_images_have_no_discoveries():
    discoveries = thresholds.discoveries(NO_SCORES, 0.1)
    assert discoveries.shape == (0,) and discoveries.dtype == bool


def test_false_discovery_rate_is_at_most_the_target(random):
    fdp, tpr = [], []
    for _ in range(600):
        calibration = random.normal(size=200)
        scores = np.concatenate([random.normal(size=50), random.normal(4, size=50)])
        found = thresholds.discoveries(thresholds.p_values(calibration, scores, two_sided=False), 0.1)
        fdp.append(found[:50].sum() / max(found.sum(), 1))
        tpr.append(found[50:].mean())
    # Half of the images are inliers, so half of the target is expected.
    assert 0.03 < np.mean(fdp) <= 0.1 and np.mean(tpr) > 0.8


def test_clopper_pearson_interval_has_exact_tails():
    for count, total in [(0, 50), (3, 50), (25, 50), (50, 50), (100, 10_000)]:
        low, high = thresholds.clopper_pearson_interval(count, total)
        assert 0 <= low <= count / total <= high <= 1
    # At this rate, 0 of 50 have a probability of 2.5%.
    assert thresholds.clopper_pearson_interval(0, 50) == (0, pytest.approx(1 - 0.025 ** (1 / 50)))
    low, high = thresholds.clopper_pearson_interval(3, 50)
    assert stats.binom.sf(2, 50, low) == pytest.approx(0.025) == stats.binom.cdf(3, 50, high)
