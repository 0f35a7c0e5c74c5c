"""Writes folders of records, whole or not at all; see `cae.data.records` for their format."""

import contextlib
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import filelock
import numpy as np

from cae.data.duplicates import find_duplicates, hash_images
from cae.data.records import DATA, METADATA, VERSION, row_dtype
from cae.data.splits import (
    SPLITS,
    Images,
    chunk_slices,
    consecutive_bounds,
    describe_splits,
    partition,
    split_bounds,
)  # fmt: skip
from cae.errors import UserError
from cae.io_utils import atomic_write

_PARTIAL = ".partial"


class RecordWriter:
    """Appends images to an open file of records.

    Attributes:
      num_images: Number of images written so far.
      image_shape: The (height, width, channels) of the images; None before the first.
      hash: The hash of the records.
      image_hashes: Hashes of the images, uint64 [n] of each chunk.
    """

    def __init__(self, file: IO[bytes], on_progress: Callable[[int], object]):
        self.num_images, self.image_shape, self.hash = 0, None, hashlib.sha256()
        self.image_hashes: list[np.ndarray] = []
        self._file, self._on_progress = file, on_progress

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Appends images, uint8 [n, height, width, channels], and labels, int [n]; raises `UserError` for others."""
        images, labels = np.asarray(images), np.asarray(labels)
        if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
            raise UserError(f"images of shape {images.shape} are not [n, height, width, channels] with 1 or 3 channels")
        self.image_shape = self.image_shape or images.shape[1:]
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            expected = "x".join(map(str, self.image_shape))
            raise UserError(f"images must be uint8 of {expected} as the first ones, not {images.dtype} {images.shape}")
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or (labels < 0).any():
            raise UserError(f"labels must be {len(images)} integers of 0 or more, one for each image")
        for chunk in chunk_slices(len(images)):
            records = np.empty(len(images[chunk]), row_dtype(self.image_shape))
            records["image"], records["label"] = images[chunk], labels[chunk]
            rows = records.view(np.uint8).reshape(len(records), -1)
            records["checksum"] = [zlib.crc32(row, index) for index, row in enumerate(rows[:, :-4], self.num_images)]
            self.hash.update(rows)
            self.image_hashes.append(hash_images(images[chunk]))
            self._file.write(rows)
            self.num_images += len(records)
            self._on_progress(len(records))


WriteImages = Callable[[RecordWriter], Mapping[str, Any]]
"""Adds all images to a writer and returns what records.json says of them: `class_names`; `splits`, a `Split.info` by
name, in the order of the images or with a `start`; optionally `fingerprint`, a hash of what they were read from,
`skipped`, names of files that could not be read, and `notes`, lines to print."""


def write_records(
    folder: str | os.PathLike,
    chunks: Iterable[Images],
    class_names: Sequence[str] = (),
    splits: Mapping[str, int] | None = None,
) -> None:
    """Writes images to a new folder for --dataset=records:PATH, whole or not at all, one chunk at a time.

    Args:
      folder: The folder; must not exist.
      chunks: Tuples of images, uint8 [n, height, width, channels] with 1 or 3 channels, and labels, int [n]; zeros for
        unlabeled images.
      class_names: Names of the classes by label.
      splits: Number of images of train, validation, calibration and test, which follow each other in this order. By
        default they are 10 : 1 : 1 : 2; images should then be in random order, so that each split is a random sample.

    Raises:
      UserError: Images differ in shape or type, the splits' sizes do not add up, or the folder exists or cannot be
        written.
    """
    folder = Path(folder).expanduser()

    def write(writer: RecordWriter) -> dict[str, Any]:
        max_label = 0
        for images, labels in chunks:
            writer.add(images, labels)
            max_label = max(max_label, int(np.max(labels, initial=0)))
        if max_label >= max(len(class_names), 1):
            raise UserError(f"label {max_label} has no name among the {len(class_names)} class names")
        return {"class_names": [*class_names], "splits": _describe_sizes(folder, writer.num_images, splits)}

    if folder.exists() or not create(folder, write):
        raise UserError(f"{folder} already exists; use a new folder")


def _describe_sizes(folder: Path, total: int, sizes: Mapping[str, int] | None) -> dict[str, dict[str, Any]]:
    if sizes is None:
        return describe_splits(partition(str(folder), total), "")
    if set(sizes) != set(SPLITS) or min(sizes.values()) < 1 or sum(sizes.values()) != total:
        raise UserError(f"splits must be {', '.join(SPLITS)}, of 1 image or more each and {total} in all")
    return describe_splits(consecutive_bounds({name: sizes[name] for name in SPLITS}), "")


# --- Atomic creation --------------------------------------------------------------------------------------------------


def create(
    folder: Path, write: WriteImages, on_progress: Callable[[int], object] = lambda count: None, advice: str = ""
) -> bool:
    """Creates a folder of records, whole or not at all; another process that is creating it is waited for.

    Args:
      folder: The folder.
      write: Adds all images to a writer and describes them.
      on_progress: Called with the number of images that were written since the last call.
      advice: What the message of an error ends with.

    Returns:
      Whether it was created; False if it exists.

    Raises:
      UserError: The disk is full, or the folder cannot be written.
    """

    def fill(partial: Path) -> None:
        with atomic_write(partial / DATA, "wb") as file:
            writer = RecordWriter(file, on_progress)
            metadata = write(writer)
        header = {"version": VERSION, "image_shape": writer.image_shape}
        duplicates = find_duplicates(writer.image_hashes, split_bounds(metadata["splits"]))
        defaults = {"fingerprint": writer.hash.hexdigest(), "skipped": [], "duplicates": duplicates.tolist()}
        with atomic_write(partial / METADATA) as file:
            json.dump(header | defaults | metadata, file, indent=2)

    return create_folder(folder, fill, "records", advice)


def create_folder(folder: Path, fill: Callable[[Path], None], content: str, advice: str = "") -> bool:
    """Creates a folder, whole or not at all; another process that is creating it is waited for.

    Args:
      folder: The folder.
      fill: Writes the files to a folder that gets this name at the end.
      content: What they are, for the message of an error.
      advice: What that message ends with.

    Returns:
      Whether it was created; False if it exists.

    Raises:
      UserError: The disk is full, or the folder cannot be written.
    """
    partial = folder.with_name(folder.name + _PARTIAL)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with acquire_lock(folder):
            if folder.exists():
                return False
            shutil.rmtree(partial, ignore_errors=True)  # Of a process that was killed.
            partial.mkdir()
            try:
                fill(partial)
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise UserError(f"cannot write {content} to {folder}: {error.strerror or error}{advice}") from error
    return True


def remove_stale_partials(parent: Path) -> None:
    """Removes incomplete folders that killed processes left in a folder."""
    for partial in parent.glob(f"*{_PARTIAL}"):
        with contextlib.suppress(OSError), _lock(partial.with_name(partial.name.removesuffix(_PARTIAL))).acquire(0):
            shutil.rmtree(partial, ignore_errors=True)


def _lock(folder: Path) -> filelock.FileLock:
    return filelock.FileLock(folder.with_name(f".{folder.name}.lock"))


def acquire_lock(folder: Path) -> filelock.AcquireReturnProxy:
    """Returns a context in which no other process writes a folder, whose parent exists."""
    lock = _lock(folder)
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"another process is writing {folder}: waiting for it", flush=True)
        return lock.acquire()
