"""The folder of each checkpoint: TensorFlow's files, and a manifest with their digests.

    checkpoints/step-000000123/                   at any step
    checkpoints/step-000000200-epoch-0002/        at the end of an epoch, after its validation
    checkpoints/best-000000200/                   of the lowest validation loss

A folder is written under a temporary name, flushed to the disk and renamed: the rename is the commit, so that a save
that is killed at any moment leaves no checkpoint that looks complete. Digests are verified before a checkpoint is read,
since TensorFlow does not check all of an index file.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

PREFIX, TEMPORARY = "ckpt", ".tmp"

_MANIFEST = "metadata.json"

CORRUPTION_ERRORS = (OSError, tf.errors.OpError, AssertionError, LookupError, RuntimeError, ValueError, TypeError)
"""TensorFlow raises any of these, depending on which file of a checkpoint is truncated, changed or missing."""


def list_checkpoints(folder: Path, kind: str = "step") -> list[Path]:
    """Returns the committed checkpoints of a kind, 'step' or 'best', the newest first.

    TensorFlow's own list of them, the file `checkpoint`, is not used: where that is corrupt, a run would start again.
    """
    paths = [path for path in folder.glob(f"{kind}-[0-9]*") if not path.suffix and path.is_dir()]
    return sorted(paths, key=lambda path: (get_step(path), path.name), reverse=True)


def get_step(path: Path) -> int:
    """Returns the step at which a checkpoint was saved."""
    return int(path.name.split("-")[1])


def is_end_of_epoch(path: Path) -> bool:
    """Returns whether a checkpoint was saved at the end of an epoch."""
    return path.name.startswith("best") or "-epoch-" in path.name


def commit(temporary: Path, path: Path, manifest: dict[str, Any]) -> None:
    """Adds the manifest to a checkpoint in a temporary folder, flushes both to the disk, and gives it its final name.

    It replaces a corrupt checkpoint of that name, or a best one before a rollback.
    """
    text = json.dumps(manifest | {"sha256": _compute_digests(temporary)}, indent=2)
    (temporary / _MANIFEST).write_text(text + "\n")
    for each in [*sorted(temporary.iterdir()), temporary]:
        _fsync(each)
    if path.is_dir():
        remove(path)
    temporary.rename(path)
    _fsync(path.parent)


def remove(path: Path) -> None:
    """Removes a checkpoint; it is renamed first, since one without some of its files would look corrupt."""
    shutil.rmtree(path.rename(path.with_suffix(".removed" + TEMPORARY)))


def remove_temporary_folders(folder: Path) -> None:
    """Removes what a process that was killed had not written or not removed completely."""
    for path in folder.glob(f"*{TEMPORARY}"):
        shutil.rmtree(path)


def verify(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's manifest; raises one of `CORRUPTION_ERRORS` where a file is not as it was written."""
    manifest = json.loads((path / _MANIFEST).read_text())
    if manifest.pop("sha256") != _compute_digests(path):
        raise ValueError(f"{path} is not as it was written")
    return manifest


def verify_earlier(prefix: Path) -> None:
    """Verifies a checkpoint of an earlier version, which has a list of digests as `sha256sum` prints it, or none."""
    digests, listing = _compute_digests(prefix.parent, f"{prefix.name}.[di]*"), prefix.with_suffix(".sha256")
    if listing.exists() and listing.read_text() != "".join(f"{value}  {name}\n" for name, value in digests.items()):
        raise ValueError(f"{prefix} is not as it was written")


def _compute_digests(folder: Path, pattern: str = f"{PREFIX}.*") -> dict[str, str]:
    return {file.name: _compute_digest(file) for file in sorted(folder.glob(pattern))}


def _compute_digest(path: Path) -> str:
    with path.open("rb") as file:  # Not read as a whole: checkpoints may be as large as the memory.
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
