"""Images that are in the train split and in another one: found by a hash of their pixels, described and removed."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from cae.data.image_dataset import ImageDataset
from cae.data.splits import ArraySplit, Split, consecutive_bounds
from cae.errors import UserError

ADVICE = "--remove_duplicates removes such images from training"
"""The end of the line that counts duplicates."""

_MAX_EXAMPLES = 3

Bounds = Mapping[str, tuple[int, int]]
"""The (start, stop) of each split by name, in the order in which images were hashed."""


def hash_images(images: np.ndarray) -> np.ndarray:
    """Returns a hash of each image, uint64 [n]; that two of a million differing images have one is improbable."""
    digests = (hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images)
    return np.frombuffer(b"".join(digests), np.uint64)


def find_duplicates(image_hashes: Sequence[np.ndarray], bounds: Bounds) -> np.ndarray:
    """Returns the indices of the train images that another split has too, int64 [n] in ascending order.

    Args:
      image_hashes: Hashes of all images, uint64 [n] of each chunk.
      bounds: Where the splits are among them.
    """
    hashes = _hashes_by_split(image_hashes, bounds)
    train = hashes.pop("train")
    return np.flatnonzero(np.isin(train, np.concatenate([*hashes.values()])))


def describe_duplicates(
    image_hashes: Sequence[np.ndarray],
    bounds: Bounds,
    names: Sequence[str],
    advice: str = ADVICE,
) -> list[str]:
    """Returns a line that counts the images of other splits that are training images too; no line if there are none.

    Args:
      image_hashes: Hashes of all images, uint64 [n] of each chunk.
      bounds: Where the splits are among them.
      names: Names of all images, in the same order.
      advice: The end of the line.
    """
    hashes = _hashes_by_split(image_hashes, bounds)
    train = hashes.pop("train")
    found = {split: np.flatnonzero(np.isin(values, train)) for split, values in hashes.items()}
    counts = [f"{len(each)} of {len(hashes[split])} {split} images" for split, each in found.items() if len(each)]
    pairs = []
    for split, indices in found.items():
        for index in indices[: _MAX_EXAMPLES + 1 - len(pairs)]:
            twin = np.flatnonzero(train == hashes[split][index])[0]
            pairs.append(f"{names[bounds[split][0] + index]} = {names[bounds['train'][0] + twin]}")
    if not counts:
        return []
    examples = ", ".join(pairs[:_MAX_EXAMPLES]) + ", ..." * (len(pairs) > _MAX_EXAMPLES)
    return [f"warning: {' and '.join(counts)} are training images too ({examples}); {advice}"]


def remove_duplicates(dataset: ImageDataset) -> ImageDataset:
    """Returns a data set whose train split has no image that another split has.

    Images that calibration has are removed as those that test has: otherwise calibration images would fit the model
    better than test images, and conformal thresholds would be too low.

    Raises:
      UserError: No training image would be left.
    """
    # Others are streamed, or in memory already.
    splits = {
        name: _load_once(split) if isinstance(split, ArraySplit) else split for name, split in dataset.splits.items()
    }
    train = splits["train"]
    indices = train.duplicates
    if indices is None:
        bounds = consecutive_bounds({name: len(split) for name, split in splits.items()})
        chunks = (images for split in splits.values() for images, _ in split.read())
        indices = find_duplicates([hash_images(images) for images in chunks], bounds)
    if len(indices) == len(train):
        raise UserError(f"--remove_duplicates leaves no training image: other splits of {dataset.name} have them all")
    if len(indices):
        splits["train"] = train.without(indices, f"{train.origin} without {len(indices)} duplicates")
    note = f"--remove_duplicates: removed {len(indices)} of {len(train)} training images, which other splits have too"
    notes = [each for each in dataset.notes if not each.endswith(ADVICE)]
    return dataclasses.replace(dataset, splits=splits, notes=(*notes, note))


def _load_once(split: Split) -> ArraySplit:
    """Returns a split that is read now, and not again."""
    chunks = [split.load()]
    return ArraySplit(len(split), split.origin, lambda: chunks)


def _hashes_by_split(image_hashes: Sequence[np.ndarray], bounds: Bounds) -> dict[str, np.ndarray]:
    hashes = np.concatenate([np.zeros(0, np.uint64), *image_hashes])
    return {split: hashes[start:stop] for split, (start, stop) in bounds.items()}
