"""How closely exported files agree with the model, and exported decisions with each other and with the false positive
rate that they promise."""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cae.errors import UserError
from cae.export.functions import Arrays, Exported, ExportFunction, tensors
from cae.export.graph_detector import MAX_BATCH_SIZE, GraphDetector
from cae.outliers.conformal import fpr_distribution

ALPHAS = (0.01, 0.05)
"""False positive rates at which decisions are compared."""

NEAR_THRESHOLD = 1e-4
"""Scores that differ from a threshold by less than this fraction of it may fall on either side in another file."""

MAX_DIFFERENCE = {"float32": 1e-3}
"""A file of a precision with a larger difference is not what it should be, and nothing is exported."""

TIMED_CALLS = 30

Call = Callable[..., dict[str, np.ndarray]]


def call_in_batches(call: Call, arrays: Arrays) -> dict[str, np.ndarray]:
    """Calls a function with batches of arrays [n, ...], scalars unchanged, and returns its outputs, [n, ...]."""
    count = max(len(array) for array in arrays.values() if array.ndim)
    batches = [
        call(**{name: array[start : start + MAX_BATCH_SIZE] if array.ndim else array for name, array in arrays.items()})
        for start in range(0, count, MAX_BATCH_SIZE)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def make_inputs(function: ExportFunction, images: np.ndarray, codes: np.ndarray | None) -> Arrays:
    """Returns the inputs of a function for images, float32 [n, height, width, channels], or for their codes."""
    arrays = {"images": images, "codes": codes, "alpha": np.array(ALPHAS[0], np.float32)}
    return {spec.name: arrays[spec.name] for spec in function.inputs}


def largest_differences(actual: Arrays, expected: Arrays) -> dict[str, float]:
    """Returns the largest difference in each output.

    It is absolute in 0..1, relative to larger values, and relative to the score or to the median score for scores,
    whose scale may be any; of an output with another shape it is infinite.
    """
    differences = {name: np.inf for name, values in expected.items() if actual[name].shape != values.shape}
    # Which decisions differ is counted, see `measure_decisions`.
    floats = {name: values.astype(np.float64) for name, values in expected.items() if values.dtype != bool}
    for name, values in ((name, values) for name, values in floats.items() if name not in differences):
        least = max(np.median(np.abs(values)), np.finfo(np.float32).tiny) if name == "score" else 1.0
        differences[name] = float(np.max(np.abs(actual[name] - values) / np.maximum(np.abs(values), least)))
    return differences


def largest_difference(differences: Mapping[str, float]) -> float:
    """Returns the largest of `largest_differences`, NaN if one is.

    Of p-values finite differences are left out: rounding moves them by 1 / (n + 1) or not.
    """
    return float(np.max([each for name, each in differences.items() if name != "p_value" or not np.isfinite(each)]))


def measure_milliseconds(call: Call, arrays: Arrays) -> float:
    """Returns the median time of a call with a single image, in milliseconds, after some calls that warm up."""
    first, times = {name: array[:1] if array.ndim else array for name, array in arrays.items()}, []
    for _ in range(TIMED_CALLS):
        start = time.perf_counter()
        call(**first)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times[TIMED_CALLS // 4 :]))


def measure_files(
    exported: Sequence[Exported], images: np.ndarray, codes: np.ndarray | None
) -> list[dict[str, object]]:
    """Compares each file with the model.

    Args:
      exported: Functions in files.
      images: Test images, float32 [n, height, width, channels] in 0..1.
      codes: Their latent vectors [n, latent_dim], if the model has any.

    Returns:
      For each of `exported`, the largest difference by output, and the milliseconds for one image of the file and of
      the model in Python.

    Raises:
      UserError: A file computes something else than the model: in float32 by more than rounding, else not numbers or
        outputs of another shape.
    """
    rows, expected, python = [], {}, {}
    for each in exported:
        name, inputs = each.function.name, make_inputs(each.function, images, codes)
        if name not in expected:
            expected[name] = call_in_batches(each.function, inputs)
            python[name] = measure_milliseconds(each.function, inputs)
        differences = largest_differences(call_in_batches(each.call, inputs), expected[name])
        if not largest_difference(differences) <= MAX_DIFFERENCE.get(each.precision, np.finfo(np.float64).max):
            text = ", ".join(f"{output} {difference:.2g}" for output, difference in differences.items())
            raise UserError(f"--format={each.format}: {name} computes something else than the model, by {text}")
        milliseconds = {"milliseconds": measure_milliseconds(each.call, inputs), "python_milliseconds": python[name]}
        rows.append({"largest_difference": differences} | milliseconds)
    return rows


def measure_decisions(
    exported: Sequence[Exported], detector: GraphDetector, images: np.ndarray
) -> dict[str, dict[str, object]]:
    """Compares the decisions of each file with those of the same functions in Python, and the false positive rate.

    Args:
      exported: The function detect in files.
      detector: What they decide by.
      images: The test split, float32 [n, height, width, channels] in 0..1.

    Returns:
      By alpha: the false positive rate on how many images, the 99% interval of its exact distribution (None with
      class-conditional thresholds), the number of images whose scores are near a threshold, and for each file the
      number of other images that it decides otherwise.
    """

    def call_detector(**arrays: np.ndarray) -> Arrays:
        return {name: value.numpy() for name, value in detector(**tensors(arrays)).items()}

    rows = {}
    for alpha in (alpha for alpha in ALPHAS if alpha >= detector.min_alpha):
        inputs = {"images": images, "alpha": np.array(alpha, np.float32)}
        expected = call_in_batches(call_detector, inputs)
        is_near = is_near_threshold(detector, expected["score"], alpha)
        different = {
            each.path: int(
                np.sum(~is_near & (call_in_batches(each.call, inputs)["is_inlier"] != expected["is_inlier"]))
            )
            for each in exported
        }
        interval = None  # The distribution of the rate of class-conditional thresholds depends on the classes.
        if detector.classes is None:
            distribution = fpr_distribution(len(detector.calibration_scores), alpha, len(images), detector.two_sided)
            interval = [float(end) / len(images) for end in distribution.interval(0.99)]
        rows[f"{alpha:g}"] = {
            "false_positive_rate": float(1 - expected["is_inlier"].mean()),
            "interval_99": interval,
            "images": len(images),
            "images_near_threshold": int(is_near.sum()),
            "different_decisions": different,
        }
    return rows


def is_near_threshold(detector: GraphDetector, scores: np.ndarray, alpha: float) -> np.ndarray:
    """Returns which scores [n] may fall on either side of a threshold by rounding, bool [n]."""
    threshold = detector.threshold(alpha)
    ends = [end for end in (threshold.low, threshold.high) if np.isfinite(end)]
    return np.any([np.abs(scores - end) < NEAR_THRESHOLD * abs(end) for end in ends], axis=0)
