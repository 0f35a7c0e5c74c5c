"""The range of the values of a TFDS data set's images: 0..255, or 0 and 1 where they are masks or binary drawings."""

import contextlib
import io
import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from cae import runtime
from cae.data import tfds_files

MAX_INSPECTED_IMAGES = 1024
"""Number of a data set's first images whose values are looked at, at most."""

DARK = 63
"""The largest value of images that are not in 0..255, or too dark to be meant so."""


def find_pixel_max(builder: tfds.core.DatasetBuilder, image_key: str) -> tuple[int, tuple[str, ...]]:
    """Looks at the first images of a prepared data set, until one has a value above `DARK`.

    Args:
      builder: The builder of the data set.
      image_key: The name of its images among its features.

    Returns:
      pixel_max: 1 if all values are 0 or 1, as in binarized_mnist; otherwise 255.
      notes: Lines to print where the values are unusual.
    """
    splits = builder.info.splits
    images = _inspect_images(builder, image_key, "train" if "train" in splits else next(iter(splits)))
    largest = count = 0
    for image in images:
        largest, count = max(largest, int(image.max(initial=0))), count + 1
        if largest > DARK:
            return 255, ()
    if not count:
        return 255, ()
    if largest == 1:
        return 1, (f"all values of the first {count:,} images of {builder.name} are 0 or 1: they are scaled to 255",)
    return 255, (
        f"warning: no value of the first {count:,} images of {builder.name} is above {largest} of 255; they are not"
        " scaled",
    )


def _inspect_images(builder: tfds.core.DatasetBuilder, image_key: str, split: str) -> Iterator[np.ndarray]:
    """Yields the first images of an official split as they are stored."""
    runtime.import_tensorflow()
    # A damaged file is an error where the data set is read; here, decoders and lengths raise errors of many classes.
    with contextlib.suppress(Exception):
        if builder.info.file_format not in tfds_files.RECORD_FORMATS:
            examples = tfds_files.read_examples(builder, split)
            yield from (example[image_key] for example in itertools.islice(examples, MAX_INSPECTED_IMAGES))
            return
        for encoded in itertools.islice(tfds_files.read_stored(builder, split, image_key), MAX_INSPECTED_IMAGES):
            # As TensorFlow decodes palettes and single bits.
            yield np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
