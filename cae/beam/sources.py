"""Where images come from: files by pattern, on every file system of Beam, and the names that predictions have."""

import dataclasses
import glob
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio

from cae.beam.encoded_image import EncodedImage, dead_letter
from cae.beam.paths import is_local, list_files, resolve
from cae.beam.records import READERS
from cae.data.image_files import is_ignored
from cae.data.image_io import UnreadableImageError
from cae.errors import UserError
from cae.io_utils import printable


@dataclasses.dataclass(frozen=True)
class FilePatterns:
    """Files to read.

    Attributes:
      patterns: As Beam understands them: `*` within a folder, `**` over folders.
      roots: The folder of each.
      root: What these have in common; names are relative to it.
    """

    patterns: tuple[str, ...]
    roots: tuple[str, ...]
    root: str

    def name(self, path: str) -> str:
        """Returns the name of a file."""
        return path.removeprefix(self.root)

    def is_ignored(self, path: str) -> bool:
        """Returns whether a file is in an ignored folder below that which a pattern names, or is ignored itself."""
        names = [path.removeprefix(root) for root in self.roots if path.startswith(root)]
        # A file system may name files in another way than patterns do.
        return all(any(map(is_ignored, name.split("/"))) for name in names or [self.name(path)])


def find_patterns(inputs: Sequence[str]) -> FilePatterns:
    """Returns what `--input` names: files, folders and patterns.

    Raises:
      UserError: One names no file, or is of a file system that is not installed.
    """
    patterns, roots = [], []
    for each in inputs:
        pattern, root = _to_pattern(each)
        if not list_files(pattern, limit=1):
            raise UserError(f"--input={each} matches no file; a pattern looks like 'images/*.png' or 'images/**'")
        patterns.append(pattern)
        roots.append(root)
    common = os.path.commonprefix(roots)  # noqa: RUF071 - `commonpath` takes no URLs.
    return FilePatterns(tuple(patterns), tuple(roots), common[: common.rfind("/") + 1])


def _to_pattern(given: str) -> tuple[str, str]:
    """Returns the pattern of a file, folder or pattern, and the folder that its files are named relative to."""
    is_folder, path = given.endswith("/"), resolve(given)
    pattern, root = path, re.match(r"[^*?\[]*", path)[0]
    if is_local(path) and os.path.exists(path):  # Its name may contain the signs of patterns.
        is_folder, pattern, root = os.path.isdir(path), glob.escape(path), path
    if is_folder:
        pattern += "/**"
    if is_folder and root == path:
        return pattern, f"{root.rstrip('/')}/"
    # What precedes the first sign of a pattern ends with the beginning of a name.
    return pattern, root[: root.rfind("/") + 1]


class ReadImages(beam.PTransform):
    """Lists files, each once, and yields an `EncodedImage` for each image, and dead letters.

    A file of records is read by one worker, so that images are not sent from one to another.

    Args:
      patterns: The files.
      input_format: A value of `INPUT_FORMATS`.
      image_column: The feature or column that contains image files.
      name_column: That of their names; None for the file's name and the position in it.
    """

    def __init__(self, patterns: FilePatterns, input_format: str, image_column: str, name_column: str | None):
        super().__init__()
        self._patterns = patterns
        self._read = None
        if input_format != "images":
            self._read = _ReadRecords(patterns, READERS[input_format], image_column, name_column)

    def expand(self, pipeline: beam.Pipeline) -> Any:
        """Returns the outputs `images` and `failed`."""
        paths = (
            pipeline
            | beam.Create(self._patterns.patterns)
            | fileio.MatchAll(fileio.EmptyMatchTreatment.ALLOW)
            | beam.FlatMap(_list_path, self._patterns)
            # It also distributes the files among workers.
            | beam.Distinct()
        )
        read = self._read or _NameFiles(self._patterns)
        return paths | "Read" >> beam.ParDo(read).with_outputs("failed", main="images")


def _list_path(file: Any, patterns: FilePatterns) -> Iterator[bytes]:
    """Yields the path as bytes, as names may contain some that are not UTF-8; nothing for an ignored file."""
    if not patterns.is_ignored(file.path):
        yield os.fsencode(file.path)


class _NameFiles(beam.DoFn):
    """Yields an image for each path."""

    def __init__(self, patterns: FilePatterns):
        self._patterns = patterns

    def process(self, path: bytes) -> Iterator[Any]:
        text = os.fsdecode(path)
        yield EncodedImage(printable(self._patterns.name(text)), path=text)


class _ReadRecords(beam.DoFn):
    """Yields the images in each file of records, and dead letters: of records, and of the rest of a damaged file."""

    def __init__(self, patterns: FilePatterns, reader: Any, image_column: str, name_column: str | None):
        self._patterns, self._reader, self._columns = patterns, reader, (image_column, name_column)

    def process(self, path: bytes) -> Iterator[Any]:
        text, count = os.fsdecode(path), 0
        file_name = printable(self._patterns.name(text))
        records = self._reader(text, *self._columns)
        while True:
            try:
                name, content = next(records)
            except StopIteration:
                return
            except Exception as error:  # noqa: BLE001 - One file must not end the work on the others.
                yield dead_letter(f"{file_name}#{count}...", error)
                return
            name, count = f"{file_name}#{count}" if name is None else printable(name), count + 1
            if isinstance(content, UnreadableImageError):
                yield dead_letter(name, content)
            else:
                yield EncodedImage(name, content=content)
