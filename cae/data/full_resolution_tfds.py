"""Images of TensorFlow Datasets at full resolution, for training on crops."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cae.config import Config
from cae.data.arrays import to_pil
from cae.data.full_resolution_folder import as_full_resolution_dataset
from cae.data.image_dataset import ImageDataset
from cae.data.image_store import AddImage, store_images
from cae.data.pixel_range import find_pixel_max
from cae.data.resizing import MODES
from cae.data.splits import FULL_RESOLUTION_PROPORTIONS, SPLITS
from cae.data.tfds import check_range, get_version, image_feature, partition_official_splits
from cae.data.tfds_builder import get_builder
from cae.data.tfds_files import read_examples

NUM_SAMPLED_IMAGES = 16
"""Number of images whose mean size stands for that of all."""


def open_full_resolution_tfds(config: Config) -> ImageDataset:
    """Returns a data set of TFDS with its images at full resolution, of one size or of many.

    Raises:
      UserError, DatasetUnavailableError: As `open_tfds`; or an image is smaller than a crop.
    """
    builder = get_builder(config.dataset, config.data_dir)
    image_key, (*_, own_channels) = image_feature(builder)
    channels = config.channels or own_channels
    pixel_max, notes = find_pixel_max(builder, image_key)
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    parts = partition_official_splits(config.dataset, sizes, FULL_RESOLUTION_PROPORTIONS)
    origins = {name: "{}[{}:{}]".format(*parts[name]) for name in SPLITS}
    read = functools.partial(_read_images, config.dataset, config.data_dir, origins, channels, pixel_max)
    sample = [image.size for image in _iterate(builder, f"train[:{NUM_SAMPLED_IMAGES}]", pixel_max)]
    num_bytes = round(np.mean(sample)) * sum(stop - start for _, start, stop in parts.values())
    key = [get_version(builder), channels, origins]
    return as_full_resolution_dataset(
        config, store_images(config, num_bytes, key, read), channels, notes, pixel_max=pixel_max, version=key[0]
    )


def _read_images(
    dataset: str, data_dir: str | None, origins: dict[str, str], channels: int, pixel_max: int, add: AddImage
) -> dict[str, Any]:
    """Adds the images of all splits in order, and returns what is known of them."""
    builder, counts = get_builder(dataset, data_dir), dict.fromkeys(origins, 0)
    for split, origin in origins.items():
        for image in _iterate(builder, origin, pixel_max):
            values = np.asarray(to_pil(image).convert(MODES[channels]), np.uint8)
            add(f"{origin} {counts[split]}", values.reshape(1, *values.shape[:2], channels))
            counts[split] += 1
    splits = {split: {"images": count, "origin": origins[split]} for split, count in counts.items()}
    return {"splits": splits, "fingerprint": "", "skipped": []}


def _iterate(builder: tfds.core.DatasetBuilder, split: str, pixel_max: int) -> Iterator[np.ndarray]:
    image_key, _ = image_feature(builder)
    for example in read_examples(builder, split):
        check_range(builder, split, example[image_key], pixel_max)
        yield example[image_key] * np.uint8(255 // pixel_max)
