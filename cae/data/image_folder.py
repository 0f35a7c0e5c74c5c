"""Folders of images of any size and mode, resized to the shape that a model takes."""

import collections
import dataclasses
import functools
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cae.config import Config
from cae.data import record_cache
from cae.data.duplicates import describe_duplicates, hash_images
from cae.data.folder_files import FileReader, list_files, survey_folder
from cae.data.folder_layout import (
    OUTLIERS,
    FolderLayout,
    Group,
    describe_layout,
    divide,
    find_layout,
    get_group,
    list_class_folders,
    name_classes,
)
from cae.data.image_dataset import ImageDataset, LoadOutliers
from cae.data.record_writer import RecordWriter
from cae.data.records import as_dataset
from cae.data.splits import SPLITS, ArraySplit, Images, chunk_slices, split_bounds
from cae.errors import UserError
from cae.io_utils import printable

_READER_VERSION = 2
"""Part of the key of converted folders: to be raised where the same files are read as other images."""


def open_image_folder(config: Config) -> ImageDataset:
    """Returns the data set of --dataset=folder:PATH.

    Raises:
      UserError: The folder is missing, has no readable images, too few for four splits, or splits that are not clear.
    """
    path = Path(config.dataset.partition(":")[2]).expanduser()
    size = config.image_size or 28
    shape = (size, size, config.channels or 1)
    survey = survey_folder(path)
    layout = find_layout("folder", [path], survey.counts)
    used = sorted(group for group in survey.counts if layout.locate(group)[0] in SPLITS)
    count = sum(survey.counts[group] for group in used)
    write = functools.partial(_write_folder, path, layout, shape)
    if record_cache.should_stream(config, count * math.prod(shape)):
        key = [_READER_VERSION, [[*group, *layout.locate(group), str(survey.hashes[group])] for group in used]]
        dataset = as_dataset(config.dataset, record_cache.get_records(config, count, shape, key, write))
    else:
        parts = _list_parts(path, layout)  # Files may have been added since the survey.
        writer = ArrayWriter(sum(map(len, parts.values())), shape)
        dataset = writer.as_dataset(config.dataset, write(writer, parts))
    return dataclasses.replace(
        dataset,
        notes=(*survey.describe_others(), *describe_layout(layout, survey.counts), *dataset.notes),
        outliers=_find_outliers(path, layout, survey.counts, shape),
    )


class ArrayWriter:
    """Collects images in memory as `RecordWriter` writes them to a file."""

    def __init__(self, max_images: int, shape: tuple[int, int, int]):
        self.num_images, self.image_hashes = 0, []
        self._images, self._labels = np.empty([max_images, *shape], np.uint8), np.empty(max_images, np.int64)

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Appends images, uint8 [n, height, width, channels], and labels, int [n]."""
        place = slice(self.num_images, self.num_images + len(images))
        self._images[place], self._labels[place] = images, labels
        self.image_hashes.append(hash_images(images))
        self.num_images += len(images)

    def as_dataset(self, name: str, metadata: dict[str, Any]) -> ImageDataset:
        """Returns the data set of the images, of which metadata says what records.json would say."""
        splits = {
            split: ArraySplit(
                stop - start, metadata["splits"][split]["origin"], functools.partial(self._read, slice(start, stop))
            )
            for split, (start, stop) in split_bounds(metadata["splits"]).items()
        }
        attributes = {each: tuple(metadata[each]) for each in ("class_names", "skipped", "notes")}
        fingerprint = metadata["fingerprint"]
        return ImageDataset(name, self._images.shape[1:], splits=splits, fingerprint=fingerprint, **attributes)

    def _read(self, part: slice) -> list[Images]:
        return [(self._images[part], self._labels[part])]


def _list_parts(path: Path, layout: FolderLayout) -> dict[str, list[str]]:
    """Returns the names of a folder's images by split."""
    parts = {split: [] for split in SPLITS}
    for name in list_files(path):
        parts.get(layout.locate(get_group(name))[0], []).append(name)
    return parts


def _write_folder(
    path: Path,
    layout: FolderLayout,
    shape: tuple[int, int, int],
    writer: RecordWriter | ArrayWriter,
    parts: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Writes the images of a folder, some at a time, and returns what records.json says of them."""
    parts = parts or _list_parts(path, layout)
    files, reader, names = [name for part in parts.values() for name in part], FileReader(path, shape), []
    classes = list_readable_classes(path, layout, files, shape)
    for chunk in chunk_slices(len(files)):
        images = reader.read(files[chunk])
        if images:
            writer.add(np.stack([*images.values()]), get_labels(images, layout, classes))
        names += images
    counts = collections.Counter(layout.locate(get_group(name))[0] for name in names)
    if not counts["train"]:
        raise _no_images_error(path / layout.folders.get("train", ""), len(parts["train"]))
    splits = divide(f"--dataset=folder:{path}", layout, counts)
    duplicates = describe_duplicates(writer.image_hashes, split_bounds(splits), names)
    return {
        "class_names": name_classes(classes),
        "splits": splits,
        "fingerprint": _hash_names(names),
        "skipped": sorted(map(printable, reader.skipped)),
        "notes": [*map(printable, reader.describe_warnings() + duplicates)],
    }


def list_readable_classes(
    path: Path, layout: FolderLayout, names: Sequence[str], shape: tuple[int, int, int]
) -> list[str]:
    """Returns the folders that are the classes of a folder's readable images; reads a single image of each."""
    reader, found = FileReader(path, shape), set()
    for name in names:
        _, folder = layout.locate(get_group(name))
        if folder not in found and reader.read([name]):
            found.add(folder)
    return list_class_folders(found)


def get_labels(names: Iterable[str], layout: FolderLayout, classes: Sequence[str]) -> np.ndarray:
    """Returns the index of each image's class, int64 [n]; zeros if there are no classes."""
    indices = {folder: index for index, folder in enumerate(classes)}
    return np.array([indices[layout.locate(get_group(name))[1]] if classes else 0 for name in names], np.int64)


def _hash_names(names: Sequence[str]) -> str:
    return hashlib.sha256(os.fsencode("\n".join(names))).hexdigest()


def _no_images_error(path: Path, num_skipped: int) -> UserError:
    reason = f"none of its {num_skipped} can be read" if num_skipped else "it contains none"
    return UserError(f"--dataset=folder:{path} needs PNG, JPEG, TIFF, BMP, GIF, WebP or PNM images, and {reason}")


# --- Outliers ---------------------------------------------------------------------------------------------------------


def load_images(path: Path, shape: tuple[int, int, int], max_images: int) -> tuple[np.ndarray, list[str]]:
    """Reads the first images of a folder, whatever its layout; masks are left out.

    Args:
      path: The folder.
      shape: The (height, width, channels) to which images are resized.
      max_images: Maximum number of images.

    Returns:
      images: uint8 [n, height, width, channels].
      skipped: The names of the files among them that cannot be read.

    Raises:
      UserError: The folder is missing or has no readable image.
    """
    reader, files = FileReader(path, shape), list_files(path)
    images = reader.read_first(files, max_images)
    if not len(images):
        raise _no_images_error(path, len(files))
    return images, reader.skipped


def _find_outliers(
    path: Path, layout: FolderLayout, groups: Iterable[Group], shape: tuple[int, int, int]
) -> dict[str, LoadOutliers]:
    """Returns what loads the images of each class that train lacks, by its name."""

    @functools.cache
    def list_outliers() -> dict[str, list[str]]:
        files = collections.defaultdict(list)
        for name in list_files(path):
            place, folder = layout.locate(get_group(name))
            if place == OUTLIERS:
                files[folder].append(name)
        return files

    def load(folder: str, max_images: int) -> tuple[np.ndarray, list[str]]:
        reader = FileReader(path, shape)
        return reader.read_first(list_outliers()[folder], max_images), reader.skipped

    places = map(layout.locate, groups)
    folders = sorted({folder for place, folder in places if place == OUTLIERS})
    return {name: functools.partial(load, folder) for name, folder in zip(name_classes(folders), folders)}
