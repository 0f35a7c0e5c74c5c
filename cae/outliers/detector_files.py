"""The files of a saved outlier detector, in the folder of a run: detector.json and arrays.npz."""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cae.errors import UserError
from cae.io_utils import atomic_write
from cae.outliers.calibration_classes import CalibrationClasses
from cae.outliers.scores import SCORES, get_score
from cae.outliers.thresholds import Threshold

FOLDER = "detector"

# What detector.json contains, beside the names of classes where images are labeled; one without all of these is of an
# earlier version.
KEYS = {
    "score", "threshold_method", "alpha", "threshold_low", "threshold_high", "step", "num_calibration_images",
    "background", "pixel_threshold", "arrays_sha256",
}  # fmt: skip

_PLAIN_FIELDS = ("alpha", "step", "background", "pixel_threshold")
"""Fields of `Detector` that detector.json contains as they are."""


def pack(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns metadata and arrays, as `write` takes them, of the fields of `Detector` by name, without its model."""
    threshold, classes = fields["threshold"], fields["classes"]
    metadata = {
        "score": fields["score_name"],
        "score_version": fields["score"].version,
        "threshold_method": fields["method"],
        "threshold_low": None if np.isinf(threshold.low) else threshold.low,
        "threshold_high": threshold.high,
        "num_calibration_images": len(fields["calibration_scores"]),
    } | {name: fields[name] for name in _PLAIN_FIELDS}
    arrays = {"calibration_scores": fields["calibration_scores"]}
    if classes:
        metadata["class_names"] = [*classes.names.items()]
        arrays["calibration_labels"] = classes.labels
    return metadata, arrays | {f"score_{name}": array for name, array in fields["score"].state.items()}


def unpack(metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the fields of `Detector` that `pack` packed, by name."""
    low = -np.inf if metadata["threshold_low"] is None else metadata["threshold_low"]
    state = {name.removeprefix("score_"): array for name, array in arrays.items() if name.startswith("score_")}
    labels = arrays.get("calibration_labels")  # Those of earlier versions and of unlabeled images have none.
    return {
        "score_name": metadata["score"],
        "score": get_score(metadata["score"])(**state),
        "calibration_scores": arrays["calibration_scores"],
        "method": metadata["threshold_method"],
        "threshold": Threshold(metadata["threshold_high"], low),
        "classes": None if labels is None else CalibrationClasses(labels, dict(metadata["class_names"])),
    } | {name: metadata[name] for name in _PLAIN_FIELDS}


def write(workdir: Path, metadata: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a detector to the folder of a run.

    Args:
      workdir: The run's folder.
      metadata: The values of `KEYS`, except the checksum.
      arrays: Arrays by name.
    """
    folder, buffer = workdir / FOLDER, io.BytesIO()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(buffer, **arrays)
    metadata = {**metadata, "arrays_sha256": hashlib.sha256(buffer.getbuffer()).hexdigest()}
    # Without detector.json there is no detector: it is removed first and written last.
    (folder / "detector.json").unlink(missing_ok=True)
    with atomic_write(folder / "arrays.npz", "wb") as file:
        file.write(buffer.getbuffer())
    with atomic_write(folder / "detector.json") as file:
        file.write(json.dumps(metadata, indent=2) + "\n")


def read(workdir: Path, step: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns what `write` wrote: metadata and arrays.

    Args:
      workdir: The run's folder.
      step: The step of the checkpoint that the detector must belong to.

    Raises:
      UserError: There is no detector, or it is damaged, of another checkpoint or of an earlier version.
    """
    metadata = _load_metadata(workdir)
    if reason := _find_mismatch(metadata, step):
        raise UserError(f"--workdir={workdir} {reason}; run eval.py --workdir={workdir} --tasks=outliers")
    try:
        data = (workdir / FOLDER / "arrays.npz").read_bytes()
        # Verified before it is parsed: a corrupt FAISS index may crash the process.
        if hashlib.sha256(data).hexdigest() != metadata["arrays_sha256"]:
            raise ValueError("arrays.npz does not match its checksum")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return metadata, {name: arrays[name] for name in arrays}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{workdir / FOLDER} is damaged; eval.py --tasks=outliers fits it again") from error


def contains(workdir: Path, step: int, expected: Mapping[str, str]) -> bool:
    """Returns whether the folder of a run has a detector of a checkpoint's step, with some values of detector.json."""
    metadata = _load_metadata(workdir)
    return not _find_mismatch(metadata, step) and expected.items() <= metadata.items()


def _load_metadata(workdir: Path) -> dict[str, Any] | None:
    """Returns the content of detector.json; None if it is missing or can't be parsed."""
    try:
        metadata = json.loads((workdir / FOLDER / "detector.json").read_text())
    except (OSError, ValueError):
        return None
    return metadata if isinstance(metadata, dict) else None


def _find_mismatch(metadata: dict[str, Any] | None, step: int) -> str | None:
    """Returns why a saved detector can't be used with the checkpoint of a step; None if it can."""
    if metadata is None:
        return "contains no detector"
    if not metadata.keys() >= KEYS:
        return "contains a detector of an earlier version"
    # Detectors of earlier versions do not say.
    if metadata.get("score_version", 1) != getattr(SCORES.get(metadata["score"]), "version", 1):
        return "contains a detector of an earlier version"
    return None if metadata["step"] == step else "has a newer model than its detector"
