"""What tests of records share: small data sets, their comparison, and the folders in a cache."""

from pathlib import Path

import numpy as np

from cae.config import Config
from cae.data import datasets

DIGITS = Config(dataset="digits", image_size=12)

CLASSES = ("a", "b", "c")


def assert_equal(streamed, in_memory):
    """Two data sets have the same metadata and the same images."""
    assert streamed.folder and not in_memory.folder
    assert streamed.info() == in_memory.info()
    for split in datasets.SPLITS:
        for one, other in zip(streamed.load(split), in_memory.load(split), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


def cached(config):
    """The folders in the cache."""
    return sorted(path for path in Path(config.cache_dir).glob("*/*") if not path.name.startswith("."))


def in_chunks(images, labels, size=17):
    return ((images[at : at + size], labels[at : at + size]) for at in range(0, len(images), size))
