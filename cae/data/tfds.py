"""Image data sets of TensorFlow Datasets, and how they are read."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cae.config import Config
from cae.data.arrays import to_pil
from cae.data.image_dataset import ImageDataset
from cae.data.pixel_range import MAX_INSPECTED_IMAGES, find_pixel_max
from cae.data.resizing import resize_with_pad
from cae.data.splits import CHUNK_SIZE, PROPORTIONS, SPLITS, ArraySplit, Images, partition
from cae.data.tfds_builder import get_builder
from cae.data.tfds_files import RECORD_FORMATS, read_examples, read_stored
from cae.errors import UserError


def open_tfds(config: Config) -> ImageDataset:
    """Returns a data set of TFDS by its name in --dataset, after downloading it if necessary.

    Raises:
      UserError: The name is unknown, or the data set has no suitable images, or none that make four splits.
      DatasetUnavailableError: It is not downloaded and cannot be.
    """
    builder = get_builder(config.dataset, config.data_dir)
    image_key, (height, width, channels) = image_feature(builder)
    size = config.image_size
    if size is None and None in (height, width):
        raise UserError(f"--dataset={config.dataset} has images of many sizes: set --image_size")
    shape = (size or height, size or width, config.channels or channels)
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    pixel_max, notes = find_pixel_max(builder, image_key)
    for name in [each for each in ("test", "validation") if sizes.get(each) and _is_unlabeled(builder, each)]:
        del sizes[name]
        notes += (f"the official {name} split of {builder.name} is not used: its images have no labels",)
    splits = {}
    for name, (official, start, stop) in partition_official_splits(config.dataset, sizes).items():
        origin = f"{official}[{start}:{stop}]"
        read = functools.partial(read_chunks, builder, origin, shape, pixel_max)
        splits[name] = ArraySplit(stop - start, origin, read)
    return ImageDataset(
        name=config.dataset,
        image_shape=shape,
        class_names=_label_feature(builder)[1],
        splits=splits,
        notes=notes,
        pixel_max=pixel_max,
        version=get_version(builder),
    )


def get_version(builder: tfds.core.DatasetBuilder) -> dict[str, Any]:
    """Returns what tells the content of a prepared data set from another; a JSON value."""
    files = {name: [info.num_bytes, *info.shard_lengths] for name, info in builder.info.splits.items()}
    return {"name": builder.info.full_name, "splits": files}


def partition_official_splits(
    dataset: str, sizes: dict[str, int], proportions: Mapping[str, int] = PROPORTIONS
) -> dict[str, tuple[str, int, int]]:
    """Returns which official split each split of `SPLITS` is taken from, and its (start, stop) there.

    The official test split, or else the validation split, is the test split; without either, train is divided in four.

    Args:
      dataset: The data set's name.
      sizes: Number of images of the official splits by name.
      proportions: Of the splits that are cut, as `partition` takes them.

    Raises:
      UserError: There is no official train split, or it has too few images.
    """
    if "train" not in sizes:
        raise UserError(f"--dataset={dataset} has no split 'train' in its prepared copy, only {', '.join(sizes)}")
    test = next((name for name in ("test", "validation") if sizes.get(name)), None)
    names = [name for name in SPLITS if name != "test" or not test]
    bounds = partition(f"--dataset={dataset}", sizes["train"], names, proportions)
    splits = {name: ("train", start, stop) for name, (start, stop) in bounds.items()}
    return splits | ({"test": (test, 0, sizes[test])} if test else {})


# --- Reading ----------------------------------------------------------------------------------------------------------


def read_split(builder: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int]) -> Images:
    """Returns all images and labels of a split; see `read_chunks`."""
    pixel_max, _ = find_pixel_max(builder, image_feature(builder)[0])
    images, labels = zip(*read_chunks(builder, split, shape, pixel_max))
    return np.concatenate(images), np.concatenate(labels)


def read_chunks(
    builder: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int], pixel_max: int
) -> Iterator[Images]:
    """Yields a split's images and labels in chunks.

    Args:
      builder: The builder of a prepared data set.
      split: An official split, or a slice of it as 'train[:100]'.
      shape: The (height, width, channels) to which images are resized.
      pixel_max: The largest value of a pixel, which is scaled to 255: 1 or 255.

    Yields:
      images: uint8 [n, *shape].
      labels: int64 [n]; zeros if there are none.

    Raises:
      UserError: A pixel has a larger value, or a file of the data set is damaged.
    """
    image_key, own_shape = image_feature(builder)
    label_key, _ = _label_feature(builder)
    # Images of one size are read in batches, which is several times faster.
    for batch in read_examples(builder, split, CHUNK_SIZE if own_shape == shape else 1):
        images = batch[image_key]
        check_range(builder, split, images, pixel_max)
        images = images * np.uint8(255 // pixel_max)
        if own_shape != shape:
            images = resize_with_pad(to_pil(images[0]), *shape)[None]
        yield images, (batch[label_key] if label_key else np.zeros(len(images))).astype(np.int64)


def check_range(builder: tfds.core.DatasetBuilder, split: str, images: np.ndarray, pixel_max: int) -> None:
    """Raises `UserError` where a pixel of a split's images has a larger value than `find_pixel_max` found."""
    if images.max(initial=0) > pixel_max:
        raise UserError(
            f"--dataset={builder.name} has the value {images.max()} in {split}, and only 0 and 1 in its first"
            f" {MAX_INSPECTED_IMAGES:,} images; such a data set is not supported"
        )


# --- Features ---------------------------------------------------------------------------------------------------------


def image_feature(builder: tfds.core.DatasetBuilder) -> tuple[str, tuple[int | None, ...]]:
    """Returns the key and the shape of the images: 'hr' of those that have a low and a high resolution."""
    for key, feature in sorted(builder.info.features.items(), key=lambda item: item[0] != "hr"):
        if isinstance(feature, tfds.features.Image) and feature.np_dtype == np.uint8 and feature.shape[-1] in (1, 3):
            return key, feature.shape
    raise UserError(f"--dataset={builder.name} has no 8-bit images with 1 or 3 channels")


def _label_feature(builder: tfds.core.DatasetBuilder) -> tuple[str | None, tuple[str, ...]]:
    """Returns the key and the class names of the labels; None and () if there are none."""
    features = builder.info.features.items()
    labels = {key: tuple(feature.names) for key, feature in features if isinstance(feature, tfds.features.ClassLabel)}
    key = "label" if "label" in labels else next(iter(labels), None)
    return key, labels.get(key, ())


def _is_unlabeled(builder: tfds.core.DatasetBuilder, split: str) -> bool:
    """Returns whether the label of a split's first image is -1, as where classes of test images are not published."""
    key, _ = _label_feature(builder)
    # A damaged file is an error where the data set is read.
    with contextlib.suppress(Exception):
        if builder.info.file_format in RECORD_FORMATS:
            return key is not None and next(read_stored(builder, split, key)) < 0
        return key is not None and next(read_examples(builder, split))[key] < 0
    return False
