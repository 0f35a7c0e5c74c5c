"""A data set by its name in --dataset, with its fallback and selection of classes.

To add a data set, write a function `open_x(config) -> ImageDataset` in a module of its own and add it to `DATASETS`.
If its splits yield their images in chunks, it can be streamed without ever being in memory as a whole.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import psutil

from cae.config import Config
from cae.data import record_cache, tfds_builder
from cae.data.digits import open_digits
from cae.data.duplicates import describe_duplicates, remove_duplicates
from cae.data.full_resolution import FullResolutionSplit
from cae.data.full_resolution_folder import PAIRED, open_full_resolution_folder
from cae.data.full_resolution_tfds import open_full_resolution_tfds
from cae.data.image_dataset import ImageDataset
from cae.data.image_folder import open_image_folder
from cae.data.lines import open_lines
from cae.data.records import open_records
from cae.data.splits import SPLITS, ArraySplit, Images, Split, consecutive_bounds
from cae.data.tfds import open_tfds
from cae.data.tfds_builder import DatasetUnavailableError
from cae.errors import UserError, unknown_choice_error
from cae.io_utils import printable
from cae.metrics import MIN_IMAGE_SIZE

__all__ = [
    "DATASETS", "SPLITS", "ImageDataset", "Split", "check_dataset", "get_opener", "open_dataset", "uses_tensorflow",
]  # fmt: skip

DATASETS: dict[str, Callable[[Config], ImageDataset]] = {
    "digits": open_digits,
    "lines": open_lines,
    "folder:": open_image_folder,
    "records:": open_records,
    "pairs:": open_full_resolution_folder,
    "takes:": open_full_resolution_folder,
}
"""What opens a data set by its name, up to a colon; other names are those of TFDS."""


def open_dataset(config: Config) -> ImageDataset:
    """Returns the data set of a configuration, or with a warning the fallback if it is not available.

    Raises:
      UserError: The name is unknown, the data set is not available and has no fallback, or it lacks images: a folder
        without readable images, too few for four splits, or none of the classes of --normal_classes.
    """
    try:
        dataset = _open(config)
    except DatasetUnavailableError as error:
        fallback = config.fallback_dataset
        if fallback is None:
            raise UserError(
                f"{error}; set --data_dir to a folder that has it, or train on --fallback_dataset=digits"
            ) from error
        dataset = _open(dataclasses.replace(config, dataset=fallback))
        dataset = dataclasses.replace(dataset, warning=f"{error}; using '{fallback}' instead")
    return dataset if config.normal_classes is None else _filter_classes(dataset, config.normal_classes)


def uses_tensorflow(config: Config) -> bool:
    """Returns whether TensorFlow computes while the data set is opened: its devices have to be set up before.

    Raises:
      UserError: The data set's name is unknown.
    """
    # Classes and duplicates are counted by reading images, and images for crops are read when they are opened.
    reads = config.normal_classes or config.remove_duplicates or config.crop_size
    if reads or get_opener(config.dataset):
        return bool(reads)
    return tfds_builder.uses_tensorflow(config.dataset, config.data_dir)


def check_dataset(dataset: ImageDataset, batch_size: int) -> None:
    """Raises `UserError` if a batch is larger than the train split, or if the images do not fit into memory."""
    num_train = len(dataset.splits["train"]) * (dataset.crops.per_image if dataset.crops else 1)
    if batch_size > num_train:
        kind = "training crops of an epoch; set --crops_per_image" if dataset.crops else "training images"
        raise UserError(f"--batch_size={batch_size} is larger than the {num_train} {kind}")
    needed, memory = dataset.num_bytes, psutil.virtual_memory().total
    if needed > memory / 2 and not dataset.folder:
        raise UserError(
            f"--dataset={dataset.name} at {dataset.image_shape} takes {needed / 2**30:.1f} GiB of"
            f" {memory / 2**30:.1f} GiB of memory; use --streaming=auto or a smaller --image_size"
        )


def _open(config: Config) -> ImageDataset:
    if config.image_size is not None and config.image_size < MIN_IMAGE_SIZE:
        raise UserError(f"--image_size={config.image_size} must be at least {MIN_IMAGE_SIZE}, SSIM's window size")
    opener = get_opener(config.dataset) or open_tfds
    if config.crop_size is not None:
        dataset = _open_images(config)
        return remove_duplicates(dataset) if config.remove_duplicates else dataset
    dataset = opener(config)
    if min(dataset.image_shape[:2]) < MIN_IMAGE_SIZE:
        raise UserError(f"--dataset={config.dataset} has images smaller than {MIN_IMAGE_SIZE}, SSIM's window size")
    is_streamed = dataset.folder is not None
    streams = record_cache.should_stream(config, dataset.num_bytes, default=is_streamed)
    if streams and not is_streamed:
        dataset = record_cache.convert(dataset, opener, config)
    elif is_streamed and not streams:
        dataset = dataset.in_memory()
    return remove_duplicates(dataset) if config.remove_duplicates else dataset


def _open_images(config: Config) -> ImageDataset:
    """Returns a data set of images of any sizes, for training on crops."""
    if config.crop_size < MIN_IMAGE_SIZE:
        raise UserError(f"--crop_size={config.crop_size} must be at least {MIN_IMAGE_SIZE}, SSIM's window size")
    if config.dataset in DATASETS or config.dataset.startswith("records:"):
        raise UserError(
            f"--crop_size={config.crop_size} does not apply to --dataset={config.dataset}; it applies to folder:PATH,"
            " pairs:NOISY,CLEAN, takes:FIRST,SECOND and the data sets of TFDS"
        )
    return open_full_resolution_folder(config) if is_folder(config.dataset) else open_full_resolution_tfds(config)


def is_folder(dataset: str) -> bool:
    """Returns whether the name of a data set is that of one folder or of two; 'mnist:3.0.1' is one of TFDS."""
    return dataset.partition(":")[0] in ("folder", *PAIRED)


def open_test_images(config: Config, train: FullResolutionSplit) -> Split:
    """Returns the images of a data set to evaluate on: all of a folder, or the test split of one of TFDS.

    Args:
      config: The configuration that names it.
      train: The images that the model was trained on; a warning counts those that are test images, too.

    Raises:
      UserError: As `open_dataset`, which divides a folder among the splits instead.
    """
    config = dataclasses.replace(config, crop_size=MIN_IMAGE_SIZE, remove_duplicates=False)
    try:
        opener = get_opener(config.dataset)
        if opener and not is_folder(config.dataset):
            raise UserError(f"--dataset={config.dataset} is not supported; use folder:PATH or a data set of TFDS")
        open_images = functools.partial(open_full_resolution_folder, divided=False) if opener else _open_images
        dataset = open_images(config)
    except UserError as error:
        raise UserError(str(error).replace("--dataset", "--test_dataset", 1)) from error
    test = dataset.splits["test"]
    bounds = consecutive_bounds({"train": len(train), "test": len(test)})
    advice = f"--test_dataset={config.dataset} should have new images only"
    for line in (
        *dataset.warnings(),
        *describe_duplicates([train.hashes, test.hashes], bounds, [*train.names, *test.names], advice),
    ):
        print(printable(line), flush=True)
    return test


def get_opener(dataset: str) -> Callable[[Config], ImageDataset] | None:
    """Returns the function of `DATASETS` that opens a data set; None for a name of TFDS.

    Raises:
      UserError: The name lacks a path.
    """
    name, colon, path = dataset.partition(":")
    if f"{name}:" in DATASETS and not path:
        paths = {"pairs": "NOISY,CLEAN", "takes": "FIRST,SECOND"}.get(name, "PATH")
        raise UserError(f"--dataset={dataset} needs a path: --dataset={name}:{paths}")
    return DATASETS.get(name + colon)


# --- Classes ----------------------------------------------------------------------------------------------------------


def _filter_classes(dataset: ImageDataset, normal_classes: str) -> ImageDataset:
    """Returns a data set with the images of some classes only; their labels and all class names are kept."""
    normal_classes = printable(normal_classes)  # As class names are.
    indices = _class_indices(normal_classes, dataset)

    def select(split: str, excluded: bool = False) -> Images:
        images, labels = dataset.load(split)
        members = np.isin(labels, indices, invert=excluded)
        return images[members], labels[members]

    splits = {}
    for name, split in dataset.splits.items():
        count = int(np.isin(dataset.load(name)[1], indices).sum())
        if not count:
            raise UserError(f"--normal_classes={normal_classes}: the {name} split of {dataset.name} has no such image")
        origin = f"{split.origin}, classes {normal_classes}"
        splits[name] = ArraySplit(count, origin, lambda name=name: [select(name)])
    return dataclasses.replace(dataset, splits=splits, excluded_classes=functools.partial(select, excluded=True))


def _class_indices(normal_classes: str, dataset: ImageDataset) -> list[int]:
    """Returns the labels of the comma-separated classes, or of all others if each has a minus before it."""
    if not dataset.class_names:
        raise UserError(
            f"--normal_classes={normal_classes}: {dataset.name} has no classes; a folder has, if each of its images is"
            " in one of several subfolders"
        )
    parts = normal_classes.split(",")
    included, unknown = _match_classes(parts, dataset.class_names)
    excluded, unknown_excluded = _match_classes(parts, [f"-{name}" for name in dataset.class_names])
    if None not in (unknown, unknown_excluded):
        is_inverted = all(part.strip().startswith("-") for part in parts)
        name = unknown_excluded.removeprefix("-") if is_inverted else unknown
        raise unknown_choice_error("--normal_classes", name, dataset.class_names)
    selected = [name in included if unknown is None else f"-{name}" not in excluded for name in dataset.class_names]
    return np.flatnonzero(selected).tolist()


def _match_classes(parts: Sequence[str], class_names: Sequence[str]) -> tuple[set[str], str | None]:
    """Returns the classes that the parts of a list between commas name, and the first part that names none.

    A class may have commas in its name: as many parts as possible are one class.
    """
    names, position = set(), 0
    while position < len(parts):
        joined = {stop: ",".join(parts[position:stop]).strip() for stop in range(len(parts), position, -1)}
        stop = next((stop for stop, name in joined.items() if name in class_names), None)
        if stop is None:
            return names, parts[position].strip()
        names.add(joined[stop])
        position = stop
    return names, None
