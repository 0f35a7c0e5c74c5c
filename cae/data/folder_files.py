"""The files of a folder of images: counted, listed and read, with what is left out and what had to be guessed."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cae.data.folder_layout import MASKS, Group, get_group
from cae.data.image_files import EXTENSIONS, walk_files
from cae.data.image_io import UnreadableImageError
from cae.data.resizing import read_resized, read_unresized
from cae.data.splits import CHUNK_SIZE
from cae.errors import UserError
from cae.io_utils import abbreviate

_MAX_WARNINGS, _MAX_EXAMPLES = 10, 3


@dataclasses.dataclass(frozen=True)
class FolderSurvey:
    """What a folder contains, in memory that does not grow with the number of files.

    Attributes:
      counts: Number of images by group.
      hashes: A hash of the names, sizes and times of the images of each group.
      others: Number of files that are not images by suffix.
    """

    counts: dict[Group, int]
    hashes: dict[Group, int]
    others: dict[str, int]

    def describe_others(self) -> list[str]:
        """Returns a line that counts the files that are not images by suffix; no line if there are none."""
        kinds = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
        found = abbreviate([f"{count:,} {suffix or 'without a suffix'}" for suffix, count in kinds])
        return [f"ignored, not images: {found}"] if kinds else []


def survey_folder(path: Path) -> FolderSurvey:
    """Returns what a folder contains; raises `UserError` if it does not exist."""
    _check_folder(path)
    counts, hashes, others = collections.Counter(), collections.Counter(), collections.Counter()
    for name, file in walk_files(path):
        if not _is_image(name):
            others[PurePosixPath(name).suffix.lower()] += 1
            continue
        try:
            status = file.stat()
            state = f"{file}\n{status.st_size}\n{status.st_mtime_ns}"
        except OSError:
            state = str(file)  # A broken link.
        group = get_group(name)
        counts[group] += 1
        # A sum, since files are listed in any order.
        hashes[group] += int.from_bytes(hashlib.sha256(os.fsencode(state)).digest())
    return FolderSurvey(counts, hashes, others)


def list_files(path: Path) -> list[str]:
    """Returns the paths of a folder's images within it, in an order that depends on these paths alone.

    Masks are left out.

    Raises:
      UserError: The folder does not exist.
    """
    _check_folder(path)
    names = [name for name, _ in walk_files(path) if _is_image(name) and get_group(name)[0] != MASKS]
    # Ordered by a hash, a file's position is independent of its neighbors': any slice is a random sample.
    return sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())


def _check_folder(path: Path) -> None:
    if not path.is_dir():
        raise UserError(f"--dataset=folder:{path}: there is no such folder")


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


class FileReader:
    """Reads a folder's images in the shape of a model, or in their own height and width.

    Attributes:
      skipped: The names of the files that could not be read.
    """

    def __init__(self, path: Path, shape: tuple[int | None, int | None, int]):
        """Creates the reader for images of a (height, width, channels); None for each image's own."""
        self.skipped: list[str] = []
        self._path, self._shape = path, shape
        self._counts, self._examples = collections.Counter(), collections.defaultdict(list)

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Returns the readable ones of some images by name, uint8 [height, width, channels]."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = dict(zip(names, pool.map(self._read, names)))
        self.skipped += [name for name, result in results.items() if result is None]
        for name, (_, warnings) in ((name, result) for name, result in results.items() if result):
            for warning in warnings:
                self._add_warning(name, warning)
        return {name: result[0] for name, result in results.items() if result}

    def read_first(self, names: Sequence[str], max_images: int) -> np.ndarray:
        """Returns the first readable ones of some images, uint8 [n, height, width, channels]."""
        images, position = {}, 0
        while position < len(names) and len(images) < max_images:
            stop = position + min(CHUNK_SIZE, max_images - len(images))
            images |= self.read(names[position:stop])
            position = stop
        return np.stack([*images.values()]) if images else np.empty([0, *self._shape], np.uint8)

    def describe_warnings(self) -> list[str]:
        """Returns a line for each different warning, with the number of files and the first of them."""
        lines = [
            f"warning: {_count_files(count)}: {warning} ({', '.join(self._examples[warning])}"
            f"{', ...' * (count > _MAX_EXAMPLES)})"
            for warning, count in self._counts.items()
            if warning
        ]
        return lines + [f"warning: {_count_files(self._counts[''])} with other warnings"] * ("" in self._counts)

    def _read(self, name: str) -> tuple[np.ndarray, tuple[str, ...]] | None:
        try:
            if None in self._shape:
                return read_unresized(self._path / name, self._shape[2])
            return read_resized(self._path / name, self._shape)
        except UnreadableImageError:
            return None

    def _add_warning(self, name: str, warning: str) -> None:
        # Bounded, where each file has a warning of its own.
        known = warning in self._counts or len(self._counts) < _MAX_WARNINGS
        self._counts[warning if known else ""] += 1
        if known and len(self._examples[warning]) < _MAX_EXAMPLES:
            self._examples[warning].append(name)


def _count_files(count: int) -> str:
    return f"{count:,} file{'s' * (count > 1)}"
