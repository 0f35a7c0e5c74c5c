"""The splits of a data set: how images are divided among them, and how a split is read."""

import abc
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cae.errors import UserError

Images = tuple[np.ndarray, np.ndarray]
"""Images, uint8 [n, height, width, channels], and their labels, int64 [n]."""

CHUNK_SIZE = 1024
"""Number of images that are read or written at a time."""

SPLITS = {
    "train": "fits the weights",
    "validation": "selects the best checkpoint",
    "calibration": "is reserved for thresholds",
    "test": "is what is reported",
}

# MNIST's sizes: 50,000 / 5,000 / 5,000 / 10,000. Other data sets are divided in proportion.
PROPORTIONS = {"train": 10, "validation": 1, "calibration": 1, "test": 2}
FULL_RESOLUTION_PROPORTIONS = {"train": 17, "validation": 1, "calibration": 1, "test": 1}
"""Of images that crops are cut out of: one is thousands of small images, so that few are enough to choose by."""


def chunk_slices(total: int) -> Iterator[slice]:
    """Yields slices of `CHUNK_SIZE` images, of which the last may end beyond `total`."""
    return (slice(start, start + CHUNK_SIZE) for start in range(0, total, CHUNK_SIZE))


class Split(abc.ABC):
    """Some of a data set's images, with their labels.

    Attributes:
      origin: Which images of the data set these are, in words.
      folder: The folder from which images are streamed; None if they are in memory.
      duplicates: Indices of the images that another split has too, int [n]; None if they are not known.
    """

    folder: Path | None = None
    duplicates: np.ndarray | None = None

    def __init__(self, num_images: int, origin: str):
        self._num_images, self.origin = num_images, origin

    def __len__(self) -> int:
        return self._num_images

    @abc.abstractmethod
    def read(self) -> Iterable[Images]:
        """Yields all images and labels in chunks."""

    @abc.abstractmethod
    def without(self, indices: np.ndarray, origin: str) -> "Split":
        """Returns the split without the images at some indices, int [n] in ascending order."""

    @abc.abstractmethod
    def load(self, max_bytes: int | None = None) -> Images:
        """Returns all images and labels; of images that are streamed only the first `num_loaded(max_bytes)`."""

    def num_loaded(self, max_bytes: int | None) -> int:
        """Returns how many images `load(max_bytes)` returns."""
        return len(self)

    def info(self) -> dict[str, Any]:
        """Returns what config.json and records.json say of this split."""
        return {"images": len(self), "origin": self.origin}


class ArraySplit(Split):
    """Images that are read as a whole, each time they are loaded.

    Args:
      num_images: Number of images.
      origin: Which images of the data set these are, in words.
      read: Yields all images and labels in chunks; a conversion to records holds one chunk at a time.
    """

    def __init__(self, num_images: int, origin: str, read: Callable[[], Iterable[Images]]):
        super().__init__(num_images, origin)
        self._read = read

    def read(self) -> Iterable[Images]:
        """Yields all images and labels in chunks."""
        return self._read()

    def without(self, indices: np.ndarray, origin: str) -> "ArraySplit":
        """Returns the split without the images at some indices, int [n] in ascending order."""

        def read() -> Iterator[Images]:
            start = 0
            for images, labels in self.read():
                kept = np.isin(np.arange(start, start + len(images)), indices, invert=True)
                yield images[kept], labels[kept]
                start += len(images)

        return ArraySplit(len(self) - len(indices), origin, read)

    def load(self, max_bytes: int | None = None) -> Images:
        """Returns all images and labels."""
        chunks = [*self.read()]
        if len(chunks) == 1:
            return chunks[0]
        images, labels = map(np.concatenate, zip(*chunks))
        return images, labels


def make_array_splits(option: str, images: np.ndarray, labels: np.ndarray, origin: str) -> dict[str, Split]:
    """Returns the four splits of images in memory; see `partition`."""
    return {
        name: ArraySplit(
            stop - start, f"{origin}[{start}:{stop}]", lambda part=slice(start, stop): [(images[part], labels[part])]
        )
        for name, (start, stop) in partition(option, len(images)).items()
    }


def partition(
    option: str, total: int, names: Sequence[str] = tuple(SPLITS), proportions: Mapping[str, int] = PROPORTIONS
) -> dict[str, tuple[int, int]]:
    """Divides images into consecutive splits in fixed proportions.

    Args:
      option: The flag and value that name the images, for the error.
      total: Number of images.
      names: Names of the splits.
      proportions: By name; `FULL_RESOLUTION_PROPORTIONS` may give a split more than its share, one image.

    Returns:
      The (start, stop) of each split by name; what is left over by rounding is in the first.

    Raises:
      UserError: There are too few images for one in each split.
    """
    shares = sum(proportions[name] for name in names)
    minimum = len(names) if proportions is FULL_RESOLUTION_PROPORTIONS else shares
    if total < minimum:
        raise UserError(f"{option} has {total} images; {minimum} are needed for {', '.join(names)}")
    sizes = [max(1, total * proportions[name] // shares) for name in names]
    sizes[0] += total - sum(sizes)
    return consecutive_bounds(dict(zip(names, sizes)))


def consecutive_bounds(sizes: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Returns the (start, stop) of each split by name, of splits of some sizes that follow each other."""
    return {name: (stop - sizes[name], stop) for name, stop in zip(sizes, itertools.accumulate(sizes.values()))}


def describe_splits(bounds: dict[str, tuple[int, int]], origin: str) -> dict[str, dict[str, Any]]:
    """Returns `Split.info` for each (start, stop) by name."""
    return {
        name: {"images": stop - start, "origin": f"{origin}[{start}:{stop}]"} for name, (start, stop) in bounds.items()
    }


def split_bounds(infos: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[int, int]]:
    """Returns the (start, stop) of each split by name, of what records.json says of the splits.

    A split begins at its `start`, or else where the one before it ends.
    """
    bounds = consecutive_bounds({name: infos[name]["images"] for name in SPLITS})
    starts = {name: infos[name].get("start", start) for name, (start, _) in bounds.items()}
    return {name: (start, start + infos[name]["images"]) for name, start in starts.items()}
