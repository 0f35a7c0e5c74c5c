import dataclasses
import json
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from cae.config import Config
from cae.data import outlier_sets
from cae.errors import UserError
from cae.outliers import scores
from cae.outliers.calibration_classes import CalibrationClasses
from cae.outliers.detector import Detector
from cae.outliers.thresholds import Threshold
from cae.tasks import outlier_figures, outliers, threshold_evaluation
from cae.tasks.context import OutlierEvalData, build_outlier_data

OOD_DATASET = "folder:some/squares"


def make_blobs(count, random):
    """Images that the model of these tests, which decodes constant images, was not trained on; they differ little."""
    rows, columns = np.mgrid[:12, :12]
    centers, sizes = random.uniform(4, 7, [2, count, 1, 1]), random.uniform(4, 8, [count, 1, 1])
    blobs = np.exp(-((rows - centers[0]) ** 2 + (columns - centers[1]) ** 2) / sizes)
    return (255 * blobs).astype(np.uint8)[..., None]


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    return {split: make_blobs(count, random) for split, count in (("train", 300), ("calibration", 199), ("test", 150))}


@pytest.fixture(scope="module", autouse=True)
def few_splits():
    """Few random splits of the test scores, except where the coverage itself is tested."""
    # pytest's own patch would take the number from a module that is imported lazily, and not put it back.
    with mock.patch.object(threshold_evaluation, "NUM_SPLITS", 20):
        yield


@pytest.fixture(scope="module")
def context(context, images):
    detector = Detector.fit(
        context.run.model, images["train"], images["calibration"], score="fisher", method="conformal", alpha=0.05
    )
    data = OutlierEvalData(
        detector=detector,
        ood_datasets={OOD_DATASET: np.tile(np.uint8([[[[0], [255]], [[255], [0]]]]), (40, 6, 6, 1))},
        excluded=images["test"][:7],
        skipped={"emnist": "not prepared"},
        max_outliers_per_set=20,
    )

    def load(split):
        return images[split], np.zeros(len(images[split]), int)

    return dataclasses.replace(context, load=load, outlier_data=data)


def evaluate(context, **changes):
    data = dataclasses.replace(context.outlier_data, **changes)
    return outliers.run(dataclasses.replace(context, outlier_data=data))


@pytest.fixture(scope="module")
def section(context):
    return outliers.run(context)


def test_every_set_of_outliers_is_evaluated_with_every_score(section):
    results = section.results
    names = {"held_out_classes", OOD_DATASET, *outlier_sets.OUTLIERS}
    assert results["sets"].keys() == names
    assert results["scores"].keys() == scores.SCORES.keys() - {"deep_cluster"}
    assert all(by_set.keys() == names for by_set in results["scores"].values())
    assert results["sets"]["held_out_classes"]["num_images"] == 7 and results["sets"]["black"]["num_images"] == 1
    assert results["sets"]["inverted"]["num_images"] == 20
    assert {"score", "threshold_method", "alpha", "threshold_low", "threshold_high", "fpr"} <= results.keys()
    assert {"auroc", "aupr", "fpr_at_95_tpr", "tpr"} <= results["sets"]["black"].keys()
    json.dumps(results)


def test_classes_that_train_lacks_are_sets_of_their_own(context, images):
    classes = {"hole": images["test"][:6], "black": images["test"][:4], "empty": images["test"][:0]}
    section = evaluate(context, class_outliers=classes)
    counts = {name: row["num_images"] for name, row in section.results["sets"].items()}
    assert counts["hole"] == 6 and counts["class black"] == 4 and counts["black"] == 1 and "empty" not in counts
    assert {"hole", "class black"} <= {row["set"] for row in section.tables["outliers_scores"]}
    # They do not fit thresholds.
    assert section.tables["outliers_thresholds"] == outliers.run(context).tables["outliers_thresholds"]


def test_of_held_out_classes_as_many_images_are_used_as_of_another_set():
    images = np.arange(100, dtype=np.uint8)[:, None, None, None]
    dataset = SimpleNamespace(excluded_classes=lambda split: (images, None), outliers={})
    run = SimpleNamespace(
        run_config={"dataset": {"name": "x"}},
        config=Config(),
        image_shape=(1, 1, 1),
        fit_detector=lambda *_, **__: None,
    )
    names = ("data_dir", "score", "threshold_method", "alpha")
    values = SimpleNamespace(**dict.fromkeys(names), max_outliers_per_set=4)
    excluded = build_outlier_data(run, dataset, values, []).excluded
    assert excluded.ravel().tolist() == [0, 33, 66, 99]


def test_the_headline_names_the_worst_set_and_skipped_sets(section):
    worst_set = min(section.results["sets"], key=lambda name: section.results["sets"][name]["auroc"])
    assert section.results["worst_set"] == worst_set and f"worst of 13 sets: {worst_set}" in section.headline
    assert "skipped emnist: not prepared" in section.headline
    assert section.tables["outliers_skipped"] == [{"set": "emnist", "reason": "not prepared"}]


def test_a_model_without_a_latent_space_has_the_other_scores(context, images):
    black = context.comparison_runs["black"]
    detector = Detector.fit(
        black.model, images["train"], images["calibration"], score="mse", method="conformal", alpha=0.05
    )
    section = evaluate(dataclasses.replace(context, run=black), detector=detector)
    assert section.results["scores"].keys() == scores.available_scores(set()).keys()


def test_sets_that_the_model_reconstructs_better_than_test_images_are_reported(section):
    # Black images are reconstructed without error, white ones at half their value.
    fractions = {name: row["frac_mse_below_inlier_median"] for name, row in section.results["sets"].items()}
    assert fractions["black"] == 1 and fractions["white"] == 0


def test_an_auroc_below_one_half_leads_to_a_warning(section):
    # To a model that reconstructs black images without error, they are the least anomalous.
    warnings = {(row["score"], row["set"]) for row in section.tables["outliers_warnings"]}
    below = {(score, name) for score, sets in section.results["scores"].items() for name, v in sets.items() if v < 0.5}
    assert warnings == below and ("mse", "black") in warnings


def test_the_last_row_of_scores_is_that_of_the_worst_set(section):
    *rows, worst = section.tables["outliers_scores"]
    assert worst["set"] == "worst" and [row["set"] for row in rows] == [*section.results["sets"]]
    assert float(worst["mse"]) == min(float(row["mse"]) for row in rows)


def test_metrics_of_a_set_by_hand():
    inliers, outlier_scores = np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.5, 5.0, 6.0, 7.0])
    row = outliers.make_set_row("some", inliers, outlier_scores, Threshold(4.5))
    # Of 16 pairs the outlier is larger in all but two: 2.5 against 3 and 4.
    assert row["auroc"] == 14 / 16 and row["tpr"] == 3 / 4
    # A TPR of 95% takes all four outliers; then 3 and 4 are false positives, as 2.5 is the lowest.
    assert row["fpr_at_95_tpr"] == 2 / 4
    # Precision is 1 for the first three, then 4 of 6.
    assert row["aupr"] == pytest.approx((3 * 1 + 4 / 6) / 4)


def test_two_sided_thresholds_detect_scores_that_are_too_low():
    row = outliers.make_set_row("blank", np.array([1.0, 2.0, 3.0]), np.array([0.1]), Threshold(4.0, low=0.5))
    assert row["tpr"] == 1 and row["auroc"] == 0


def test_thresholds_are_fitted_to_one_half_of_the_outliers_and_evaluated_on_the_other(context):
    detector = context.outlier_data.detector
    # The first, third and fifth outlier are for fitting; the second and fourth for the rates.
    by_set = {"dataset": np.array([50.0, 0.0, 60.0, 100.0, 70.0]), "synthetic": np.array([1e9])}
    inliers = detector.calibration_scores
    make_rows = threshold_evaluation.make_threshold_rows
    rows = {row["threshold_method"]: row for row in make_rows(detector, inliers, by_set, {"dataset": None})}
    assert rows.keys() == {"conformal", "percentile", "sigma", "youden", "f1"}
    assert inliers.max() < 50 and inliers.max() <= rows["youden"]["threshold_high"] < 50
    assert rows["youden"]["tpr"] == 0.5 and rows["youden"]["fpr"] == 0
    assert rows["conformal"]["fpr_ci_low"] < rows["conformal"]["fpr"] < rows["conformal"]["fpr_ci_high"]
    assert rows["youden"]["tpr_ci_low"] < 0.5 < rows["youden"]["tpr_ci_high"]
    assert "youden" not in {row["threshold_method"] for row in make_rows(detector, inliers, by_set, {})}
    low = {"dataset": np.full(4, inliers.min() - 1)}
    assert "youden" not in {row["threshold_method"] for row in make_rows(detector, inliers, low, {"dataset": None})}


def test_a_threshold_that_was_fitted_to_outliers_is_evaluated_on_the_other_half(context, images):
    squares = context.outlier_data.ood_datasets[OOD_DATASET]
    detector = Detector.fit(
        context.run.model, images["train"], images["calibration"], score="mse", method="youden", alpha=None,
        outliers=squares[::2],
    )  # fmt: skip
    data = {OOD_DATASET: squares, "folder:one": squares[:1]}
    section = evaluate(context, detector=detector, ood_datasets=data)
    assert section.results["sets"][OOD_DATASET]["num_images"] == len(squares) / 2
    assert "folder:one" not in section.results["sets"], "its image was for the threshold"
    assert section.results["sets"]["inverted"]["num_images"] == 20
    assert section.results["alpha"] is None and "at a false positive rate" not in section.headline


def test_a_method_without_a_target_rate_refuses_alpha(context, images):
    with pytest.raises(UserError, match=r"--alpha=0\.05 .* --threshold_method=f1"):
        Detector.fit(
            context.run.model, images["train"], images["calibration"], score="mse", method="f1", alpha=0.05,
            outliers=images["test"],
        )  # fmt: skip


@mock.patch.object(threshold_evaluation, "NUM_SPLITS", 1000)
def test_the_guarantee_holds_for_random_splits_of_one_sample(random):
    sample = random.standard_gamma(2.0, 2000)
    assert threshold_evaluation.empirical_coverage(sample, 0.05, two_sided=False) >= 0.98
    assert threshold_evaluation.empirical_coverage(sample, 0.05, two_sided=True) >= 0.98


def test_the_guarantee_is_compared_with_the_rate_on_the_test_split(context, images):
    detector = context.outlier_data.detector
    rows = threshold_evaluation.make_guarantee_rows(detector, detector.scores(images["test"]))
    # 0.01 is attainable with 199 calibration images, but not with half of 150 test images.
    assert [row["alpha"] for row in rows] == [0.05, 0.1]
    distribution = stats.betabinom(150, 10, 190)  # The 190th of 199 scores leaves 10 of 200 gaps above it.
    expected = tuple(limit / 150 for limit in distribution.interval(0.99))
    assert (rows[0]["fpr_ci_low"], rows[0]["fpr_ci_high"]) == expected


def test_false_positives_are_counted_by_class():
    """Of 19 calibration scores 1 to 19 of a, and 19 of c ten times as large, at 0.1: both lose the two largest gaps."""
    calibration, labels = np.concatenate([np.arange(1.0, 20), np.arange(10.0, 200, 10)]), np.repeat([0, 2], 19)
    detector = SimpleNamespace(
        calibration_scores=calibration, alpha=0.1, score=SimpleNamespace(two_sided=False), threshold=Threshold(100.0),
        classes=CalibrationClasses(labels, {0: "a", 2: "c"}),
    )  # fmt: skip
    # The thresholds are 18 and 180.
    scores, labels = np.array([18.0, 18.5, 101, 170, 181, 5]), np.array([0, 0, 0, 2, 2, 2])
    rows = threshold_evaluation.make_class_rows(detector, scores, labels, ["a", "b", "c"])
    columns = ("class", "num_images", "false_positives", "fpr_label_known", "fpr_label_unknown")
    assert [[row[key] for key in columns] for row in rows] == [["a", 3, 1, 2 / 3, 0], ["c", 3, 2, 1 / 3, 1 / 3]]
    # Of 2 in 3, the exact interval is where the binomial tails are 2.5% each.
    for prefix, row in (("fpr", rows[1]), ("fpr_label_known", rows[0])):
        assert row[prefix] == 2 / 3 and row[f"{prefix}_ci_low"] == pytest.approx(0.0943, abs=1e-4)
        assert row[f"{prefix}_ci_high"] == pytest.approx(0.9916, abs=1e-4)
    # Two of 20 gaps are outside.
    limits = np.array(stats.betabinom(3, 2, 18).interval(0.99)) / 3
    assert (rows[0]["expected_low"], rows[0]["expected_high"]) == tuple(limits)
    assert threshold_evaluation.make_class_rows(detector, scores, labels, []) == []
    # 19 images can't guarantee 0.01.
    detector.alpha = 0.01
    (row, _) = threshold_evaluation.make_class_rows(detector, scores, labels, ["a", "b", "c"])
    assert row["false_positives"] == 1 and "fpr_label_known" not in row


def test_synthetic_outliers_are_made_from_evenly_spaced_test_images(context, images):
    sets = outliers.collect_outlier_sets(context)
    indices = np.linspace(0, 149, 20).round().astype(int)
    np.testing.assert_array_equal(sets["inverted"], 255 - images["test"][indices])


def test_all_figures_and_tables_exist(section):
    assert section.figures.keys() == {"outliers", "outliers_maps", "outliers_scores", "outliers_curves"}
    assert section.visible_tables.keys() <= section.tables.keys()


@pytest.mark.parametrize(
    "values, expected",
    [([5, 1, 4, 2, 3, 6], [4, 2, 1, 3]), ([7, 5, 6], [1, 2, 1, 2]), ([2, 1], [1, 0, 1, 0]), ([3], [0, 0, 0, 0])],
)
def test_typical_and_hard_examples_are_found_in_the_order_of_the_scores(values, expected):
    assert outlier_figures.select_examples(np.array(values, float)).tolist() == expected


def test_sets_are_called_by_their_folder_where_that_is_the_name_of_one_set():
    names = ["folder:a/letters/", "folder:a/test", "folder:b/test", "folder:x/black", "black", "mnist"]
    expected = ["letters", "folder:a/test", "folder:b/test", "folder:x/black", "black", "mnist"]
    assert outlier_figures.shorten_names(names) == dict(zip(names, expected))


def test_maps_of_the_test_images_and_of_every_set_with_several_images_are_drawn(section):
    caption, figure = section.figures["outliers_maps"]
    labels = [each.get_text() for each in figure.axes[0].get_yticklabels()]
    sets = [name for name in outlier_sets.OUTLIERS if name not in ("black", "gray", "white")]
    assert labels == ["test images", "held_out_classes", "squares", *sets] and "1% of the pixels" in caption
    assert len(figure.axes[0].get_xticks()) == 12 and len(figure.axes) == 2
