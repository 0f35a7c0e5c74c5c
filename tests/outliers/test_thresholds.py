import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from cae.errors import UserError
from cae.outliers import thresholds
from cae.outliers.thresholds import Threshold

NONE = np.zeros(0)


def search(name, normal, outliers=NONE, alpha=0.1, two_sided=False):
    return thresholds.search(name, np.asarray(normal, float), np.asarray(outliers, float), alpha, two_sided)


# --- Rules that promise a rate ---------------------------------------------------------------------------------------


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
def test_the_conformal_threshold_is_the_score_of_that_rank(random, count, alpha, rank):
    assert search("conformal", random.permutation(np.arange(1, count + 1)), alpha=alpha) == Threshold(rank)


def test_two_sided_each_side_has_half_of_alpha():
    # Of 1..99 at 0.05 a side, the 95th and the 5th still belong.
    assert search("conformal", np.arange(1, 100), two_sided=True) == Threshold(95, 5)
    assert Threshold(95, 5).belongs(np.array([4.9, 5, 50, 95, 95.1])).tolist() == [False, True, True, True, False]


def test_the_percentile_and_sigma_thresholds_are_those_of_numpy_and_scipy(random):
    normal = random.gamma(2, size=500)
    found = search("percentile", normal, alpha=0.05, two_sided=True)
    np.testing.assert_allclose([found.low, found.high], np.percentile(normal, [2.5, 97.5]))
    assert search("percentile", normal, alpha=0.05).high == pytest.approx(np.percentile(normal, 95))
    found = search("sigma", normal, alpha=0.05, two_sided=True)
    np.testing.assert_allclose([found.low, found.high], stats.norm(normal.mean(), normal.std()).interval(0.95))
    assert search("sigma", normal, alpha=0.05).high == pytest.approx(stats.norm(*stats.norm.fit(normal)).ppf(0.95))


@pytest.mark.parametrize("name", ["conformal", "percentile", "sigma"])
def test_one_sided_no_score_is_too_small(random, name):
    assert search(name, random.random(99)).low == -math.inf


@pytest.mark.parametrize("two_sided, least", [(False, 1 / 100), (True, 2 / 100)])
@pytest.mark.parametrize("name", ["conformal", "percentile", "sigma"])
def test_no_less_is_promised_than_so_few_images_can(name, two_sided, least):
    assert thresholds.least_alpha(99, two_sided) == pytest.approx(least)
    with pytest.raises(UserError, match=rf"--alpha=.*99 calibration images can promise.* {least:.2g}"):
        search(name, np.arange(1, 100), alpha=0.99 * least, two_sided=two_sided)
    found = search(name, np.arange(1, 100), alpha=least, two_sided=two_sided)
    if name == "conformal":
        assert found == Threshold(99, 1 if two_sided else -math.inf)


def test_the_least_alpha_is_accepted_for_every_number_of_images():
    for count in range(2, 800):
        for two_sided in (False, True):
            thresholds.check_alpha(thresholds.least_alpha(count, two_sided), count, two_sided)
            law = thresholds.false_alarm_law(count, thresholds.least_alpha(count, two_sided), 10, two_sided)
            # One gap lies outside on each side.
            assert law.args[1] == (2 if two_sided else 1)


@pytest.mark.parametrize("alpha", [0, 1, 1.5, -0.1, math.nan])
def test_an_alpha_that_is_no_rate_is_refused(alpha):
    with pytest.raises(UserError, match=r"--alpha=.* must lie between 0 and 1"):
        search("conformal", np.arange(99), alpha=alpha)


# --- Rules that search by labelled outliers --------------------------------------------------------------------------


def cuts(normal, outliers):
    """Returns false alarms and detections, as counts, of every way to cut the scores in two."""
    places = np.unique(np.concatenate([normal, outliers]))
    return [((normal >= place).sum(), (outliers >= place).sum()) for place in [*places, math.inf]]


def youden(false, found, normal, outliers):
    return found / outliers - false / normal


def harmonic(false, found, normal, outliers):
    # 2 TP / (2 TP + FP + FN)
    return 2 * found / (found + false + outliers)


@pytest.mark.parametrize("name, value", [("youden", youden), ("f1", harmonic)])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 9])
def test_the_search_finds_the_best_of_all_cuts(name, value, seed, decimals):
    random = np.random.default_rng(seed)
    # Of one decimal, many scores are the same.
    normal, outliers = random.normal(size=80).round(decimals), random.normal(1, 2, size=30).round(decimals)
    found = search(name, normal, outliers)
    assert found.low == -math.inf
    false, detected = (~found.belongs(normal)).sum(), (~found.belongs(outliers)).sum()
    best = max(value(*cut, 80, 30) for cut in cuts(normal, outliers))
    assert value(false, detected, 80, 30) == pytest.approx(best)
    if name == "f1":
        truth = np.repeat([0, 1], [80, 30])
        called = ~found.belongs(np.concatenate([normal, outliers]))
        assert metrics.f1_score(truth, called) == pytest.approx(best)


@pytest.mark.parametrize("name", ["youden", "f1"])
def test_what_is_wholly_apart_is_told_apart(name):
    found = search(name, [1, 2, 3], [4, 5])
    assert found.belongs(np.array([1, 2, 3, 4, 5])).tolist() == [True] * 3 + [False] * 2


@pytest.mark.parametrize("name", ["youden", "f1"])
def test_a_search_without_outliers_says_where_to_name_them(name):
    with pytest.raises(UserError, match=rf"--threshold={name} needs labelled outliers.*--outlier_datasets"):
        search(name, np.arange(99))


def test_an_unknown_rule_names_the_nearest():
    for ask in (lambda: thresholds.find("conforml"), lambda: search("conforml", np.arange(99))):
        with pytest.raises(UserError, match=r"unknown --threshold 'conforml'.*did you mean 'conformal'"):
            ask()


# --- p-values --------------------------------------------------------------------------------------------------------


def test_p_values_count_the_normal_scores_that_are_as_large():
    normal = np.array([3.0, 1, 2, 2])
    # Of 0 all four are, and so on; ties count as being as large.
    found = thresholds.p_values(normal, np.array([0, 1, 1.5, 2, 2.5, 3, 9]), two_sided=False)
    np.testing.assert_allclose(found, np.array([5, 5, 4, 4, 2, 2, 1]) / 5)


def test_two_sided_p_values_are_twice_the_smaller_sides():
    normal = np.array([1.0, 2, 2, 3])
    # As large: 5 5 4 2 2 1, as small: 1 2 4 4 5 5, of 5; twice 4/5 is no probability.
    found = thresholds.p_values(normal, np.array([0, 1, 2, 2.5, 3, 9]), two_sided=True)
    np.testing.assert_allclose(found, [2 / 5, 4 / 5, 1, 4 / 5, 4 / 5, 2 / 5])


@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("count", [20, 49, 99, 999])
@pytest.mark.parametrize("decimals", [1, 9])
def test_an_image_belongs_where_its_p_value_is_larger_than_alpha(random, two_sided, count, decimals):
    normal, scores = (random.normal(size=size).round(decimals) for size in (count, 400))
    scores = np.concatenate([scores, normal])
    found = thresholds.p_values(normal, scores, two_sided)
    # Those alphas that a p-value can equal, and those between.
    alphas = [step / (count + 1) for step in range(2 if two_sided else 1, 19)] + [0.1 + 1 / 7, 0.5, 0.77, 0.9]
    for alpha in alphas:
        belongs = search("conformal", normal, alpha=alpha, two_sided=two_sided).belongs(scores)
        np.testing.assert_array_equal(belongs, found > alpha, err_msg=str(alpha))


# --- What is promised ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count, alpha, two_sided, outside",
    # n + 1 gaps between scores: alpha's share of them, rounded down on each side.
    [(99, 0.1, False, 10), (99, 0.1, True, 10), (99, 0.055, False, 5), (99, 0.055, True, 4), (4999, 0.01, False, 50)],
)
def test_the_mean_number_of_false_alarms_is_the_share_of_gaps_outside(count, alpha, two_sided, outside):
    law = thresholds.false_alarm_law(count, alpha, 1000, two_sided)
    assert law.mean() == pytest.approx(1000 * outside / (count + 1))
    assert law.mean() <= 1000 * alpha * (1 + 1e-9)


def test_a_single_image_is_a_false_alarm_with_that_probability():
    assert thresholds.false_alarm_law(99, 0.1, 1).pmf(1) == pytest.approx(0.1)


@pytest.mark.parametrize("two_sided", [False, True])
def test_false_alarms_of_random_halves_follow_their_law(random, two_sided):
    pool = random.gamma(2, size=398)
    low, high = thresholds.false_alarm_law(199, 0.05, 199, two_sided).interval(0.99)
    alarms = []
    for _ in range(1000):
        random.shuffle(pool)
        found = search("conformal", pool[:199], alpha=0.05, two_sided=two_sided)
        alarms.append((~found.belongs(pool[199:])).sum())
    alarms = np.array(alarms)
    assert ((low <= alarms) & (alarms <= high)).mean() >= 0.98
    # 10 of 200 gaps are outside; the mean of 1000 draws deviates by a thirtieth of one's deviation.
    law = thresholds.false_alarm_law(199, 0.05, 199, two_sided)
    assert law.mean() == pytest.approx(199 * 0.05)
    assert alarms.mean() == pytest.approx(law.mean(), abs=4 * law.std() / math.sqrt(1000))
    assert alarms.std() == pytest.approx(law.std(), rel=0.1)


def test_alarms_are_those_of_benjamini_and_hochberg():
    # Sorted 0.01 0.02 0.03 0.05 0.5 against 0.02 0.04 0.06 0.08 0.1: the fourth is the last that lies below.
    values = np.array([0.5, 0.03, 0.01, 0.05, 0.02])
    assert thresholds.alarms(values, 0.1).tolist() == [False, True, True, True, True]
    # The first lies above its 0.04, and yet it is an alarm, since the second lies below 0.08; 0.045 each for 0.09.
    assert thresholds.alarms(np.array([0.06, 0.05]), 0.08).tolist() == [True, True]
    assert thresholds.alarms(np.array([0.06, 0.05]), 0.055).tolist() == [False, False]


def test_of_no_images_there_are_no_alarms():
    found = thresholds.alarms(NONE, 0.1)
    assert found.shape == (0,) and found.dtype == bool


def test_no_more_of_the_alarms_are_false_than_was_said(random):
    false_share, detected = [], []
    for _ in range(600):
        normal = random.normal(size=200)
        scores = np.concatenate([random.normal(size=50), random.normal(4, size=50)])
        called = thresholds.alarms(thresholds.p_values(normal, scores, two_sided=False), 0.1)
        false_share.append(called[:50].sum() / max(called.sum(), 1))
        detected.append(called[50:].mean())
    # Half of the images are outliers, and so half of the rate is what is expected.
    assert 0.03 < np.mean(false_share) <= 0.1 and np.mean(detected) > 0.8


def test_the_interval_of_a_rate_is_that_of_clopper_and_pearson():
    for alarms, images in [(0, 50), (3, 50), (25, 50), (50, 50), (100, 10_000)]:
        low, high = thresholds.interval(alarms, images)
        assert 0 <= low <= alarms / images <= high <= 1
    # Nothing in 50 has a probability of 2.5% where the rate is this.
    assert thresholds.interval(0, 50) == (0, pytest.approx(1 - 0.025 ** (1 / 50)))
    low, high = thresholds.interval(3, 50)
    assert stats.binom.sf(2, 50, low) == pytest.approx(0.025) == stats.binom.cdf(3, 50, high)
