import math

import numpy as np
import pytest
from scipy import stats

from cae.errors import UserError
from cae.outliers import conformal, thresholds

NO_SCORES = np.zeros(0)


def fit(calibration, alpha, two_sided=False):
    return thresholds.fit_threshold("conformal", calibration, NO_SCORES, alpha, two_sided)


# --- p-values -------------------------------------------------------------------------------------------------------


def test_p_values_count_calibration_scores_at_least_as_large():
    calibration = np.array([3.0, 1, 2, 2])
    # For 0 all four are, and so on; ties count.
    p_values = conformal.p_values(calibration, np.array([0, 1, 1.5, 2, 2.5, 3, 9]), two_sided=False)
    np.testing.assert_allclose(p_values, np.array([5, 5, 4, 4, 2, 2, 1]) / 5)


def test_two_sided_p_values_are_twice_those_of_the_smaller_side():
    calibration = np.array([1.0, 2, 2, 3])
    # As large: 5 5 4 2 2 1, as small: 1 2 4 4 5 5, of 5; twice 4/5 is no probability.
    p_values = conformal.p_values(calibration, np.array([0, 1, 2, 2.5, 3, 9]), two_sided=True)
    np.testing.assert_allclose(p_values, [2 / 5, 4 / 5, 1, 4 / 5, 4 / 5, 2 / 5])


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("count", [20, 49, 99, 999])
@pytest.mark.parametrize("decimals", [1, 9])
def test_inliers_are_the_images_with_p_values_above_alpha(random, two_sided, count, decimals):
    calibration, scores = (random.normal(size=size).round(decimals) for size in (count, 400))
    scores = np.concatenate([scores, calibration])
    p_values = conformal.p_values(calibration, scores, two_sided)
    # Alphas that a p-value can equal, and others between.
    alphas = [step / (count + 1) for step in range(2 if two_sided else 1, 19)] + [0.1 + 1 / 7, 0.5, 0.77, 0.9]
    for alpha in alphas:
        is_inlier = fit(calibration, alpha=alpha, two_sided=two_sided).is_inlier(scores)
        np.testing.assert_array_equal(is_inlier, p_values > alpha, err_msg=str(alpha))


# --- Guarantees -----------------------------------------------------------------------------------------------------


def test_min_attainable_alpha_is_accepted_for_every_number_of_images():
    for count in range(2, 800):
        for two_sided in (False, True):
            alpha = conformal.min_attainable_alpha(count, two_sided)
            conformal.check_alpha(alpha, count, two_sided)
            # One gap lies outside on each side.
            assert conformal.fpr_distribution(count, alpha, 10, two_sided).args[1] == (2 if two_sided else 1)


@pytest.mark.parametrize(
    "count, alpha, two_sided, gaps_outside",
    # n + 1 gaps between scores: a fraction alpha of them, rounded down on each side.
    [(99, 0.1, False, 10), (99, 0.1, True, 10), (99, 0.055, False, 5), (99, 0.055, True, 4), (4999, 0.01, False, 50)],
)
def test_expected_fpr_is_the_fraction_of_gaps_outside(count, alpha, two_sided, gaps_outside):
    distribution = conformal.fpr_distribution(count, alpha, 1000, two_sided)
    assert distribution.mean() == pytest.approx(1000 * gaps_outside / (count + 1))
    assert distribution.mean() <= 1000 * alpha * (1 + 1e-9)


def test_single_image_is_a_false_positive_with_probability_alpha():
    assert conformal.fpr_distribution(99, 0.1, 1).pmf(1) == pytest.approx(0.1)


@pytest.mark.parametrize("two_sided", [False, True])
def test_false_positives_of_random_halves_follow_their_distribution(random, two_sided):
    scores = random.gamma(2, size=398)
    distribution = conformal.fpr_distribution(199, 0.05, 199, two_sided)
    low, high = distribution.interval(0.99)
    false_positives = []
    for _ in range(1000):
        random.shuffle(scores)
        threshold = fit(scores[:199], alpha=0.05, two_sided=two_sided)
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
    assert conformal.discoveries(p_values, 0.1).tolist() == [False, True, True, True, True]
    # 0.05 is above its 0.04, but a discovery since 0.06 is below 0.08.
    assert conformal.discoveries(np.array([0.06, 0.05]), 0.08).tolist() == [True, True]
    assert conformal.discoveries(np.array([0.06, 0.05]), 0.055).tolist() == [False, False]


@pytest.mark.parametrize("rate", [0, 1, -1, 2, float("nan")])
def test_a_rate_that_is_not_between_0_and_1_is_refused(rate):
    with pytest.raises(UserError, match=f"--fdr={rate} must be between 0 and 1: it is a false discovery rate"):
        conformal.discoveries(np.array([0.5]), rate)
    with pytest.raises(UserError, match=f"--alpha={rate} must be between 0 and 1: it is a false positive rate"):
        conformal.check_alpha(rate, num_calibration=99, two_sided=False)


def test_no_images_have_no_discoveries():
    discoveries = conformal.discoveries(NO_SCORES, 0.1)
    assert discoveries.shape == (0,) and discoveries.dtype == bool


def test_false_discovery_rate_is_at_most_the_target(random):
    fdp, tpr = [], []
    for _ in range(600):
        calibration = random.normal(size=200)
        scores = np.concatenate([random.normal(size=50), random.normal(4, size=50)])
        found = conformal.discoveries(conformal.p_values(calibration, scores, two_sided=False), 0.1)
        fdp.append(found[:50].sum() / max(found.sum(), 1))
        tpr.append(found[50:].mean())
    # Half of the images are inliers, so half of the target is expected.
    assert 0.03 < np.mean(fdp) <= 0.1 and np.mean(tpr) > 0.8


def test_clopper_pearson_interval_has_exact_tails():
    for count, total in [(0, 50), (3, 50), (25, 50), (50, 50), (100, 10_000)]:
        low, high = conformal.clopper_pearson_interval(count, total)
        assert 0 <= low <= count / total <= high <= 1
    # At this rate, 0 of 50 have a probability of 2.5%.
    assert conformal.clopper_pearson_interval(0, 50) == (0, pytest.approx(1 - 0.025 ** (1 / 50)))
    low, high = conformal.clopper_pearson_interval(3, 50)
    assert stats.binom.sf(2, 50, low) == pytest.approx(0.025) == stats.binom.cdf(3, 50, high)
