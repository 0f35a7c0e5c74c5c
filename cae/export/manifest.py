"""What export.json says of a run, of its functions and of its detector."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from cae.export.functions import ExportFunction
from cae.export.graph_detector import GraphDetector
from cae.export.onnx_files import OPSET
from cae.outliers.anomaly_map import PIXEL_ALPHA
from cae.run import Run

_PACKAGES = ("cae", "tensorflow", "keras", "numpy", "onnx", "onnxruntime", "tf2onnx", "ai-edge-litert")

_DIMENSIONS = ("batch", "height", "width")

_RANGES = {
    "images": [0, 1], "denoised": [0, 1], "reconstructed": [0, 1], "alpha": [0, 1], "p_value": [0, 1],
    "anomaly_map": [0, None],
}  # fmt: skip
"""The smallest and the largest value of inputs and outputs; others may have any."""


def describe_run(run: Run) -> dict[str, Any]:
    """Returns what was exported, and by which versions."""
    return {
        "versions": {"python": platform.python_version()} | _package_versions() | {"onnx_opset": OPSET},
        "model": run.config.model,
        "dataset": run.run_config["dataset"]["name"],
        "step": run.step,
        "trained_in": run.config.precision,
        "image_shape": list(run.image_shape),
        "tile_multiple": run.tile_multiple,
    }


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # An extra that is not installed, or a checkout.
            continue
    return versions


def describe_functions(functions: Sequence[ExportFunction]) -> dict[str, Any]:
    """Returns the inputs and outputs of functions: shapes, dtypes and ranges."""
    return {
        "functions": {
            each.name: {
                "inputs": {spec.name: _describe(spec.name, spec) for spec in each.inputs},
                "outputs": {name: _describe(name, spec) for name, spec in each.outputs.items()},
            }
            for each in functions
        }
    }


def _describe(name: str, spec: tf.TensorSpec) -> dict[str, Any]:
    shape = [axis_name if size is None else size for size, axis_name in zip(spec.shape, (*_DIMENSIONS, "channels"))]
    return {"shape": shape, "dtype": spec.dtype.name, "range": _RANGES.get(name)}


def describe_detector(detector: GraphDetector) -> dict[str, Any]:
    """Returns what decides on images, and at which false positive rates it can."""
    return {
        "score": detector.score_name,
        "threshold_method": detector.method,
        "two_sided": detector.two_sided,
        "default_alpha": detector.default_alpha,
        "min_alpha": detector.min_alpha,
        "calibration_images": len(detector.calibration_scores),
        "calibration_images_by_class": detector.classes.counts() if detector.classes else None,
        "pixels_above_1": PIXEL_ALPHA,
    }


def size_of(path: Path) -> int:
    """Returns the size of a file, or of all files in a folder, in bytes."""
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())
