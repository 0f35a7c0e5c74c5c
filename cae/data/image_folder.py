"""Folders of images of any size and mode, resized to the shape that a model takes."""

import concurrent.futures
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cae.config import Config
from cae.data import record_cache
from cae.data.image_dataset import ImageDataset
from cae.data.image_files import EXTENSIONS, walk_files
from cae.data.image_io import UnreadableImageError
from cae.data.record_writer import RecordWriter
from cae.data.records import as_dataset
from cae.data.resizing import read_resized
from cae.data.splits import chunk_slices, describe_splits, make_array_splits, partition
from cae.errors import UserError


def read_folder(path: Path, height: int, width: int, channels: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Reads all PNG, JPEG and BMP files below a folder.

    Args:
      path: The folder.
      height: Height to which images are resized, in pixels.
      width: Width to which images are resized, in pixels.
      channels: 1 for grayscale, 3 for RGB.

    Returns:
      images: uint8 [n, height, width, channels].
      names: The images' paths within the folder, in the order of `list_files`.
      skipped: The names of files that cannot be read, sorted.

    Raises:
      UserError: The folder is missing or has no readable image.
    """
    files = list_files(path)
    images = read_files(path, files, (height, width, channels))
    if not images:
        raise _no_images_error(path, len(files))
    return np.stack([*images.values()]), [*images], sorted(set(files) - images.keys())


def read_files(path: Path, names: Sequence[str], shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Returns the readable ones of a folder's images by name, resized to uint8 [height, width, channels]."""

    def read(name: str) -> np.ndarray | None:
        try:
            return read_resized(path / name, shape)[0]
        except UnreadableImageError:
            return None

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return {name: image for name, image in zip(names, pool.map(read, names)) if image is not None}


def _no_images_error(path: Path, num_skipped: int) -> UserError:
    reason = f"none of its {num_skipped} can be read" if num_skipped else "it contains none"
    return UserError(f"--dataset=folder:{path} needs PNG, JPEG or BMP images, and {reason}")


def list_classes(names: Iterable[str]) -> list[str]:
    """Returns the first-level subfolders as class names if every image is in one and there are several, else none."""
    classes = sorted({_subfolder(name) for name in names})
    return classes if len(classes) > 1 and "" not in classes else []


def list_readable_classes(path: Path, names: Sequence[str], shape: tuple[int, int, int]) -> list[str]:
    """Returns the classes of a folder's readable images; reads a single image of each."""
    first_names = {}
    for name in names:
        if _subfolder(name) not in first_names and read_files(path, [name], shape):
            first_names[_subfolder(name)] = name
    return list_classes(first_names.values())


def get_labels(names: Iterable[str], classes: Sequence[str]) -> np.ndarray:
    """Returns the index of each image's class, int64 [n]; zeros if there are no classes."""
    indices = {name: index for index, name in enumerate(classes)}
    return np.array([indices[_subfolder(name)] if classes else 0 for name in names], np.int64)


def _subfolder(name: str) -> str:
    parts = Path(name).parts
    return parts[0] if len(parts) > 1 else ""


def list_files(path: Path) -> list[str]:
    """Returns the paths of a folder's images within it, in an order that depends on these paths alone.

    Raises:
      UserError: The folder does not exist.
    """
    names = [name for name, _ in _walk_images(path)]
    # Ordered by a hash, a file's position is independent of its neighbors': any slice is a random sample.
    return sorted(names, key=lambda name: hashlib.sha256(name.encode(errors="replace")).digest())


def fingerprint_folder(path: Path) -> tuple[int, str]:
    """Returns the number of a folder's images and a hash of their names, sizes and times, in constant memory.

    Raises:
      UserError: The folder does not exist.
    """
    count = total = 0
    for _, file in _walk_images(path):
        try:
            status = file.stat()
            state = f"{file}\n{status.st_size}\n{status.st_mtime_ns}"
        except OSError:
            state = str(file)  # A broken link.
        # A sum, since files are listed in any order.
        total += int.from_bytes(hashlib.sha256(state.encode(errors="replace")).digest())
        count += 1
    return count, hashlib.sha256(str(total).encode()).hexdigest()


def _walk_images(path: Path) -> Iterator[tuple[str, Path]]:
    """Yields (name, path) of the image files below a folder, one at a time."""
    if not path.is_dir():
        raise UserError(f"--dataset=folder:{path}: there is no such folder")
    return ((name, file) for name, file in walk_files(path) if file.suffix.lower() in EXTENSIONS)


# --- The data set -----------------------------------------------------------------------------------------------------

_ORDER = "files by hashed name"


def open_image_folder(config: Config) -> ImageDataset:
    """Returns the data set of --dataset=folder:PATH; raises `UserError` for a folder without readable images."""
    path = Path(config.dataset.partition(":")[2]).expanduser()
    size = config.image_size or 28
    shape = (size, size, config.channels or 1)
    count, key = fingerprint_folder(path)
    if record_cache.should_stream(config, count, shape):
        write = functools.partial(_write_folder, path, shape)
        return as_dataset(config.dataset, record_cache.get_records(config, count, shape, key, write))
    images, names, skipped = read_folder(path, *shape)
    classes = list_classes(names)
    return ImageDataset(
        name=config.dataset,
        image_shape=shape,
        class_names=tuple(classes),
        splits=make_array_splits(f"--dataset={config.dataset}", images, get_labels(names, classes), _ORDER),
        fingerprint=_hash_names(names),
        skipped=tuple(skipped),
    )


def _write_folder(path: Path, shape: tuple[int, int, int], writer: RecordWriter) -> dict[str, Any]:
    """Writes what `open_image_folder` reads, some images at a time."""
    files, names = list_files(path), []
    classes = list_readable_classes(path, files, shape)
    for chunk in chunk_slices(len(files)):
        images = read_files(path, files[chunk], shape)
        if images:
            writer.add(np.stack([*images.values()]), get_labels(images, classes))
        names += images
    if not names:
        raise _no_images_error(path, len(files))
    return {
        "class_names": classes,
        "splits": describe_splits(partition(f"--dataset=folder:{path}", len(names)), _ORDER),
        "fingerprint": _hash_names(names),
        "skipped": sorted(set(files) - set(names)),
    }


def _hash_names(names: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(names).encode(errors="replace")).hexdigest()
