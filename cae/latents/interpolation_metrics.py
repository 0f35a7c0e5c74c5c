"""Metrics of paths of images: distance from the data, evenness of steps, number of classes."""

import numpy as np
from etils import epy

from cae.data.arrays import flatten, to_float

# Only an evaluation of interpolation needs it.
with epy.lazy_imports():
    import faiss


class NearestNeighborIndex:
    """Distances from the nearest of some images, uint8 [n, height, width, channels]."""

    def __init__(self, images: np.ndarray):
        references = flatten(to_float(images))
        self._index = faiss.IndexFlatL2(references.shape[1])
        self._index.add(references)

    def distances(self, images: np.ndarray) -> np.ndarray:
        """Returns the Euclidean distance of each image, [..., height, width, channels] in 0..1, over all its pixels."""
        squared_distances, _ = self._index.search(flatten(images), 1)
        return np.sqrt(np.maximum(squared_distances[:, 0], 0)).reshape(images.shape[:-3])


def max_step_ratio(paths: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Computes the largest step of each path divided by its mean step: 1 for even steps.

    A step is the Euclidean distance of consecutive images divided by the difference of their weights, so that weights
    need not be evenly spaced. Constant paths have a ratio of 1.

    Args:
      paths: Images [n, weights, height, width, channels].
      weights: Interpolation weights, increasing.

    Returns:
      Ratios, [n], at least 1.
    """
    differences = np.diff(paths.reshape(*paths.shape[:2], -1), axis=1)
    steps = np.linalg.norm(differences, axis=2) / np.diff(weights)
    means = np.average(steps, axis=1, weights=np.diff(weights))
    return np.where(means > 1e-9, steps.max(axis=1) / np.maximum(means, 1e-9), 1.0)


def num_distinct_labels(labels: np.ndarray) -> np.ndarray:
    """Returns the number of distinct labels of each path, [n], given the labels [n, weights] of its images."""
    ordered = np.sort(labels, axis=1)
    return 1 + np.sum(np.diff(ordered, axis=1) != 0, axis=1)


def sample_pairs(labels: np.ndarray, num_classes: int, count: int, seed: int) -> dict[str, np.ndarray]:
    """Samples pairs of different images.

    Args:
      labels: int [n].
      num_classes: Number of classes of the data set, 0 for unlabeled images.
      count: Number of pairs of each type.
      seed: The same seed gives the same pairs.

    Returns:
      Indices [count, 2] by type: 'same_class' and 'different_class' as far as there are such pairs; 'any' for unlabeled
      images or a single class.
    """
    random = np.random.default_rng(seed)
    if num_classes < 2 or len(np.unique(labels)) < 2:
        return {"any": _sample_any(random, len(labels), count)}
    classes = [indices for label in np.unique(labels) if len(indices := np.flatnonzero(labels == label)) > 1]
    pairs = {}
    if classes:
        same = [random.choice(classes[index % len(classes)], 2, replace=False) for index in range(count)]
        pairs["same_class"] = np.stack(same)
    candidates = _sample_any(random, len(labels), 20 * count)
    different = candidates[labels[candidates[:, 0]] != labels[candidates[:, 1]]][:count]
    # Candidates are too few where nearly all images are of one class.
    first = random.integers(0, len(labels), count - len(different))
    second = np.array([random.choice(np.flatnonzero(labels != labels[index])) for index in first], int)
    pairs["different_class"] = np.concatenate([different, np.stack([first, second], axis=1)])
    return {pair_type: indices for pair_type, indices in pairs.items() if len(indices)}


def _sample_any(random: np.random.Generator, total: int, count: int) -> np.ndarray:
    first = random.integers(0, total, count)
    return np.stack([first, (first + random.integers(1, total, count)) % total], axis=1)
