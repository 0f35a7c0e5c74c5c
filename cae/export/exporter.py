"""The folder of an export: written whole or not at all, once every file in it was run on test images."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cae.data.arrays import to_float
from cae.data.image_dataset import ImageDataset
from cae.data.resizing import inversion_background
from cae.export import keras_file, litert_files, manifest, onnx_files, parity, saved_model
from cae.export.functions import Exported, make_functions, rebuild_in_float32
from cae.export.graph_detector import GraphDetector
from cae.io_utils import atomic_folder
from cae.models import get_model_spec
from cae.outliers.detector import Detector
from cae.outliers.forward import make_batches
from cae.run import Run

WRITERS = {module.NAME: module.write for module in (saved_model, onnx_files, litert_files, keras_file)}
"""What writes functions in the formats of `FORMATS`."""

REPRESENTATIVE_IMAGES = 256
"""Training images on whose activations the ranges of integers are based."""


@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """What is exported.

    Attributes:
      output: The folder to write, which does not exist.
      formats: Keys of `FORMATS`.
      functions: Names of `FUNCTIONS`, which the model has; detect only with a detector.
      parity_images: Number of test images on which files are compared with the model.
    """

    output: Path
    formats: Sequence[str]
    functions: Sequence[str]
    parity_images: int


def export(run: Run, detector: Detector | None, dataset: ImageDataset, options: ExportOptions) -> dict[str, Any]:
    """Writes functions of a run's model and detector.

    Args:
      run: The run.
      detector: Its detector, for detect.
      dataset: Its data set.
      options: What is exported.

    Returns:
      The content of export.json.

    Raises:
      UserError: A score can't be exported, or a file computes something else than the model.
    """
    model, graph_detector = rebuild_in_float32(run.config, run.model, run.image_shape), None
    if "detect" in options.functions:
        graph_detector = GraphDetector(model, detector, *dataset.load("calibration"))
    functions = make_functions(options.functions, model, get_model_spec(run.config.model).free_sides, graph_detector)
    test, train = to_float(dataset.load("test")[0]), dataset.load("train")[0]
    representative = to_float(train[:REPRESENTATIVE_IMAGES])
    with atomic_folder(options.output) as folder:
        exported = [
            each for name in options.formats for each in WRITERS[name](functions, model, folder, representative)
        ]
        content = manifest.describe_run(run) | manifest.describe_functions(functions)
        content |= {"background": inversion_background(train), "parity_images": min(len(test), options.parity_images)}
        content["files"] = _measure(exported, model, test[: options.parity_images], folder)
        if graph_detector:
            detecting = [each for each in exported if each.function.name == "detect"]
            decisions = parity.measure_decisions(detecting, graph_detector, test)
            content["detector"] = manifest.describe_detector(graph_detector) | {"decisions": decisions}
        (folder / "export.json").write_text(json.dumps(content, indent=2) + "\n")
    return content


def _measure(
    exported: Sequence[Exported], model: keras.Model, images: np.ndarray, folder: Path
) -> list[dict[str, Any]]:
    """Returns what export.json says of the files."""
    codes = None
    if hasattr(model, "encode"):
        codes = np.concatenate([model.encode(batch).numpy() for batch in make_batches(images)])
    rows = parity.measure_files(exported, images, codes)
    return [
        {"format": each.format, "function": each.function.name, "path": each.path, "precision": each.precision}
        | {"bytes": manifest.size_of(folder / each.path)}
        | row
        for each, row in zip(exported, rows)
    ]


def summarize(content: Mapping[str, Any]) -> list[str]:
    """Returns lines for the user on the content of export.json."""
    lines = []
    for row in content["files"]:
        difference = parity.largest_difference(row["largest_difference"])
        lines.append(
            f"{row['path']}: {row['function']}, {row['bytes'] / 1e6:.2f} MB, largest difference {difference:.1e} on"
            f" {content['parity_images']:,} test images, {row['milliseconds']:.2f} ms an image"
        )
    if "detect" in content["functions"]:
        for alpha, row in content["detector"]["decisions"].items():
            different, expected = sum(row["different_decisions"].values()), f"at most {alpha} in each class"
            if row["interval_99"]:
                expected = "{:.4f} to {:.4f}".format(*row["interval_99"])
            lines.append(
                f"detect, alpha {alpha}: false positive rate {row['false_positive_rate']:.4f} on {row['images']:,} test"
                f" images, expected {expected}; {different} decisions differ between files,"
                f" {row['images_near_threshold']} scores within rounding errors of the threshold left out"
            )
        if any(row["format"] == "keras" for row in content["files"]):
            lines.append("model.keras is the model alone: detect is left out of --format=keras")
    return lines
