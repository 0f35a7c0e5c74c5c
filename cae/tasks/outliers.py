"""Outlier detection: does an image belong to the data set, at which rate of false alarms, and what is not found."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from cae.data import panel
from cae.outliers import scores, thresholds
from cae.outliers.detector import Detector
from cae.outliers.thresholds import Threshold
from cae.report.figures import gallery, histograms, panels
from cae.report.page import Row, Section
from cae.tasks.subject import Screening, Subject

ALPHAS = (0.01, 0.05, 0.1)
HALVES = 1000
EXTREMES = 4
LEFT_OUT = "other_classes"

SHOWN = {
    "outliers": "Every set; reconstructed_better: of smaller error than the median test image",
    "outliers_scores": "AUROC of every score on every set",
    "outliers_warnings": "Warning: AUROC below one half. A score takes these outliers for more normal",
    "outliers_thresholds_brief": (
        "Thresholds, all found on the calibration split, and the rates that they gave on the test split, with"
        " exact 95% intervals; youden and f1 searched half of the sets of --outlier_datasets, and the detection"
        " rate is of the other half"
    ),
    "outliers_promise": (
        f"Does the rate hold? The test split's false alarms beside the 99% interval of the exact law; and, of"
        f" {HALVES} random cuts of it into calibration and test halves, how many were inside"
    ),
    "outliers_skipped": "Sets that are neither prepared nor reachable",
}
"""The captions of the tables that the page shows."""


def run(subject: Subject) -> Section:
    """Measures the detector on the test split and on every kind of outlier, and every other score beside its own.

    Outliers are the positive class. For each set: n, AUROC, AUPR (average precision, at the numbers of both), the share
    of test images that are called outliers where 95% of these are (fpr95), the share that is detected by the threshold,
    and the share whose squared error is smaller than the median test image's (reconstructed_better).
    """
    screening, test = subject.screening, subject.read("test")[0]
    detector = screening.detector
    sets = outlier_sets(screening, test)
    fitted = fit_all(detector, subject.read("train")[0])
    normal = scores_of(fitted, detector, test)
    odd = {name: scores_of(fitted, detector, images) for name, images in sets.items()}
    ours = {name: values[detector.name] for name, values in odd.items()}
    # What a threshold was searched by is not what it is judged by.
    held = {name: slice(1, None, 2) for name in screening.labelled} if thresholds.find(detector.rule).searches else {}
    rows = [
        set_row(name, normal[detector.name], values[held.get(name, slice(None))], detector.threshold)
        | {"reconstructed_better": float(np.mean(odd[name]["mse"] < np.median(normal["mse"])))}
        for name, values in ours.items()
    ]
    worst = min(rows, key=lambda row: row["auroc"])
    alarms = int(np.sum(~detector.threshold.belongs(normal[detector.name])))
    searched = threshold_rows(detector, normal[detector.name], ours, screening.labelled)
    shown = {_short(name): values for name, values in ours.items() if len(values) > 1}
    return Section(
        name="outliers",
        title="Outlier detection",
        headline=(
            f"outliers by {detector.name}: {alarms / len(test):.2%} false alarms on {len(test)} test images,"
            f" {detector.described()}; worst of {len(rows)} sets: {worst['set']}, AUROC"
            f" {worst['auroc']:.4f}, {worst['detection_rate']:.1%} detected"
            + "".join(f"; {name} left out: {why}" for name, why in screening.skipped.items())
        ),
        results={
            "score": detector.name,
            "threshold_rule": detector.rule,
            "alpha": None if thresholds.find(detector.rule).searches else detector.alpha,
            "threshold": detector.threshold.high,
            "threshold_low": None if np.isinf(detector.threshold.low) else detector.threshold.low,
            "false_alarm_rate": alarms / len(test),
            "worst": worst["set"],
            "sets": {row["set"]: {key: value for key, value in row.items() if key != "set"} for row in rows},
            "scores": {name: {each: auroc(normal[name], odd[each][name]) for each in odd} for name in fitted},
            "skipped": dict(screening.skipped),
        },
        figures={
            "outliers": (
                "Of each set the images that are hardest to tell (left, by the score) and the easiest",
                extremes_figure(sets, ours),
            ),
            "outliers_scores": (
                f"The score {detector.name} of test images (blue) and of each set (red), and the threshold",
                histograms(
                    normal[detector.name], shown, [detector.threshold.low, detector.threshold.high], detector.name
                ),
            ),
            "outliers_curves": ("ROC and precision-recall curves", curves_figure(normal[detector.name], shown)),
        },
        tables={
            "outliers": rows,
            "outliers_scores": score_rows(normal, odd),
            "outliers_warnings": warning_rows(normal, odd),
            "outliers_thresholds": searched,
            "outliers_thresholds_brief": [brief(row) for row in searched],
            "outliers_promise": promise_rows(detector, normal[detector.name]),
            "outliers_skipped": [{"set": name, "why": why} for name, why in screening.skipped.items()],
        },
        shown=SHOWN,
    )


def outlier_sets(screening: Screening, test: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the images of every set by name, uint8 [n, h, w, c]; sets that are made are made of test images."""
    chosen = test[np.linspace(0, len(test) - 1, min(screening.images, len(test))).round().astype(int)]
    made = {name: panel.make(name, chosen, screening.seed) for name in panel.OUTLIERS}
    left_out = {} if screening.left_out is None else {LEFT_OUT: screening.left_out}
    return {name: images for name, images in (left_out | dict(screening.labelled) | made).items() if len(images)}


def fit_all(detector: Detector, train: np.ndarray) -> dict[str, scores.Score]:
    """Returns every score that the model allows, fitted to training images; the detector's own is there already."""
    has_latents = hasattr(detector.model, "encode")
    names = [name for name, score in scores.SCORES.items() if has_latents or not score.needs_latents]
    fitted = {name: detector.score if name == detector.name else scores.find(name)() for name in names}
    for name, score in fitted.items():
        if name != detector.name:
            score.fit(train, detector.passes)
    return fitted


def scores_of(fitted: Mapping[str, scores.Score], detector: Detector, images: np.ndarray) -> dict[str, np.ndarray]:
    """Returns images' scores by name, each [n], from one pass of the model."""
    parts = [{name: score(passed) for name, score in fitted.items()} for passed in detector.passes(images)]
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in fitted}


def auroc(normal: np.ndarray, odd: np.ndarray) -> float:
    """Returns the probability that an outlier has the larger score than a normal image; ties count half."""
    return float(roc_auc_score(*_labelled(normal, odd)))


def set_row(name: str, normal: np.ndarray, odd: np.ndarray, threshold: Threshold) -> Row:
    """Returns what is reported of a set, by the scores of normal images [n] and of its own [m]."""
    return {
        "set": name,
        "n": len(odd),
        "auroc": auroc(normal, odd),
        "aupr": float(average_precision_score(*_labelled(normal, odd))),
        "fpr95": float(np.mean(normal >= np.quantile(odd, 0.05, method="lower"))),
        "detection_rate": float(np.mean(~threshold.belongs(odd))),
    }


def score_rows(normal: Mapping[str, np.ndarray], odd: Mapping[str, Mapping[str, np.ndarray]]) -> list[Row]:
    """Returns a row a set, and one for the worst, with the AUROC of every score."""
    found = {name: {key: auroc(normal[key], values[key]) for key in normal} for name, values in odd.items()}
    found["worst"] = {key: min(row[key] for row in found.values()) for key in normal}
    return [{"set": name} | {key: f"{value:.4f}" for key, value in row.items()} for name, row in found.items()]


def warning_rows(normal: Mapping[str, np.ndarray], odd: Mapping[str, Mapping[str, np.ndarray]]) -> list[Row]:
    """Returns a row for each score and set where outliers look more normal than normal images do."""
    found = {(key, name): auroc(normal[key], values[key]) for name, values in odd.items() for key in normal}
    return [
        {"score": key, "set": name, "auroc": value, "two_sided": scores.SCORES[key].two_sided}
        for (key, name), value in found.items()
        if value < 0.5
    ]


def threshold_rows(
    detector: Detector, normal: np.ndarray, odd: Mapping[str, np.ndarray], labelled: Mapping[str, np.ndarray]
) -> list[Row]:
    """Returns a row a rule: where it puts the threshold and the rates that it really gave on test images.

    Outliers of other data sets are cut in two: every other one, from the first, is searched, the rest is reported.
    """
    searched = np.concatenate([np.zeros(0), *(odd[name][::2] for name in labelled)])
    reported = np.concatenate([np.zeros(0), *(odd[name][1::2] for name in labelled)])
    rows = []
    for rule, kind in thresholds.THRESHOLDS.items():
        if kind.searches and not len(searched):
            continue
        two_sided = detector.score.two_sided
        found = thresholds.search(rule, detector.calibration, searched, detector.alpha, two_sided)
        row = {
            "threshold": rule,
            "alpha": None if kind.searches else detector.alpha,
            "belongs_from": None if np.isinf(found.low) else found.low,
            "belongs_to": found.high,
        }
        for what, values in {"false_alarm": normal, "detection": reported}.items():
            count = int(np.sum(~found.belongs(values)))
            low, high = thresholds.interval(count, len(values)) if len(values) else (None, None)
            rate = count / len(values) if len(values) else None
            row |= {f"{what}_rate": rate, f"{what}_least": low, f"{what}_most": high}
        rows.append(row)
    return rows


def brief(row: Row) -> Row:
    """Returns a threshold's row with each rate and its interval in one text."""

    def rate(what: str) -> str:
        found, least, most = (row[f"{what}_{part}"] for part in ("rate", "least", "most"))
        return "" if found is None else f"{found:.2%} ({least:.2%} to {most:.2%})"

    low = "" if row["belongs_from"] is None else f"{row['belongs_from']:.4g} to "
    return {
        "threshold": row["threshold"],
        "belongs": f"{low}{row['belongs_to']:.4g}",
        "false alarms": rate("false_alarm"),
        "detected": rate("detection"),
    }


def promise_rows(detector: Detector, normal: np.ndarray) -> list[Row]:
    """Returns a row for each alpha: what the law of false alarms allows, and what the test split gave."""
    rows, count, two_sided = [], len(detector.calibration), detector.score.two_sided
    for alpha in sorted({*ALPHAS, detector.alpha}):
        if alpha < thresholds.least_alpha(min(count, len(normal) // 2), two_sided):
            continue
        found = thresholds.search("conformal", detector.calibration, np.zeros(0), alpha, two_sided)
        low, high = thresholds.false_alarm_law(count, alpha, len(normal), two_sided).interval(0.99)
        rows.append(
            {
                "alpha": alpha,
                "test_rate": float(np.mean(~found.belongs(normal))),
                "least": low / len(normal),
                "most": high / len(normal),
                "halves_inside": halves_inside(normal, alpha, two_sided),
            }
        )
    return rows


def halves_inside(pool: np.ndarray, alpha: float, two_sided: bool) -> float:
    """Returns in which share of random cuts of scores into halves the false alarms keep to the law's 99% interval."""
    half, random = len(pool) // 2, np.random.default_rng(0)
    low, high = thresholds.false_alarm_law(half, alpha, len(pool) - half, two_sided).interval(0.99)
    inside = 0
    for _ in range(HALVES):
        mixed = random.permutation(pool)
        found = thresholds.search("conformal", mixed[:half], np.zeros(0), alpha, two_sided)
        inside += low <= np.sum(~found.belongs(mixed[half:])) <= high
    return inside / HALVES


def extremes_figure(sets: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> Figure:
    """Draws of each set the images with the smallest scores, and those with the largest, the easiest of all last."""
    pictures = {}
    for name, images in sets.items():
        order = np.argsort(ours[name], kind="stable")
        count = min(EXTREMES, len(order) // 2) if len(order) > 1 else 1
        hardest = {f"hard {number + 1}": images[at] / 255 for number, at in enumerate(order[:count])}
        easiest = {f"easy {number + 1}": images[at] / 255 for number, at in enumerate(order[::-1][:count])}
        pictures[_short(name)] = hardest | (easiest if len(order) > 1 else {})
    columns = [f"{kind} {number + 1}" for kind in ("hard", "easy") for number in range(EXTREMES)]
    return gallery(pictures, columns)


def curves_figure(normal: np.ndarray, odd: Mapping[str, np.ndarray]) -> Figure:
    """Draws detection rate against false alarms, and precision against detection rate, for each set."""
    roc, precision = {}, {}
    for name, values in odd.items():
        false_alarms, detections, _ = roc_curve(*_labelled(normal, values))
        precisions, recalls, _ = precision_recall_curve(*_labelled(normal, values))
        roc[name] = np.stack([false_alarms, detections], axis=1)
        precision[name] = np.stack([recalls, precisions], axis=1)
    return panels({("false-alarm rate", "detection rate"): roc, ("detection rate", "precision"): precision})


def _short(name: str) -> str:
    kind, colon, rest = name.partition(":")
    return rest.rstrip("/").rsplit("/", 1)[-1] if colon and kind == "folder" else name


def _labelled(normal: np.ndarray, odd: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([0, 1], [len(normal), len(odd)]), np.concatenate([normal, odd])
