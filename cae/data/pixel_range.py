"""The range of the values of a TFDS data set's images: 0..255, or 0 and 1 where they are masks or binary drawings."""

import contextlib
import io
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from etils import epy
from PIL import Image

from cae import runtime

with epy.lazy_imports():
    import tensorflow as tf

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
    """Yields the first images of an official split as they are stored.

    They are read from TFRecord files without TensorFlow, whose devices may have to be configured later.
    """
    runtime.import_tensorflow()
    # A damaged file is an error where the data set is read; here, decoders and lengths raise errors of many classes.
    with contextlib.suppress(Exception):
        if builder.info.file_format != tfds.core.FileFormat.TFRECORD:
            examples = builder.as_dataset(split=f"{split}[:{MAX_INSPECTED_IMAGES}]")
            yield from (example[image_key] for example in examples.as_numpy_iterator())
            return
        records = itertools.chain.from_iterable(map(_read_records, builder.info.splits[split].filepaths))
        for record in itertools.islice(records, MAX_INSPECTED_IMAGES):
            encoded = tf.train.Example.FromString(record).features.feature[image_key].bytes_list.value[0]
            # As TensorFlow decodes palettes and single bits.
            yield np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _read_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file: a length of 8 bytes, its checksum, the data, and their checksum."""
    with path.open("rb") as file:
        while header := file.read(12):
            yield file.read(int.from_bytes(header[:8], "little") + 4)[:-4]
