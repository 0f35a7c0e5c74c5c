"""Values of tables as the page shows them: titles of columns, texts, and the numbers that columns are sorted by."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

FORMATS = {
    "mse": ".5f", "psnr": ".2f", "ssim": ".3f", "psnr_gain_db": ".2f", "classifier_accuracy": ".3f",
    "seconds_per_1000_images": ".3f", "nn_distance_ratio": ".3f", "endpoint_mse": ".5f", "confidence": ".3f",
    "max_step_ratio": ".2f", "auroc": ".4f", "aupr": ".4f", "fpr_at_95_tpr": ".4f", "tpr": ".4f",
    "frac_mse_below_inlier_median": ".4f",
}  # fmt: skip
"""Formats of columns on the page; others have four significant digits."""

TITLES = {
    "alpha": "target FPR (alpha)", "aupr": "AUPR", "auroc": "AUROC", "bits_per_pixel": "bits per pixel",
    "classifier_accuracy": "classifier accuracy", "empirical_coverage": "empirical coverage",
    "endpoint_mse": "MSE of end points", "expected_high": "expected, high", "expected_low": "expected, low",
    "false_positives": "false positives", "fpr": "FPR", "fpr_at_95_tpr": "FPR at 95% TPR",
    "fpr_ci_high": "FPR, high", "fpr_ci_low": "FPR, low", "fpr_label_known": "FPR, label known",
    "fpr_label_known_ci_high": "FPR, label known, high", "fpr_label_known_ci_low": "FPR, label known, low",
    "fpr_label_unknown": "FPR, label unknown", "fpr_label_unknown_ci_high": "FPR, label unknown, high",
    "fpr_label_unknown_ci_low": "FPR, label unknown, low",
    "frac_mse_below_inlier_median": "MSE below inlier median", "in_training_distribution": "trained on it",
    "max_step_ratio": "largest step / mean step", "mse": "MSE", "mse_fraction": "fraction of MSE",
    "mse_increase": "increase of MSE", "nn_distance_ratio": "distance ratio",
    "num_calibration_images": "calibration images", "num_distinct_labels": "distinct labels", "num_images": "images",
    "pair_type": "pairs", "params": "parameters", "psnr": "PSNR (dB)", "psnr_gain_db": "PSNR gain (dB)",
    "seconds_per_1000_images": "s / 1000 images", "ssim": "SSIM", "threshold_high": "upper threshold",
    "threshold_low": "lower threshold", "threshold_method": "threshold", "tpr": "TPR", "tpr_ci_high": "TPR, high",
    "tpr_ci_low": "TPR, low", "two_sided": "two-sided", "without_headers": "without headers",
}  # fmt: skip
"""Titles of columns on the page; others, such as names of noises and classes, are their own."""

_NUMBER = re.compile(r"([+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)%?\*?")


class Cell(NamedTuple):
    """A value as text, and the number that it is sorted by; None for a text."""

    text: str
    number: float | None


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, bool]:
    """Returns the columns of rows in order, and whether each has numbers only; None and empty texts aside."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [row.get(name) for row in rows] for name in names}
    return {
        name: all(make_cell(value, name).number is not None for value in each if value not in (None, ""))
        for name, each in values.items()
    }


def column_title(name: str) -> str:
    """Returns the title of a column."""
    return TITLES.get(name, name)


def make_cell(value: Any, column: str) -> Cell:
    """Returns a number as precise as its column usually is, an empty text for None, any other value as it is.

    A text such as '21.30*' or '98.1%' is sorted by its number.
    """
    if value is None:
        return Cell("", None)
    if isinstance(value, bool):
        return Cell("yes" if value else "no", None)
    if isinstance(value, float):
        return Cell(format(value, FORMATS.get(column, ".4g")), value)
    text = str(value)
    match = _NUMBER.fullmatch(text)
    return Cell(text, float(match[1]) if match else None)
