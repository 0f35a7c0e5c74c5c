"""Images decoded once: in memory, or where they take too much of it in a file that is mapped into memory.

A folder of stored images holds `images.bin`, the images one after the other, and `images.json`, their names and
shapes: what a crop needs is read from the place where it is.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cae.config import Config
from cae.data import record_cache, record_writer
from cae.data.duplicates import hash_images
from cae.errors import UserError
from cae.io_utils import atomic_write, printable

DATA, METADATA, VERSION = "images.bin", "images.json", 2

AddImage = Callable[[str, np.ndarray], None]
"""Takes a name and an image, uint8 [takes, height, width, channels]."""

ReadImages = Callable[[AddImage], Mapping[str, Any]]
"""Adds images one by one, and returns what else is known of them; of types that JSON has."""


@dataclasses.dataclass
class StoredImages:
    """Decoded images.

    Attributes:
      names: Their names.
      stacks: The images, each uint8 [takes, height, width, channels].
      hashes: A hash of each one's first take, the target, as `hash_images` has them.
      metadata: What `ReadImages` returned.
      folder: The folder that they are mapped from; None if they are in memory.
    """

    names: list[str] = dataclasses.field(default_factory=list)
    stacks: list[np.ndarray] = dataclasses.field(default_factory=list)
    hashes: list[int] = dataclasses.field(default_factory=list)
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    folder: Path | None = None

    def add(self, name: str, stack: np.ndarray) -> None:
        """Appends an image."""
        self.names.append(name)
        self.stacks.append(stack)
        self.hashes.append(_hash(stack))


def store_images(config: Config, num_bytes: int, key: Any, read: ReadImages) -> StoredImages:
    """Returns decoded images, in memory or from the cache, where --streaming says so.

    Args:
      config: The configuration that names data set and cache.
      num_bytes: What the decoded images take, about.
      key: What tells these images from others of the same data set; any JSON value.
      read: Reads them; must be picklable.

    Raises:
      UserError: They do not fit into memory and must not be streamed, or cannot be written.
    """
    if record_cache.should_stream(config, num_bytes):
        folder = record_cache.cache_path(config, ["images"], [VERSION, key])
        if not folder.exists():
            record_cache.fill_cache(folder, config.dataset, "images", num_bytes, _create, read)
        return _map_images(folder)
    memory = psutil.virtual_memory().total
    if num_bytes > memory / 2:
        raise UserError(
            f"--dataset={config.dataset} takes {num_bytes / 2**30:.1f} GiB of {memory / 2**30:.1f} GiB of memory; use"
            " --streaming=auto"
        )
    images = StoredImages()
    images.metadata = read(images.add)
    return images


def _create(folder: Path, read: ReadImages) -> None:
    record_writer.create_folder(folder, functools.partial(_write, read=read), "images", record_cache.ADVICE)


def _write(folder: Path, read: ReadImages) -> None:
    """Writes the files of a folder of images, which are on the disk at the end, even after a power cut."""
    names, shapes, hashes = [], [], []
    with atomic_write(folder / DATA, "wb") as file:

        def add(name: str, stack: np.ndarray) -> None:
            file.write(np.ascontiguousarray(stack))
            names.append(printable(name))
            shapes.append(stack.shape)
            hashes.append(_hash(stack))

        metadata = read(add)
    with atomic_write(folder / METADATA) as file:
        content = {"version": VERSION, "names": names, "shapes": shapes, "hashes": hashes, "metadata": metadata}
        json.dump(content, file)


def _map_images(folder: Path) -> StoredImages:
    """Opens a folder of images.

    Raises:
      UserError: A file is missing, the metadata cannot be read, or the images have another length than it says; their
        values are not checked, which would take as long as reading all of them.
    """
    try:
        content = json.loads((folder / METADATA).read_text())
        names, shapes, hashes, metadata = (content[name] for name in ("names", "shapes", "hashes", "metadata"))
        values = np.memmap(folder / DATA, np.uint8, mode="r")
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        if not len(ends) or ends[-1] != len(values):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged: remove it, and it is written again") from error
    return StoredImages(names, _split(values, ends, shapes), hashes, metadata, folder)


def _split(values: np.ndarray, ends: np.ndarray, shapes: Sequence[Sequence[int]]) -> list[np.ndarray]:
    values = np.asarray(values)  # Views of a memmap are slow to create, each with the file's name.
    return [values[end - math.prod(shape) : end].reshape(shape) for end, shape in zip(ends, shapes)]


def _hash(stack: np.ndarray) -> int:
    return int(hash_images(stack[:1])[0])
