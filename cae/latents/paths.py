"""What lies on a path between two images: is it like the data, is it of some class, does it move evenly?"""

import numpy as np
from etils import epy

# Only what needs neighbours waits for it.
with epy.lazy_imports():
    import faiss


class Nearest:
    """Distances to the nearest of some images, uint8 [n, height, width, channels]."""

    def __init__(self, images: np.ndarray):
        self._index = faiss.IndexFlatL2(int(np.prod(images.shape[1:])))
        self._index.add(_flat(images.astype(np.float32) / 255))

    def distances(self, images: np.ndarray) -> np.ndarray:
        """Returns the Euclidean distance of each image, [..., height, width, channels] in 0..1, over all its pixels."""
        squared, _ = self._index.search(_flat(images), 1)
        return np.sqrt(np.maximum(squared[:, 0], 0)).reshape(images.shape[:-3])


def _flat(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.reshape(-1, np.prod(images.shape[-3:])), np.float32)


def smoothness(paths: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Returns the largest step of each path over its mean step, 1 or more: 1 is an even pace.

    paths: images [n, degrees, height, width, channels]; a step is the Euclidean distance of neighbours, for each unit
    of mixing, so that degrees need not be even. A path that stays where it is counts as even.
    """
    steps = np.diff(paths.reshape(*paths.shape[:2], -1), axis=1)
    speeds = np.linalg.norm(steps, axis=2) / np.diff(degrees)
    means = np.average(speeds, axis=1, weights=np.diff(degrees))
    return np.where(means > 1e-9, speeds.max(axis=1) / np.maximum(means, 1e-9), 1.0)


def labels_passed(labels: np.ndarray) -> np.ndarray:
    """Returns through how many labels each path goes, [n], given the labels [n, degrees] of its images."""
    ordered = np.sort(labels, axis=1)
    return 1 + np.sum(np.diff(ordered, axis=1) != 0, axis=1)


def pairs(labels: np.ndarray, classes: int, count: int, seed: int) -> dict[str, np.ndarray]:
    """Returns positions [count, 2] of images to go between, drawn by the seed, by kind.

    Kinds are 'within' a class and 'between' classes; 'any' where there is one class alone or none. labels: int [n]. A
    class of a single image has no pairs within.
    """
    random = np.random.default_rng(seed)
    if classes < 2 or len(np.unique(labels)) < 2:
        return {"any": _two_of_all(random, len(labels), count)}
    members = [each for label in np.unique(labels) if len(each := np.flatnonzero(labels == label)) > 1]
    within = (
        [random.choice(members[number % len(members)], 2, replace=False) for number in range(count)] if members else []
    )
    drawn = _two_of_all(random, len(labels), 20 * count)
    between = drawn[labels[drawn[:, 0]] != labels[drawn[:, 1]]][:count]
    return {name: np.asarray(each) for name, each in (("within", within), ("between", between)) if len(each)}


def _two_of_all(random: np.random.Generator, total: int, count: int) -> np.ndarray:
    first = random.integers(0, total, count)
    return np.stack([first, (first + random.integers(1, total, count)) % total], axis=1)
