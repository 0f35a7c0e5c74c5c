"""Folders of images for training on crops: one folder, or two of images that belong together by their names."""

import collections
import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from cae.config import Config
from cae.data.duplicates import describe_duplicates, find_duplicates
from cae.data.folder_files import FileReader, list_files, survey_folder
from cae.data.folder_layout import FolderLayout, describe_layout, divide, find_layout, get_group
from cae.data.full_resolution import Crops, FullResolutionSplit, check_sizes
from cae.data.image_dataset import ImageDataset
from cae.data.image_store import AddImage, StoredImages, store_images
from cae.data.splits import FULL_RESOLUTION_PROPORTIONS, SPLITS, split_bounds
from cae.errors import UserError
from cae.io_utils import abbreviate, printable

CHUNK_IMAGES = 8
"""Number of images that are decoded at a time."""

PAIRED = ("pairs", "takes")
"""Kinds of data sets of two folders: noisy and clean images, and two noisy takes of the same images."""

_READER_VERSION = 2
"""Part of the key of stored images: to be raised where the same files are read as other images."""


def open_full_resolution_folder(config: Config, divided: bool = True) -> ImageDataset:
    """Returns the data set of --dataset=folder:PATH, pairs:NOISY,CLEAN or takes:FIRST,SECOND, for --crop_size.

    Args:
      config: The configuration.
      divided: Whether images are divided among the splits; if not, all are in test.

    Raises:
      UserError: A folder is missing, has no readable images, too few for four splits, or splits that are not clear;
        or an image is smaller than a crop.
    """
    kind, _, text = config.dataset.partition(":")
    paths = _split_paths(config.dataset, text) if kind in PAIRED else [Path(text).expanduser()]
    channels = config.channels or 1
    surveys = [survey_folder(path) for path in paths]
    layout = find_layout(kind, paths, surveys[0].counts, with_classes=False) if divided else FolderLayout()
    read = functools.partial(_read_images, config.dataset, paths, layout if divided else None, channels)
    key = [_READER_VERSION, divided, channels, [sorted(map(str, survey.hashes.items())) for survey in surveys]]
    stored = store_images(config, _estimate_bytes(paths, channels), key, read)
    notes = (*surveys[0].describe_others(), *describe_layout(layout, surveys[0].counts), *stored.metadata["notes"])
    return as_full_resolution_dataset(config, stored, channels, notes, swap=kind == "takes")


def as_full_resolution_dataset(
    config: Config, stored: StoredImages, channels: int, notes: Sequence[str], swap: bool = False, **attributes: Any
) -> ImageDataset:
    """Returns the data set of decoded images, of which the metadata says what records.json would say.

    Args:
      config: The configuration.
      stored: The images, in the order of the splits.
      channels: 1 or 3.
      notes: Lines to print.
      swap: Whether training swaps target and input at random.
      **attributes: Others of `ImageDataset`.

    Raises:
      UserError: An image is smaller than a crop.
    """
    crop_size, metadata, splits = config.crop_size, stored.metadata, {}
    check_sizes(f"--dataset={config.dataset}", stored.stacks, stored.names, crop_size)
    bounds = split_bounds(metadata["splits"])
    hashes = np.array(stored.hashes, np.uint64)
    duplicates = find_duplicates([hashes], bounds)
    for name, (start, stop) in bounds.items():
        images = (each[start:stop] for each in (stored.stacks, stored.names, hashes))
        options = metadata["splits"][name]["origin"], crop_size, stored.folder, duplicates if name == "train" else None
        splits[name] = FullResolutionSplit(*images, *options)
    return ImageDataset(
        name=config.dataset,
        image_shape=(crop_size, crop_size, channels),
        class_names=(),
        splits=splits,
        fingerprint=metadata["fingerprint"],
        skipped=tuple(metadata["skipped"]),
        notes=(*notes, *describe_duplicates([hashes], bounds, stored.names)),
        crops=Crops(crop_size, config.crops_per_image, config.augment, swap),
        **attributes,
    )


def _split_paths(dataset: str, text: str) -> list[Path]:
    """Returns the two folders between which one of the commas of a text is."""
    parts = text.split(",")
    candidates = [[",".join(parts[:end]), ",".join(parts[end:])] for end in range(1, len(parts))]
    candidates = [[Path(path.strip()).expanduser() for path in each] for each in candidates]
    found = [each for each in candidates if all(path.is_dir() for path in each)]
    if found and not found[0][0].samefile(found[0][1]):
        return found[0]
    missing = [path for path in (found or candidates or [[]])[0] if not path.is_dir()]
    problem = f"there is no folder {missing[0]}" if missing else "it names one folder"
    raise UserError(f"--dataset={dataset}: {problem}; two are needed, as in pairs:NOISY,CLEAN or takes:FIRST,SECOND")


def _estimate_bytes(paths: Sequence[Path], channels: int) -> int:
    """Returns what all images take when they are decoded, by their headers."""
    total = 0
    for path in paths:
        for name in list_files(path):
            with contextlib.suppress(Exception), Image.open(path / name) as image:  # Unreadable files are found later.
                total += channels * image.width * image.height
    return total


def _read_images(
    dataset: str, paths: Sequence[Path], layout: FolderLayout | None, channels: int, add: AddImage
) -> dict[str, Any]:
    """Adds the images of one folder, or of two that belong together, and returns what is known of them."""
    partners, notes = _match_names(dataset, paths)
    parts = {split: [] for split in SPLITS}
    place = {name: layout.locate(get_group(name))[0] if layout else "test" for name in partners}
    for name in partners:
        parts.get(place[name], []).append(name)
    readers = [FileReader(path, (None, None, channels)) for path in paths]
    names, hashes, counts = [], hashlib.sha256(), collections.Counter()
    for name, stack in _read_stacks(readers, partners, [name for part in parts.values() for name in part], notes):
        add(name, stack)
        names.append(name)
        counts[place[name]] += 1
        hashes.update(os.fsencode(f"{name}\n"))
    skipped = [name for reader in readers for name in reader.skipped]
    if not counts["train" if layout else "test"]:
        reasons = [note.removeprefix("warning: ") for note in notes]
        reasons += [f"cannot read {abbreviate(skipped)}"] if skipped else []
        raise UserError(printable(f"--dataset={dataset}: {'; '.join(reasons) or 'there are no image files'}"))
    if layout:
        splits = divide(f"--dataset={dataset}", layout, counts, FULL_RESOLUTION_PROPORTIONS)
    else:
        splits = {split: {"images": counts[split], "origin": "all files"} for split in SPLITS}
    return {
        "splits": splits,
        "fingerprint": hashes.hexdigest(),
        "skipped": sorted(map(printable, skipped)),
        "notes": [*map(printable, notes + [line for reader in readers for line in reader.describe_warnings()])],
    }


def _match_names(dataset: str, paths: Sequence[Path]) -> tuple[dict[str, list[str]], list[str]]:
    """Returns each image's files by its name, and lines about images without a partner.

    The target is the last folder's. Images belong together if their paths within the folders are the same without
    the suffix; an image's name is that of its file in the first folder.
    """
    listed = [list_files(path) for path in paths]
    if len(paths) == 1:
        return {name: [name] for name in listed[0]}, []
    by_stem = [{str(PurePosixPath(name).with_suffix("")): name for name in names} for names in listed]
    partners = {
        name: [others[stem] for others in by_stem]
        for name in listed[0]
        if (stem := str(PurePosixPath(name).with_suffix(""))) in by_stem[1] and by_stem[0][stem] == name
    }
    if not partners:
        raise UserError(f"--dataset={dataset}: the folders have no images of the same name")
    notes = []
    for path, other, names, used in zip(paths, reversed(paths), listed, zip(*partners.values()), strict=False):
        if alone := sorted(set(names) - set(used)):
            notes.append(f"warning: {len(alone):,} images of {path} have none in {other}: {abbreviate(alone)}")
    return partners, notes


def _read_stacks(
    readers: Sequence[FileReader], partners: Mapping[str, Sequence[str]], names: Sequence[str], notes: list[str]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields names and images, the target first; adds a line for partners of different sizes, which are left out."""
    different = []
    for start in range(0, len(names), CHUNK_IMAGES):
        chunk = names[start : start + CHUNK_IMAGES]
        found = [reader.read([partners[name][index] for name in chunk]) for index, reader in enumerate(readers)]
        for name in chunk:
            takes = [images.get(file) for images, file in zip(found, partners[name])][::-1]
            if any(take is None for take in takes):
                continue
            if len({take.shape for take in takes}) > 1:
                different.append(f"{name} ({' and '.join(f'{t.shape[1]}x{t.shape[0]}' for t in takes[::-1])})")
                continue
            yield name, np.stack(takes)
    if different:
        notes.append(f"warning: left out {len(different):,} pairs of different sizes: {abbreviate(different)}")
