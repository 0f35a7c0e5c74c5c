"""Outlier detection: the detector and every other score on the test split, synthetic outliers and other data sets."""

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from cae.data import outlier_sets
from cae.outliers.detector import Detector
from cae.outliers.score import Score
from cae.outliers.scores import SCORES, available_scores, model_capabilities
from cae.outliers.thresholds import Threshold, binary_labels_and_scores, get_threshold_method
from cae.progress import phase
from cae.report.report import KeyFigure, Row, Section
from cae.tasks.context import EvalContext, OutlierEvalData, evenly_spaced
from cae.tasks.outlier_figures import SetScores, make_figures
from cae.tasks.threshold_evaluation import (
    NUM_SPLITS,
    describe_threshold,
    make_class_rows,
    make_guarantee_rows,
    make_threshold_rows,
)

HELD_OUT_CLASSES = "held_out_classes"
"""The set of test images of the classes that the model was not trained on."""

CAPTIONS = {
    "outliers": (
        "Detection of each set of outliers. FPR at 95% TPR: the fraction of test images above the threshold that 95% of"
        " the outliers exceed; TPR: outliers found by the detector's threshold; MSE below inlier median: the fraction"
        " of outliers whose reconstruction error is below the median of test images"
    ),
    "outliers_scores": "AUROC of every score on every set",
    "outliers_warnings": "Warning: AUROC below 0.5. To these scores these outliers are less anomalous than test images",
    "outliers_thresholds": (
        "Thresholds that are fitted to the calibration split, and their rates on the test split with exact 95%"
        " confidence intervals; youden and f1 are fitted to one half of the sets of --outlier_datasets as well, and the"
        " TPR is that of the other half"
    ),
    "outliers_guarantee": (
        f"The conformal guarantee: the test split's FPR and its exact 99% interval; empirical coverage: the fraction of"
        f" {NUM_SPLITS} random splits of the test images into halves for calibration and test whose FPR lies in it"
    ),
    "outliers_fpr_by_class": (
        "False positives by class, with exact 95% confidence intervals (low, high). FPR: of the detector's threshold;"
        " one for all images together may have higher and lower rates in classes. FPR, label known and unknown: of"
        " class-conditional thresholds, with and without the label of the test image; expected: the exact 99% interval"
        " of the first; the second is at most alpha in each class, but smaller in most"
    ),
    "outliers_skipped": "Skipped sets and files",
}


def run(context: EvalContext) -> Section:
    """Evaluates the detector on the test split and on every set of outliers, and compares every other score.

    Outliers are the positive class.
    """
    data, (test_images, labels) = context.outlier_data, context.load("test")
    detector, sets = data.detector, collect_outlier_sets(context)
    fitted = fit_all_scores(detector, context.load("train")[0])
    outliers = {}
    with phase("scoring images", 1 + len(sets), "set") as bar:
        inliers = compute_scores(fitted, detector, test_images)
        for name, images in sets.items():
            bar.update()
            outliers[name] = compute_scores(fitted, detector, images)
    detector_inliers = inliers[detector.score_name]
    detector_outliers = {name: values[detector.score_name] for name, values in outliers.items()}
    rows = _set_rows(data, inliers, outliers)
    results = _make_results(data, detector_inliers, rows) | {"scores": _auroc_by_score(inliers, outliers)}
    return Section(
        name="outliers",
        title="Outlier detection",
        headline=_make_headline(data, results, len(test_images)),
        results=results,
        figures=make_figures(detector, test_images, sets, detector_inliers, detector_outliers),
        tables={
            "outliers": rows,
            "outliers_scores": _score_rows(results["scores"]),
            "outliers_warnings": _warning_rows(results["scores"]),
            "outliers_thresholds": make_threshold_rows(
                detector, detector_inliers, detector_outliers, data.ood_datasets
            ),
            "outliers_guarantee": make_guarantee_rows(detector, detector_inliers),
            "outliers_fpr_by_class": make_class_rows(detector, detector_inliers, labels, context.class_names),
            "outliers_skipped": [{"set": name, "reason": reason} for name, reason in data.skipped.items()],
        },
        visible_tables=CAPTIONS,
        scalars={"auroc": results["sets"][results["worst_set"]]["auroc"]},
        sources=dict.fromkeys(("outliers", "outliers_scores", "outliers_curves"), "outliers"),
        key_figures=_make_key_figures(results),
    )


def collect_outlier_sets(context: EvalContext) -> dict[str, np.ndarray]:
    """Returns the images of every set that is not empty, uint8 `[n, height, width, channels]` by name."""
    data, test_images = context.outlier_data, context.load("test")[0]
    images = test_images[evenly_spaced(len(test_images), data.max_outliers_per_set)]
    excluded = {} if data.excluded is None else {HELD_OUT_CLASSES: data.excluded}
    synthetic = {name: outlier_sets.make_outliers(name, images, context.seed) for name in outlier_sets.OUTLIERS}
    sets = excluded | dict(data.ood_datasets) | synthetic
    # A class may have the name of another set.
    classes = {f"class {name}" if name in sets else name: images for name, images in data.class_outliers.items()}
    return {name: images for name, images in (classes | sets).items() if len(images)}


def fit_all_scores(detector: Detector, train_images: np.ndarray) -> dict[str, Score]:
    """Returns the detector's score and all others that the model and the images allow, fitted to these, by name."""
    available = available_scores(model_capabilities(detector.model))
    fitted = {name: score() for name, score in available.items() if len(train_images) >= score.min_images}
    fitted[detector.score_name] = detector.score
    with phase("fitting anomaly scores", len(fitted), "score") as bar:
        for score in fitted.values():
            if score is not detector.score:
                score.fit(train_images, detector.forward_batches)
            bar.update()
    return fitted


def compute_scores(fitted: Mapping[str, Score], detector: Detector, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns each score of images, float64 `[n]` by name, from one pass through the model."""
    batches = [{name: score(outputs) for name, score in fitted.items()} for outputs in detector.forward_batches(images)]
    return {name: np.concatenate([batch[name] for batch in batches]).astype(np.float64) for name in fitted}


def auroc(inliers: np.ndarray, outliers: np.ndarray) -> float:
    """Returns the probability that an outlier has a larger score than an inlier; ties count half."""
    return float(roc_auc_score(*binary_labels_and_scores(inliers, outliers)))


def make_set_row(name: str, inliers: np.ndarray, outliers: np.ndarray, threshold: Threshold) -> Row:
    """Returns the metrics of a set of outliers.

    Args:
      name: Of the set.
      inliers: Scores `[n]` of test images.
      outliers: Scores `[m]` of the set.
      threshold: Of the detector.

    Returns:
      set; num_images; auroc; aupr, the average precision, which depends on n and m; fpr_at_95_tpr, the fraction of test
      images that are above the threshold which 95% of the outliers are above; tpr, by the detector's threshold.
    """
    return {
        "set": name,
        "num_images": len(outliers),
        "auroc": auroc(inliers, outliers),
        "aupr": float(average_precision_score(*binary_labels_and_scores(inliers, outliers))),
        "fpr_at_95_tpr": float(np.mean(inliers >= np.quantile(outliers, 0.05, method="lower"))),
        "tpr": float(np.mean(~threshold.is_inlier(outliers))),
    }


def _set_rows(data: OutlierEvalData, inliers: SetScores, outliers: Mapping[str, SetScores]) -> list[Row]:
    """Returns the metrics of every set."""
    detector, median_mse = data.detector, np.median(inliers["mse"])
    needs_outliers = get_threshold_method(detector.method).needs_outliers
    rows = []
    for name, by_score in outliers.items():
        # The threshold was fitted to the other half.
        half = slice(1, None, 2) if needs_outliers and name in data.ood_datasets else slice(None)
        scores = by_score[detector.score_name][half]
        if not len(scores):  # Of a set of one image.
            continue
        row = make_set_row(name, inliers[detector.score_name], scores, detector.threshold)
        rows.append(row | {"frac_mse_below_inlier_median": float(np.mean(by_score["mse"] < median_mse))})
    return rows


def _make_results(data: OutlierEvalData, inliers: np.ndarray, rows: Sequence[Row]) -> Row:
    detector = data.detector
    return {
        "score": detector.score_name,
        **describe_threshold(detector.method, detector.alpha, detector.threshold),
        "fpr": float(np.mean(~detector.threshold.is_inlier(inliers))),
        "worst_set": min(rows, key=lambda row: row["auroc"])["set"],
        "sets": {row["set"]: {key: value for key, value in row.items() if key != "set"} for row in rows},
        "skipped": dict(data.skipped),
    }


def _make_headline(data: OutlierEvalData, results: Row, num_images: int) -> str:
    worst = results["sets"][results["worst_set"]]
    return (
        f"outliers: FPR {results['fpr']:.2%} on {num_images} test images by the {data.detector}; worst of"
        f" {len(results['sets'])} sets: {results['worst_set']}, AUROC {worst['auroc']:.4f}, TPR {worst['tpr']:.1%}"
        + "".join(f"; skipped {name}: {reason}" for name, reason in data.skipped.items())
    )


def _make_key_figures(results: Row) -> list[KeyFigure]:
    name = results["worst_set"]
    alpha = "" if results["alpha"] is None else f"target {results['alpha']:.1%}"
    return [
        KeyFigure(
            f"AUROC of the worst of {len(results['sets'])} outlier sets", f"{results['sets'][name]['auroc']:.3f}", name
        ),
        KeyFigure("False positive rate", f"{results['fpr']:.1%}", alpha),
    ]


def _auroc_by_score(inliers: SetScores, outliers: Mapping[str, SetScores]) -> dict[str, dict[str, float]]:
    """Returns the AUROC of each score on each set."""
    return {
        score: {name: auroc(values, by_score[score]) for name, by_score in outliers.items()}
        for score, values in inliers.items()
    }


def _score_rows(aurocs: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Returns a row per set, and one for the worst set, with the AUROC of each score."""
    columns = {score: dict(by_set) | {"worst": min(by_set.values())} for score, by_set in aurocs.items()}
    sets = next(iter(columns.values()))
    return [{"set": name} | {score: f"{by_set[name]:.4f}" for score, by_set in columns.items()} for name in sets]


def _warning_rows(aurocs: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """Returns a row for each score and set whose outliers have smaller scores than test images."""
    return [
        {"score": score, "set": name, "auroc": value, "two_sided": SCORES[score].two_sided}
        for score, by_set in aurocs.items()
        for name, value in by_set.items()
        if value < 0.5
    ]
