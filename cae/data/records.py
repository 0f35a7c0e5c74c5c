"""Images and labels in TFRecord files, any of them read from where it has to lie.

A set is a folder of numbered shards and a records.json. A record is a `tf.train.Example` of `image`, the bytes of uint8
[height, width, channels], and `label`, an int64 of 8 bytes, the lowest first. All records of a set are of one size, so
that no index is held and nothing is searched: memory and start-up are those of one batch, however many images there
are. `tf.data.TFRecordDataset` reads the same files.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from cae.data.splits import SPLITS, Split, cut
from cae.errors import UserError

VERSION = 1

SHARD_BYTES = 32 * 2**20
"""How large a shard is, at most, unless one record is larger."""

MOST_OPEN = 256
"""Shards that are kept open; systems allow a process 1,024 files or so. Others are opened for each read."""

RECORD = "records.json"

# --- What a record looks like ----------------------------------------------------------------------------------------

_BLOCK = 256


@functools.cache
def _table() -> np.ndarray:
    """Returns what each byte, at each place of a block, adds to the block's CRC-32C, flat: uint32 [_BLOCK * 256]."""
    last = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        last = (last >> 1) ^ (np.uint32(0x82F63B78) * (last & 1))  # Castagnoli's polynomial, its bits reversed.
    places = [last]
    for _ in range(_BLOCK - 1):
        places.append(last[places[-1] & 255] ^ (places[-1] >> 8))
    return np.concatenate(places[::-1])


def checksums(rows: np.ndarray) -> np.ndarray:
    """Returns the CRC-32C of each of many equally long runs of bytes, uint8 [n, length] of 4 at least: uint32 [n].

    A CRC is linear, so that what bytes add to it is looked up by their places, for all rows and places at once. What
    came before a block is added to its first four bytes.
    """
    count, length = rows.shape
    blocks = -(-length // _BLOCK)
    bounds = [length * number // blocks for number in range(blocks + 1)]
    state = np.full(count, 0xFFFFFFFF, np.uint32)
    for start, stop in itertools.pairwise(bounds):
        table, places = _table()[(_BLOCK - stop + start) * 256 :], np.arange(stop - start) * 256
        block = rows[:, start:stop].copy()
        block[:, :4] ^= state.astype("<u4").view(np.uint8).reshape(count, 4)
        state = np.bitwise_xor.reduce(table[block + places], axis=1)
    return ~state


def _masked(checksum: np.ndarray) -> np.ndarray:
    """Returns checksums as TFRecord files hold them: uint32 [n]."""
    return ((checksum >> 15) | (checksum << 17)) + np.uint32(0xA282EAD8)


def _unmasked(held: np.ndarray) -> np.ndarray:
    turned = held - np.uint32(0xA282EAD8)
    return (turned >> 17) | (turned << 15)


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of a protocol buffer that holds bytes: its tag, their number and themselves."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2]) + bytes([*length, size]) + content


def _example(**features: bytes) -> bytes:
    """Returns a `tf.train.Example`, one value of bytes a feature, in the order in which they are given."""
    entries = [_field(1, name.encode()) + _field(2, _field(1, _field(1, value))) for name, value in features.items()]
    return _field(1, b"".join(_field(1, entry) for entry in entries))


class Layout:
    """Where in a record of images of one shape everything lies. `size` is how many bytes a record takes."""

    def __init__(self, image_shape: tuple[int, int, int]):
        self.image_shape = image_shape
        pixels, label = int(np.prod(image_shape)), bytes(range(248, 256))
        example = _example(label=label, image=bytes(pixels))
        length = np.frombuffer(len(example).to_bytes(8, "little"), np.uint8)
        self._head = np.concatenate([length, _bytes_of(_masked(checksums(length[None])))[0]])
        self._template = np.frombuffer(self._head.tobytes() + example + bytes(4), np.uint8)
        self.size = len(self._template)
        first = len(self._head) + example.index(label)
        # The image is the end of the example, but for the CRC that follows.
        self._label, self._image = slice(first, first + 8), slice(self.size - 4 - pixels, self.size - 4)
        self._data, self._sum = slice(len(self._head), self.size - 4), slice(self.size - 4, None)

    def pack(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns records, uint8 [n, size], of uint8 images [n, height, width, channels] and int labels [n]."""
        rows = np.tile(self._template, (len(images), 1))
        rows[:, self._image] = images.reshape(len(images), -1)
        rows[:, self._label] = _bytes_of(labels.astype("<i8"))
        rows[:, self._sum] = _bytes_of(_masked(checksums(rows[:, self._data])))
        return rows

    def unpack(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images and labels of records."""
        labels = np.ascontiguousarray(rows[:, self._label]).view("<i8")[:, 0]
        return rows[:, self._image].reshape(len(rows), *self.image_shape), labels.astype(np.int64)

    def intact(self, rows: np.ndarray) -> bool:
        """Returns whether different records are all as they were written.

        CRCs being linear, records of one length laid over each other by XOR have the XOR of their CRCs, once an even
        number of them is set right by the CRC of zeros: one look at all of them, instead of one at each.
        """
        together = checksums(np.bitwise_xor.reduce(rows[:, self._data], axis=0, keepdims=True))[0]
        if len(rows) % 2 == 0:
            together ^= self._of_zeros
        said = np.bitwise_xor.reduce(_unmasked(np.ascontiguousarray(rows[:, self._sum]).view("<u4")[:, 0]))
        return bool(said == together and (rows[:, : len(self._head)] == self._head).all())

    @functools.cached_property
    def _of_zeros(self) -> np.uint32:
        return checksums(np.zeros([1, self._data.stop - self._data.start], np.uint8))[0]


def _bytes_of(numbers: np.ndarray) -> np.ndarray:
    """Returns the bytes of numbers [n], the lowest first: uint8 [n, bytes]."""
    little = np.ascontiguousarray(numbers.astype(numbers.dtype.newbyteorder("<")))
    return little.view(np.uint8).reshape(len(numbers), -1)


# --- Reading ---------------------------------------------------------------------------------------------------------


class Records:
    """A folder of records, ready to be read from any place and by many threads at once.

    splits: what images they have, one after the other; fingerprint: of what is in them, or of what they were made
    from; skipped: files that could not be read when they were made.
    """

    def __init__(self, folder: Path):
        """Raises `UserError` where the folder, its record or a shard is missing, of another version or cut off."""
        self.folder = folder
        held = _read_record(folder)
        self.image_shape = tuple(held["image_shape"])
        self.class_names = tuple(held["class_names"])
        self.splits = {name: Split(**split) for name, split in held["splits"].items()}
        self.fingerprint, self.skipped = held["fingerprint"], tuple(held["skipped"])
        self.images, self._in_shard = sum(split.images for split in self.splits.values()), held["images_in_shard"]
        self._layout = Layout(self.image_shape)
        self._check_sizes()
        self._lock, self._open = threading.Lock(), {}
        weakref.finalize(self, _close, self._open)

    def split(self, name: str) -> "Stretch":
        """Returns the images of a split."""
        start = 0
        for each, split in self.splits.items():
            if each == name:
                return Stretch(self, start, start + split.images)
            start += split.images
        raise KeyError(name)

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the images, uint8 [n, *image_shape], and labels, int64 [n], at positions, int64 [n].

        Raises `UserError`, naming the file, for a record that is not as it was written.
        """
        if not len(positions):
            return np.zeros([0, *self.image_shape], np.uint8), np.zeros(0, np.int64)
        # Each is read once, and neighbours in one go.
        wanted, again = np.unique(positions, return_inverse=True)
        rows, shards = np.empty([len(wanted), self._layout.size], np.uint8), wanted // self._in_shard
        first = np.flatnonzero((np.diff(wanted, prepend=-2) != 1) | (np.diff(shards, prepend=-1) != 0))
        for start, stop in zip(first.tolist(), [*first[1:].tolist(), len(wanted)]):
            self._read(int(wanted[start]), rows[start:stop])
        if not self._layout.intact(rows):
            raise self._damaged(rows, wanted)
        return self._layout.unpack(rows[again])

    def _read(self, position: int, rows: np.ndarray) -> None:
        shard, place = divmod(position, self._in_shard)
        descriptor = self._open.get(shard)
        if descriptor is None:
            descriptor = self._opened(shard)
        try:
            if os.preadv(descriptor, [rows], place * self._layout.size) != rows.nbytes:
                raise _unfit(self._shard(shard), "was cut off while it was read")
        except OSError as error:
            raise _unfit(self._shard(shard), f"cannot be read ({error.strerror})") from error
        finally:
            if shard not in self._open:
                os.close(descriptor)

    def _opened(self, shard: int) -> int:
        with self._lock:
            if shard in self._open:
                return self._open[shard]
            try:
                descriptor = os.open(self._shard(shard), os.O_RDONLY)
            except OSError as error:
                raise _unfit(self._shard(shard), f"cannot be read ({error.strerror})") from error
            if len(self._open) < MOST_OPEN:
                self._open[shard] = descriptor
            return descriptor

    def _damaged(self, rows: np.ndarray, positions: np.ndarray) -> UserError:
        bad = next(at for at in range(len(rows)) if not self._layout.intact(rows[at : at + 1]))
        shard, place = divmod(int(positions[bad]), self._in_shard)
        return _unfit(self._shard(shard), f"has a damaged record at byte {place * self._layout.size}")

    def _shard(self, number: int) -> Path:
        return self.folder / shard_name(number)

    def _check_sizes(self) -> None:
        for number in range(-(-self.images // self._in_shard)):
            path, count = self._shard(number), min(self._in_shard, self.images - number * self._in_shard)
            try:
                size, right = path.stat().st_size, count * self._layout.size
            except OSError as error:
                raise _unfit(path, f"cannot be read ({error.strerror})") from error
            if size != right:
                raise _unfit(path, f"has {size:,} bytes where {right:,} are right")


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Consecutive images of records, read when they are wanted; a slice of one is another."""

    records: Records
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> "Stretch":
        start, stop, _ = part.indices(len(self))
        return Stretch(self.records, self.start + start, self.start + max(start, stop))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The (height, width, channels) of the images."""
        return self.records.image_shape

    def take(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `Records.take` does for positions within the stretch."""
        return self.records.take(self.start + positions)

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns all images and labels in memory."""
        images, labels = np.empty([len(self), *self.image_shape], np.uint8), np.empty(len(self), np.int64)
        for start in range(0, len(self), 1024):
            part = slice(start, min(start + 1024, len(self)))
            images[part], labels[part] = self.take(np.arange(part.start, part.stop))
        return images, labels


def shard_name(number: int) -> str:
    """Returns the file name of a shard, counted from 0."""
    return f"{number:05}.tfrecord"


def _read_record(folder: Path) -> dict:
    path = folder / RECORD
    try:
        held = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder} holds no records: there is no {RECORD}; cae.write_records writes both") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _unfit(path, "is damaged") from error
    if isinstance(held, dict) and held.get("version", VERSION) != VERSION:
        raise UserError(f"{path} is of version {held['version']}; this version of the code reads {VERSION}")
    if not _is_record(held):
        raise _unfit(path, "is not what was written")
    return held


def _is_record(held: object) -> bool:
    try:
        shape, splits = held["image_shape"], held["splits"]
        return (
            len(shape) == 3
            and all(isinstance(side, int) and side > 0 for side in shape)
            and shape[-1] in (1, 3)
            and list(splits) == list(SPLITS)
            and all(isinstance(Split(**each).images, int) and each["images"] > 0 for each in splits.values())
            and isinstance(held["images_in_shard"], int)
            and held["images_in_shard"] > 0
            and all(isinstance(name, str) for key in ("class_names", "skipped") for name in held[key])
            and isinstance(held["fingerprint"], str)
        )
    except (TypeError, KeyError):
        return False


def _unfit(path: Path, why: str) -> UserError:
    return UserError(f"{path} {why}: remove {path.parent}, and make its records again")


def _close(descriptors: dict[int, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


# --- Writing ---------------------------------------------------------------------------------------------------------


class CannotBeWritten(UserError):
    """A disk is full, or a folder cannot be written to."""


class Writer:
    """Writes a set's images to shards as they come, and at the end its record. `told` hears of every few images."""

    def __init__(self, folder: Path, told: Callable[[int], object]):
        self._folder, self._told, self._layout, self._file = folder, told, None, None
        self._hash, self.images = hashlib.sha256(), 0

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Writes images, uint8 [n, height, width, channels], and labels, int [n]; raises `UserError` for others."""
        images, labels = np.asarray(images), np.asarray(labels)
        self._layout = self._layout or Layout(_shape_of(images))
        if images.dtype != np.uint8 or images.shape[1:] != self._layout.image_shape:
            right = "x".join(map(str, self._layout.image_shape))
            raise UserError(f"images of {images.dtype} {images.shape} do not fit among uint8 images of {right}")
        if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or (labels < 0).any():
            raise UserError(f"labels must be {len(images)} whole numbers from 0, as many as images")
        # So few at once that the table and the records stay in the processor's cache.
        for start in range(0, len(images), 256):
            rows = self._layout.pack(images[start : start + 256], labels[start : start + 256])
            self._append(rows)
            self._told(len(rows))

    def _append(self, rows: np.ndarray) -> None:
        self._hash.update(rows)
        while len(rows):
            shard, place = divmod(self.images, self._in_shard)
            if place == 0:
                self.close()
                self._file = (self._folder / shard_name(shard)).open("xb")
            now = rows[: self._in_shard - place]
            self._file.write(now)
            self.images, rows = self.images + len(now), rows[len(now) :]

    @property
    def _in_shard(self) -> int:
        return max(1, SHARD_BYTES // self._layout.size)

    def finish(
        self,
        class_names: Sequence[str],
        splits: Mapping[str, Split],
        fingerprint: str | None = None,
        skipped: Sequence[str] = (),
    ) -> None:
        """Writes the record; unless a fingerprint is said, it is that of the content."""
        self.close()
        record = {
            "version": VERSION,
            "image_shape": self._layout.image_shape,
            "class_names": [*class_names],
            "splits": {name: dataclasses.asdict(splits[name]) for name in SPLITS},
            "images_in_shard": self._in_shard,
            "fingerprint": self._hash.hexdigest() if fingerprint is None else fingerprint,
            "skipped": [*skipped],
        }
        (self._folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")

    def close(self) -> None:
        """Closes the shard that is open."""
        if self._file:
            self._file.close()


def _shape_of(images: np.ndarray) -> tuple[int, int, int]:
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise UserError(f"images of shape {images.shape} are not [n, height, width, channels] of 1 or 3 channels")
    return images.shape[1:]


def write(
    folder: str | os.PathLike,
    chunks: Iterable[tuple[np.ndarray, np.ndarray]],
    class_names: Sequence[str] = (),
    splits: Mapping[str, int] | None = None,
) -> None:
    """Writes images that come in chunks to a new folder, for --dataset=records:PATH; holds one chunk at a time.

    chunks: (uint8 [n, height, width, channels], int labels [n], zeros where images are unlabelled); class_names: what
    labels mean, by position; splits: how many images each has, in the order of `SPLITS`, which is that of the images.
    Unless they are said, images are cut in proportion, which wants them to come in no order, so that any stretch is a
    fair sample. Nothing is left where it fails. Raises `UserError` for images that are not alike, splits that do not
    add up, and a folder that is there already or cannot be written.
    """
    folder, chunks = Path(folder).expanduser(), iter(chunks)

    def write_all(writer: Writer) -> None:
        most = 0
        for images, labels in chunks:
            writer.add(images, labels)
            most = max(most, int(np.max(labels, initial=0)))
        if most >= max(len(class_names), 1):
            raise UserError(f"the label {most} has no name: {len(class_names)} class names were said")
        writer.finish(class_names, _splits_of(folder, writer.images, splits))

    if folder.exists() or not make(folder, write_all):
        raise UserError(f"{folder} is there already; name a new folder")


def _splits_of(folder: Path, images: int, sizes: Mapping[str, int] | None) -> dict[str, Split]:
    if sizes is None:
        cuts = cut(str(folder), images)
        return {name: Split(stop - start, f"[{start}:{stop}]") for name, (start, stop) in cuts.items()}
    if set(sizes) != set(SPLITS) or min(sizes.values()) < 1 or sum(sizes.values()) != images:
        raise UserError(f"splits must be {', '.join(SPLITS)}, of an image at least and {images} together")
    stops = np.cumsum([sizes[name] for name in SPLITS]).tolist()
    return {name: Split(sizes[name], f"[{stop - sizes[name]}:{stop}]") for name, stop in zip(SPLITS, stops)}


def make(folder: Path, write: Callable[[Writer], None], told: Callable[[int], object] = lambda images: None) -> bool:
    """Makes a folder of records, whole or not at all; returns whether it did, or another process had before.

    write: gives a writer all images, and finishes; told: is called with how many were written since it last was. What a
    killed process left is cleared away by the next one. Raises `UserError` where the folder cannot be written.
    """
    partial = _partial(folder)
    with _cannot_be_written(folder):
        lock = _claim(folder, partial)
        if lock is None:
            return False
        try:
            _clear(partial)
            writer = Writer(partial, told)
            try:
                write(writer)
            finally:
                writer.close()
            os.rename(partial, folder)
            (folder / "lock").unlink()
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            os.close(lock)
    return True


def sweep(parent: Path) -> None:
    """Removes what processes that were killed left in a folder of records."""
    for partial in parent.glob("*.partial"):
        with contextlib.suppress(OSError):
            lock = _locked(partial, wait=False)
            if lock is not None:
                shutil.rmtree(partial, ignore_errors=True)
                os.close(lock)


@contextlib.contextmanager
def _cannot_be_written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotBeWritten(f"records cannot be written to {folder}: {error.strerror or error}") from error


def _partial(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def _claim(folder: Path, partial: Path) -> int | None:
    """Returns the lock of a folder that is to be filled, held; nothing where another process has made it."""
    while not folder.exists():
        try:
            partial.mkdir(parents=True, exist_ok=True)
            lock = _locked(partial, wait=True)
        except FileNotFoundError:
            continue  # The one before gave up in between.
        if lock is not None and folder.exists():
            shutil.rmtree(partial)
            os.close(lock)
        elif lock is not None:
            return lock
    return None


def _locked(partial: Path, wait: bool) -> int | None:
    """Returns the lock of a folder, held for as long as it is open; nothing where another has it or took it away."""
    import fcntl  # Windows has none; there nothing can be streamed.

    lock = os.open(partial / "lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            print(f"another process is writing {partial}: waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever had it may have moved the folder to its place, or removed it.
        if os.path.samestat(os.fstat(lock), os.stat(partial / "lock")):
            return lock
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _clear(partial: Path) -> None:
    for path in partial.iterdir():
        if path.name != "lock":
            path.unlink()
