"""The examples of a prepared TFDS data set, whatever the format of its files."""

import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from etils import epy

from cae import runtime
from cae.errors import UserError

with epy.lazy_imports():
    import tensorflow as tf

RECORD_FORMATS = (tfds.core.FileFormat.TFRECORD, tfds.core.FileFormat.ARRAY_RECORD)
"""Formats whose records are read without TensorFlow's devices, too."""

ARRAY_RECORDS_AT_ONCE = 64


def read_examples(
    builder: tfds.core.DatasetBuilder, split: str, batch_size: int | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Yields a split's examples by the names of their features, one by one or in batches.

    Raises:
      UserError: A file of the data set is missing or damaged, or of a format that cannot be read.
    """
    runtime.import_tensorflow()
    try:
        examples = _make_dataset(builder, split)
        if batch_size:
            examples = examples.batch(batch_size).prefetch(2)
        yield from examples.as_numpy_iterator()
    except tf.errors.OpError as error:
        # Without the names of graph functions and operations.
        reason = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message.partition("\n")[0]).strip()
        raise UserError(
            f"--dataset={builder.name} cannot be read: {reason}; remove {builder.data_path}, and it is prepared again"
        ) from error
    except ImportError as error:
        raise UserError(
            f"--dataset={builder.name} has {builder.info.file_format.value} files, which cannot be read: {error};"
            f" install the package, or prepare the data set as tfrecord files in another --data_dir"
        ) from error


def read_stored(builder: tfds.core.DatasetBuilder, split: str, key: str) -> Iterator[bytes | int]:
    """Yields a feature's values without TensorFlow, whose devices may have to be configured later.

    Args:
      builder: The builder of a prepared data set, whose files are of `RECORD_FORMATS`.
      split: An official split.
      key: The name of the feature: images, of which the files are yielded, or labels.
    """
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        records = itertools.chain.from_iterable(_read_array_records(builder, split))
    else:
        records = itertools.chain.from_iterable(map(_read_tfrecords, builder.info.splits[split].filepaths))
    for record in records:
        feature = tf.train.Example.FromString(record).features.feature[key]
        yield (feature.bytes_list.value or feature.int64_list.value)[0]


def _make_dataset(builder: tfds.core.DatasetBuilder, split: str) -> "tf.data.Dataset":
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        # By default, TFDS caches what it has read in memory.
        return builder.as_dataset(split=split, read_config=tfds.ReadConfig(try_autocache=False))
    # TFDS reads ArrayRecord files by index only. In the generator, the error of a missing package would be another one.
    importlib.import_module("array_record")
    records = tf.data.Dataset.from_generator(
        lambda: _read_array_records(builder, split), output_signature=tf.TensorSpec((None,), tf.string)
    )
    return records.unbatch().map(builder.info.features.deserialize_example, num_parallel_calls=tf.data.AUTOTUNE)


def _read_array_records(builder: tfds.core.DatasetBuilder, split: str) -> Iterator[list[bytes]]:
    """Yields the records of ArrayRecord files in chunks, which is faster than one by one."""
    records = builder.as_data_source(split=split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    for start in range(0, len(records), ARRAY_RECORDS_AT_ONCE):
        yield records.__getitems__(range(start, min(start + ARRAY_RECORDS_AT_ONCE, len(records))))


def _read_tfrecords(path: Path) -> Iterator[bytes]:
    """Yields the records of a TFRecord file: a length of 8 bytes, its checksum, the data, and their checksum."""
    with path.open("rb") as file:
        while header := file.read(12):
            yield file.read(int.from_bytes(header[:8], "little") + 4)[:-4]
