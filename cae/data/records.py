"""Random access to images and labels in a file.

A set is a folder with `records.bin`, rows of one size in the NumPy dtype `row_dtype(image_shape)`, and `records.json`,
which says how to read them. A row's position follows from its index, so that memory and start-up are the same for any
number of images.

Measured on 784-byte images, ArrayRecord reads random records at a tenth to a third of the speed, and its index of
1,000,000 records takes 20 to 50 MB unless records are grouped. Fixed rows need no index, and tell exactly which record
is damaged; what they lack is compression, which made files a third as large.
"""

import json
import os
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cae.config import Config
from cae.data.image_dataset import ImageDataset
from cae.data.splits import Images, Split, chunk_slices, split_bounds
from cae.errors import UserError

VERSION = 2

DATA, METADATA = "records.bin", "records.json"


def row_dtype(image_shape: tuple[int, int, int]) -> np.dtype:
    """Returns the type of a record; `checksum` is the CRC-32 of the other bytes, with the record's index as seed."""
    return np.dtype([("label", "<i8"), ("image", "u1", image_shape), ("checksum", "<u4")])


class Records:
    """A folder of records that is open for reading, by any number of threads.

    Attributes:
      folder: The folder.
      image_shape: The (height, width, channels) of the images.
      class_names: Names of the classes by label.
      splits: The splits by name; their images follow each other, unless records.json says where they start.
      fingerprint: A hash of the records, or of what they were converted from.
      skipped: Names of files that could not be read when the records were written.
      notes: Lines to print about what was read when the records were written.
    """

    def __init__(self, folder: Path):
        """Opens the folder; raises `UserError` if a file is missing, damaged or truncated, or of another version."""
        self.folder, self._path, metadata_path = folder, folder / DATA, folder / METADATA
        try:
            metadata = json.loads(metadata_path.read_text())
            if metadata["version"] != VERSION:
                raise UserError(f"{folder} was written by an earlier version: remove it, and write it again")
            self.image_shape: tuple[int, int, int] = tuple(metadata["image_shape"])
            self.class_names, self.skipped = tuple(metadata["class_names"]), tuple(metadata["skipped"])
            self.fingerprint, self._dtype, self.splits = metadata["fingerprint"], row_dtype(self.image_shape), {}
            self.notes = tuple(metadata.get("notes", ()))
            for name, (start, stop) in split_bounds(metadata["splits"]).items():
                self.splits[name] = RecordSplit(self, start, stop - start, metadata["splits"][name]["origin"])
            if "duplicates" in metadata:  # Records of earlier versions lack it.
                self.splits["train"].duplicates = np.array(metadata["duplicates"], np.int64)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{folder} has no {METADATA}; cae.write_records writes such a folder") from error
        except OSError as error:
            raise UserError(f"{metadata_path} cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError) as error:
            raise _damage_error(metadata_path, "is damaged") from error
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise _damage_error(self._path, f"cannot be read ({error.strerror})") from error
        weakref.finalize(self, os.close, self._descriptor)
        size, expected_size = os.fstat(self._descriptor).st_size, self.num_images * self._dtype.itemsize
        if size != expected_size:
            raise _damage_error(self._path, f"has {size:,} bytes instead of {expected_size:,}")

    @property
    def num_images(self) -> int:
        """Number of images in all splits."""
        return sum(len(split) for split in self.splits.values())

    def take(self, indices: np.ndarray) -> Images:
        """Returns the images and labels at some indices, int [n].

        Raises:
          UserError: A record is not as it was written; the message names the file and the record.
        """
        size, indices = self._dtype.itemsize, indices.tolist()
        try:
            rows = [os.pread(self._descriptor, size, index * size) for index in indices]
        except OSError as error:
            raise _damage_error(self._path, f"cannot be read ({error.strerror})") from error
        for index, row in zip(indices, rows):
            if len(row) < size:
                raise _damage_error(self._path, "was truncated while it was in use")
            if zlib.crc32(row[:-4], index) != int.from_bytes(row[-4:], "little"):
                raise _damage_error(self._path, f"is damaged at record {index}")
        records = np.frombuffer(b"".join(rows), self._dtype)
        return records["image"].copy(), records["label"].astype(np.int64)


class RecordSplit(Split):
    """Consecutive records, read when they are needed; some of them may be left out."""

    def __init__(self, records: Records, start: int, num_images: int, origin: str, left_out: np.ndarray | None = None):
        super().__init__(num_images, origin)
        self.records, self.folder, self._start = records, records.folder, start
        # The number of images of this split before each record that is left out.
        self._before = np.zeros(0, np.int64) if left_out is None else left_out - np.arange(len(left_out))

    def take(self, indices: np.ndarray) -> Images:
        """Returns the images and labels at some indices, int [n], of this split; see `Records.take`."""
        return self.records.take(self._start + indices + np.searchsorted(self._before, indices, side="right"))

    def read(self) -> Iterator[Images]:
        """Yields all images and labels in chunks."""
        indices = np.arange(len(self))
        return (self.take(indices[chunk]) for chunk in chunk_slices(len(self)))

    def without(self, indices: np.ndarray, origin: str) -> "RecordSplit":
        """Returns the split without the images at some indices, int [n] in ascending order; only once."""
        return RecordSplit(self.records, self._start, len(self) - len(indices), origin, indices)

    def num_loaded(self, max_bytes: int | None) -> int:
        """Returns how many images `load(max_bytes)` returns: 1 or more."""
        image_bytes = int(np.prod(self.records.image_shape))
        return len(self) if max_bytes is None else min(len(self), max(1, max_bytes // image_bytes))

    def load(self, max_bytes: int | None = None) -> Images:
        """Returns the first images and their labels: `max_bytes` of images at most, by default all."""
        count = self.num_loaded(max_bytes)
        images, labels = np.empty([count, *self.records.image_shape], np.uint8), np.empty(count, np.int64)
        indices = np.arange(count)
        for chunk in chunk_slices(count):
            images[chunk], labels[chunk] = self.take(indices[chunk])
        return images, labels


def _damage_error(path: Path, problem: str) -> UserError:
    return UserError(f"{path} {problem}: remove {path.parent}, and write it again")


def open_records(config: Config) -> ImageDataset:
    """Returns the data set of --dataset=records:PATH; raises `UserError` for an image size that it does not have."""
    records = Records(Path(config.dataset.partition(":")[2]).expanduser())
    height, width, channels = records.image_shape
    requested = (config.image_size or height, config.image_size or width, config.channels or channels)
    if requested != records.image_shape:
        flags = [f"--{name}={getattr(config, name)}" for name in ("image_size", "channels") if getattr(config, name)]
        raise UserError(
            f"--dataset={config.dataset} has images of {height}x{width}x{channels}; {' and '.join(flags)} not supported"
        )
    return as_dataset(config.dataset, records)


def as_dataset(name: str, records: Records) -> ImageDataset:
    """Returns the data set that some records contain."""
    attributes = ("image_shape", "class_names", "splits", "fingerprint", "skipped", "notes")
    return ImageDataset(name=name, **{each: getattr(records, each) for each in attributes})
