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
from cae.outliers.scores import SCORES

FOLDER = "detector"

# What detector.json contains; one without all of these is of an earlier version.
KEYS = {
    "score", "threshold_method", "alpha", "threshold_low", "threshold_high", "step", "num_calibration_images",
    "background", "pixel_threshold", "arrays_sha256",
}  # fmt: skip


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
    if metadata.get("score_version", 1) != SCORES[metadata["score"]].version:
        return "contains a detector of an earlier version"
    return None if metadata["step"] == step else "has a newer model than its detector"
