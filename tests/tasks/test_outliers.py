import dataclasses
import json
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from cae.data import panel
from cae.errors import UserError
from cae.outliers import detector as detectors
from cae.outliers import scores
from cae.outliers.thresholds import Threshold
from cae.tasks import outliers
from cae.tasks.subject import Screening


def smooth(count, random):
    """Blobs that the model of these tests, a constant image, does not know, all alike but for place and size."""
    rows, columns = np.mgrid[:12, :12]
    places, sizes = random.uniform(4, 7, [2, count, 1, 1]), random.uniform(4, 8, [count, 1, 1])
    blobs = np.exp(-((rows - places[0]) ** 2 + (columns - places[1]) ** 2) / sizes)
    return (255 * blobs).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return {"train": smooth(300, random), "calibration": smooth(199, random), "test": smooth(150, random)}


@pytest.fixture(scope="module", autouse=True)
def few_halves():
    """Random halves of the test split; as many as in an evaluation where it is tried whether the promise holds."""
    # pytest's own patch would take the number from a module that is imported lazily, and not put it back.
    with mock.patch.object(outliers, "HALVES", 20):
        yield


@pytest.fixture(scope="module")
def screened(subject, images):
    made = {"rule": "conformal", "alpha": 0.05}
    detector = detectors.make("combined", subject.trained.model, images["train"], images["calibration"], **made)
    screening = Screening(
        detector=detector,
        labelled={"folder:some/squares": np.tile(np.uint8([[[[0], [255]], [[255], [0]]]]), (40, 6, 6, 1))},
        left_out=images["test"][:7],
        skipped={"emnist": "not prepared"},
        images=20,
        seed=0,
    )
    read = lambda split: (images[split], np.zeros(len(images[split]), int))  # noqa: E731
    return dataclasses.replace(subject, read=read, screening=screening)


@pytest.fixture(scope="module")
def section(screened):
    return outliers.run(screened)


def test_every_kind_of_outlier_is_reported_with_every_score(section):
    results = section.results
    names = {"other_classes", "folder:some/squares", *panel.OUTLIERS}
    assert results["sets"].keys() == names
    assert results["scores"].keys() == scores.SCORES.keys()
    assert all(each.keys() == names for each in results["scores"].values())
    assert results["sets"]["other_classes"]["n"] == 7 and results["sets"]["black"]["n"] == 1
    assert results["sets"]["inverted"]["n"] == 20
    assert {"score", "alpha", "threshold", "false_alarm_rate"} <= results.keys()
    assert {"n", "auroc", "aupr", "fpr95", "detection_rate"} <= results["sets"]["black"].keys()
    json.dumps(results)


def test_the_headline_names_the_worst_set_and_what_is_left_out(section):
    worst = min(section.results["sets"], key=lambda name: section.results["sets"][name]["auroc"])
    assert section.results["worst"] == worst and f"worst of 13 sets: {worst}" in section.headline
    assert "emnist left out: not prepared" in section.headline
    assert section.tables["outliers_skipped"] == [{"set": "emnist", "why": "not prepared"}]


def test_a_model_without_latent_vectors_has_the_other_scores(screened):
    black = screened.others["black"]
    made = {"rule": "conformal", "alpha": 0.05}
    detector = detectors.make(
        "mse", black.model, *(screened.read(split)[0] for split in ("train", "calibration")), **made
    )
    screening = dataclasses.replace(screened.screening, detector=detector)
    section = outliers.run(dataclasses.replace(screened, trained=black, screening=screening))
    assert section.results["scores"].keys() == scores.SCORES.keys() - {"mahalanobis", "neighbours"}


def test_it_is_told_which_outliers_the_model_reconstructs_better(section):
    # Black is what the model of these tests makes without error, and white is twice what it makes of it.
    better = {name: row["reconstructed_better"] for name, row in section.results["sets"].items()}
    assert better["black"] == 1 and better["white"] == 0


def test_a_set_that_looks_more_normal_than_normal_images_is_warned_of(section):
    # To a model that makes everything black, a black image is the best of all.
    warned = {(row["score"], row["set"]) for row in section.tables["outliers_warnings"]}
    below = {(score, name) for score, sets in section.results["scores"].items() for name, v in sets.items() if v < 0.5}
    assert warned == below and ("mse", "black") in warned


def test_rates_of_a_set_by_hand():
    normal, odd = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.5, 5.0, 6.0, 7.0])
    row = outliers.set_row("some", normal, odd, Threshold(4.5))
    # Of 16 pairs the outlier is larger in all but two: 2.5 against 3 and 4.
    assert row["auroc"] == 14 / 16 and row["detection_rate"] == 3 / 4
    # To find 95 of 100 of these, all four, 2.5 has to be an alarm, and so are 3 and 4.
    assert row["fpr95"] == 2 / 4
    # Precision is 1 for the first three, then 4 of 6.
    assert row["aupr"] == pytest.approx((3 * 1 + 4 / 6) / 4)


def test_two_sided_thresholds_find_what_is_suspiciously_small():
    row = outliers.set_row("blank", np.array([1.0, 2.0, 3.0]), np.array([0.1]), Threshold(4.0, low=0.5))
    assert row["detection_rate"] == 1 and row["auroc"] == 0


def test_thresholds_are_searched_on_one_half_and_reported_on_the_other(screened):
    detector = screened.screening.detector
    # The first, third and fifth outlier are searched; what is reported is of the second and fourth.
    odd = {"named": np.array([50.0, 0.0, 60.0, 100.0, 70.0]), "made": np.array([1e9])}
    normal = detector.calibration
    rows = {row["threshold"]: row for row in outliers.threshold_rows(detector, normal, odd, {"named": None})}
    assert rows.keys() == {"conformal", "percentile", "sigma", "youden", "f1"}
    assert normal.max() < 50 and normal.max() <= rows["youden"]["belongs_to"] < 50
    assert rows["youden"]["detection_rate"] == 0.5 and rows["youden"]["false_alarm_rate"] == 0
    low, high = rows["conformal"]["false_alarm_least"], rows["conformal"]["false_alarm_most"]
    assert low < rows["conformal"]["false_alarm_rate"] < high
    assert outliers.brief(rows["youden"])["detected"].startswith("50.00% (")
    assert "youden" not in {row["threshold"] for row in outliers.threshold_rows(detector, normal, odd, {})}


@mock.patch.object(outliers, "HALVES", 1000)
def test_the_promise_holds_in_random_halves_of_one_pool(random):
    pool = random.standard_gamma(2.0, 2000)
    assert outliers.halves_inside(pool, 0.05, two_sided=False) >= 0.98
    assert outliers.halves_inside(pool, 0.05, two_sided=True) >= 0.98


def test_the_promise_is_told_beside_the_rate_of_the_test_split(screened):
    detector = screened.screening.detector
    test = detector.scores(screened.read("test")[0])
    rows = {row["alpha"]: row for row in outliers.promise_rows(detector, test)}
    # 199 calibration images can promise 0.01, but the halves of 150 test images cannot.
    assert rows.keys() == {0.05, 0.1}
    law = stats.betabinom(150, 10, 190)  # The 190th of 199 scores leaves 10 of 200 gaps above it.
    assert (rows[0.05]["least"], rows[0.05]["most"]) == tuple(each / 150 for each in law.interval(0.99))


def test_outliers_are_made_of_test_images_from_all_of_the_split(screened, images):
    sets = outliers.outlier_sets(screened.screening, images["test"])
    positions = np.linspace(0, 149, 20).round().astype(int)
    np.testing.assert_array_equal(sets["inverted"], 255 - images["test"][positions])


def test_figures_and_tables_are_all_there(section):
    assert section.figures.keys() == {"outliers", "outliers_scores", "outliers_curves"}
    assert [row["set"] for row in section.tables["outliers_scores"]][-1] == "worst"
    assert section.shown.keys() <= section.tables.keys()


def test_a_set_that_a_threshold_was_searched_by_is_judged_by_its_other_half(screened, images):
    name, squares = next(iter(screened.screening.labelled.items()))
    made = {"rule": "youden", "alpha": None, "outliers": squares[::2]}
    detector = detectors.make("mse", screened.trained.model, images["train"], images["calibration"], **made)
    screening = dataclasses.replace(screened.screening, detector=detector)
    section = outliers.run(dataclasses.replace(screened, screening=screening))
    assert section.results["sets"][name]["n"] == len(squares) / 2 and section.results["sets"]["inverted"]["n"] == 20
    assert section.results["alpha"] is None and "at a false-alarm rate" not in section.headline


def test_a_rule_that_knows_no_rate_refuses_one(screened, images):
    made = {"rule": "f1", "alpha": 0.05, "outliers": images["test"]}
    with pytest.raises(UserError, match=r"--alpha=0\.05 has no meaning for --threshold=f1"):
        detectors.make("mse", screened.trained.model, images["train"], images["calibration"], **made)
