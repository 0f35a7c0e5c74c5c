"""A data set's name to uint8 images and labels in four disjoint splits.

To add a source, write a function to a `Source` and name it in `_open`. One that may be large has `chunks`, too, which
hold a piece at a time: it can then be streamed.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from cae.config import Config
from cae.data import converted, lines, pictures, prepared
from cae.data.records import Records, Stretch, Writer
from cae.data.splits import SPLITS, Split, cut
from cae.errors import UserError, unknown_name

SMALLEST_SIDE = 11
"""SSIM looks through windows of 11x11 pixels, so no image may be smaller."""

FOLDER_ORDER = "files by hashed name"

AT_ONCE = 1024
"""Pictures of a folder that are held at once while they are written as records."""

MOST_READ = 2**28
"""How many bytes of a split's first images `Source.read` holds, at most, where a data set is streamed."""


Images = tuple[np.ndarray, np.ndarray]
"""Images, uint8 [n, height, width, channels], and their labels, int64 [n]."""


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set, ready to be read split by split.

    `read` takes a split's name and returns its images, uint8 [n, height, width, channels], and labels, int64 [n] in
    0..len(class_names)-1, or all zeros where `class_names` is empty: the images are unlabelled. `fingerprint` tells
    folders apart that have changed in between; `warning` says that this is not the data set that was asked for.
    `left_out` reads a split's images of the classes that were not taken, where only some were. `judge` scores paths of
    interpolation, as `lines.judge` does, where the truth is known. `chunks` yields what `read` returns piece by piece,
    where a data set need not be held for it. `streamed` has all the images where they are read when they are needed;
    `read` then returns the first of them, `MOST_READ` bytes at most.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    read: Callable[[str], Images]
    fingerprint: str = ""
    skipped: tuple[str, ...] = ()
    warning: str | None = None
    left_out: Callable[[str], Images] | None = None
    judge: Callable[[np.ndarray], dict[str, float | int | None]] | None = None
    chunks: Callable[[str], Iterable[Images]] | None = None
    streamed: Records | None = None

    def notices(self) -> list[str]:
        """Returns what a person should know of the data set, a line each."""
        lines = [f"warning: {self.warning}"] if self.warning else []
        if self.skipped:
            lines.append(f"{len(self.skipped)} files cannot be read and are left out: {', '.join(self.skipped)}")
        if self.streamed:
            lines.append(f"{self.name} is not held in memory but streamed from {self.streamed.folder}")
        return lines

    def limits(self) -> list[str]:
        """Returns which splits an evaluation sees but in part, a line each."""
        seen = {name: len(first_of(self.streamed, name)) for name in self.splits} if self.streamed else {}
        return [
            f"{self.name} is streamed: of its {self.splits[name].images:,} {name} images an evaluation takes the first"
            f" {count:,}"
            for name, count in seen.items()
            if count < self.splits[name].images
        ]

    def describe(self) -> dict[str, Any]:
        """Returns what config.json says of the data set, which is the same whether it is streamed or not."""
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            "class_names": list(self.class_names),
            "splits": {name: dataclasses.asdict(split) for name, split in self.splits.items()},
            "fingerprint": self.fingerprint,
            "skipped": list(self.skipped),
            "warning": self.warning,
        }


def first_of(streamed: Records, split: str) -> Stretch:
    """Returns the first images of a split, `MOST_READ` bytes of them at most."""
    return streamed.split(split)[: max(1, MOST_READ // int(np.prod(streamed.image_shape)))]


def open_source(settings: Config) -> Source:
    """Returns the data set of the settings, or the fallback, with a warning, where it is neither here nor to be had.

    Raises `UserError` for a name that is not known, a folder without pictures, a split or a class that is missing, and
    a data set that is neither here nor to be had.
    """
    return _only(_either(settings), settings.classes)


def _either(settings: Config) -> Source:
    try:
        return _open(settings.dataset, settings)
    except prepared.Unavailable as error:
        fallback = settings.fallback_dataset
        if fallback is None:
            raise UserError(f"{error}; name a --data_dir that has it, or --fallback_dataset=digits") from error
        return dataclasses.replace(_open(fallback, settings), warning=f"{error}: this is '{fallback}' instead")


def _open(dataset: str, settings: Config) -> Source:
    image_size, channels = settings.image_size, settings.channels
    if image_size is not None and image_size < SMALLEST_SIDE:
        raise UserError(f"--image_size={image_size} must be at least {SMALLEST_SIDE}, the side of SSIM's window")
    name, colon, rest = dataset.partition(":")
    if name == "records" and colon:
        return _records(dataset, Path(rest).expanduser(), settings)
    if name == "folder":
        return _folder(dataset, Path(rest).expanduser(), image_size or 28, channels or 1, settings)
    if name == "digits" and not colon:
        return _held_or_streamed(_digits(image_size or 28, channels or 1), settings)
    if name == "lines" and not colon:
        return _held_or_streamed(_lines(image_size or lines.SIDE, channels or 1), settings)
    return _prepared(dataset, settings)


def _digits(side: int, channels: int) -> Source:
    """The handwritten digits that scikit-learn carries, 8x8, smoothly enlarged and centred as MNIST's are."""
    from sklearn.datasets import load_digits  # Only this data set needs it, and it takes a second to import.

    def enlarged(image: np.ndarray) -> np.ndarray:
        large = Image.fromarray((image * 255 / 16).astype(np.float32)).resize((24, 24), Image.Resampling.BICUBIC)
        centred = np.pad(np.asarray(large).clip(0, 255).round().astype(np.uint8), 2)
        return pictures.fit(Image.fromarray(centred), side, side, channels)

    bundle = load_digits()
    # RandomState's stream is frozen for ever, so that every version of NumPy makes the same splits.
    order = np.random.RandomState(0).permutation(len(bundle.images))
    images = np.stack([enlarged(bundle.images[index]) for index in order])
    labels = bundle.target[order].astype(np.int64)
    names = tuple(str(name) for name in bundle.target_names)
    return _cut_in_four("digits", images, labels, names, "permuted images")


def _lines(side: int, channels: int) -> Source:
    if (side, channels) != (lines.SIDE, 1):
        raise UserError(
            f"--dataset=lines has grey images of {lines.SIDE}x{lines.SIDE} alone: --image_size={side} and"
            f" --channels={channels} cannot be had"
        )
    cuts, angles = cut("--dataset=lines", lines.IMAGES), lines.angles()

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        images = lines.draw(angles[slice(*cuts[split])])
        return images, np.zeros(len(images), np.int64)

    return Source(
        name="lines",
        image_shape=(lines.SIDE, lines.SIDE, 1),
        class_names=(),
        splits=_described(cuts, "drawn lines"),
        read=read,
        judge=lines.judge,
    )


def _folder(dataset: str, path: Path, side: int, channels: int, settings: Config) -> Source:
    count, identity = pictures.survey(path)
    shape = (side, side, channels)
    if _streams(dataset, count, shape, settings):
        write = functools.partial(_write_folder, dataset=dataset, path=path, shape=shape)
        return _of_records(dataset, converted.find(dataset, count, shape, identity, settings, write))
    folder = pictures.read_folder(path, *shape)
    source = _cut_in_four(dataset, folder.images, folder.labels(), tuple(folder.classes()), FOLDER_ORDER)
    fingerprint = hashlib.sha256("\n".join(folder.names).encode(errors="replace")).hexdigest()
    return dataclasses.replace(source, fingerprint=fingerprint, skipped=tuple(folder.skipped))


def _write_folder(writer: Writer, dataset: str, path: Path, shape: tuple[int, int, int]) -> None:
    """Writes a folder's pictures as `_folder` has them, a thousand at a time."""
    names, skipped, fingerprint = pictures.names_in(path), [], hashlib.sha256()
    classes = pictures.readable_classes(path, names, shape)
    for start in range(0, len(names), AT_ONCE):
        some = names[start : start + AT_ONCE]
        found = dict(zip(some, pictures.read_some(path, some, *shape)))
        skipped += [name for name, picture in found.items() if picture is None]
        read = [name for name, picture in found.items() if picture is not None]
        if read:
            fingerprint.update(("\n" * (writer.images > 0) + "\n".join(read)).encode(errors="replace"))
            writer.add(np.stack([found[name] for name in read]), pictures.labels_of(read, classes))
    if not writer.images:
        raise pictures.none_readable(path, len(skipped))
    cuts = cut(f"--dataset={dataset}", writer.images)
    writer.finish(classes, _described(cuts, FOLDER_ORDER), fingerprint.hexdigest(), sorted(skipped))


def _records(dataset: str, path: Path, settings: Config) -> Source:
    held = Records(path)
    side, channels = settings.image_size, settings.channels
    if (side or held.image_shape[0], side or held.image_shape[1], channels or held.image_shape[2]) != held.image_shape:
        own = "x".join(map(str, held.image_shape))
        said = [f"--{name}={value}" for name, value in {"image_size": side, "channels": channels}.items() if value]
        raise UserError(f"--dataset={dataset} has images of {own} alone: {' and '.join(said)} cannot be had")
    if min(held.image_shape[:2]) < SMALLEST_SIDE:
        raise UserError(f"--dataset={dataset} has images smaller than {SMALLEST_SIDE}, the side of SSIM's window")
    source = _of_records(dataset, held)
    if _streams(dataset, held.images, held.image_shape, settings, unless_told=not settings.classes):
        return source
    return dataclasses.replace(source, read=lambda split: held.split(split).all(), streamed=None)


def _of_records(name: str, held: Records) -> Source:
    return Source(
        name=name,
        image_shape=held.image_shape,
        class_names=held.class_names,
        splits=held.splits,
        read=lambda split: first_of(held, split).all(),
        fingerprint=held.fingerprint,
        skipped=held.skipped,
        streamed=held,
    )


def _prepared(dataset: str, settings: Config) -> Source:
    image_size, channels = settings.image_size, settings.channels
    builder = prepared.builder(dataset, settings.data_dir)
    _, own = prepared.image_feature(builder)
    if image_size is None and None in own[:2]:
        raise UserError(f"--dataset={dataset} has images of many sizes: say --image_size")
    shape = (image_size or own[0], image_size or own[1], channels or own[2])
    label = prepared.label_feature(builder)
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    origins = _official_splits(dataset, sizes)
    official = {name: "{}[{}:{}]".format(*origin) for name, origin in origins.items()}
    source = Source(
        name=dataset,
        image_shape=shape,
        class_names=tuple(label[1]) if label else (),
        splits={name: Split(stop - start, official[name]) for name, (_, start, stop) in origins.items()},
        read=lambda split: prepared.read(builder, official[split], shape),
        chunks=lambda split: prepared.chunks(builder, official[split], shape),
    )
    return _held_or_streamed(source, settings, prepared.identity(builder))


def _held_or_streamed(source: Source, settings: Config, identity: Any = None) -> Source:
    """Returns a data set that is streamed, after writing it as records where need be, where settings or size say so.

    identity: what tells it from another that is described alike.
    """
    total = sum(split.images for split in source.splits.values())
    if not _streams(source.name, total, source.image_shape, settings):
        return source
    # Callables do not go to another process: there it opens the data set again.
    held = dataclasses.replace(settings, streaming="never", classes=None)
    write = functools.partial(_write_source, dataset=source.name, settings=held)
    identity = [source.describe(), identity]
    streamed = converted.find(source.name, total, source.image_shape, identity, settings, write)
    return dataclasses.replace(source, read=lambda split: first_of(streamed, split).all(), streamed=streamed)


def _write_source(writer: Writer, dataset: str, settings: Config) -> None:
    """Writes a data set's splits as they are read."""
    source = _open(dataset, settings)
    for split in SPLITS:
        for images, labels in source.chunks(split) if source.chunks else [source.read(split)]:
            writer.add(images, labels)
    writer.finish(source.class_names, source.splits, source.fingerprint, source.skipped)


def _streams(
    dataset: str, images: int, shape: tuple[int, int, int], settings: Config, unless_told: bool = False
) -> bool:
    """Returns whether a data set is to be streamed; `unless_told` is what happens to one that would fit in memory.

    Raises `UserError` where only some classes are taken, for which all labels have to be looked at.
    """
    large = images * int(np.prod(shape)) > psutil.virtual_memory().total / 4
    wanted = {"always": True, "never": False, "auto": large or unless_told}[settings.streaming]
    if wanted and settings.classes:
        raise UserError(
            f"--classes={settings.classes} can only be taken of a data set that is held in memory: --dataset={dataset}"
            f" is streamed. {'--streaming=auto' if not large else '--streaming=never'} holds it"
        )
    return wanted


def _official_splits(dataset: str, sizes: dict[str, int]) -> dict[str, tuple[str, int, int]]:
    """Returns each split's (official split, start, stop), given the official splits' sizes."""
    if "train" not in sizes:
        raise UserError(f"--dataset={dataset}: the prepared copy lacks the split 'train'; it has {', '.join(sizes)}")
    held_out = next((name for name in ("test", "validation") if sizes.get(name)), None)
    parts = ("train", "validation", "calibration") if held_out else tuple(SPLITS)
    cuts = {name: ("train", *bounds) for name, bounds in cut(f"--dataset={dataset}", sizes["train"], parts).items()}
    return cuts | ({"test": (held_out, 0, sizes[held_out])} if held_out else {})


def _cut_in_four(
    dataset: str, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], origin: str
) -> Source:
    cuts = cut(f"--dataset={dataset}", len(images))
    return Source(
        name=dataset,
        image_shape=images.shape[1:],
        class_names=class_names,
        splits=_described(cuts, origin),
        read=lambda split: (images[slice(*cuts[split])], labels[slice(*cuts[split])]),
    )


def _described(cuts: dict[str, tuple[int, int]], origin: str) -> dict[str, Split]:
    return {name: Split(stop - start, f"{origin}[{start}:{stop}]") for name, (start, stop) in cuts.items()}


def _only(source: Source, classes: str | None) -> Source:
    """Returns the data set with the images of some classes; labels and names stay those of all."""
    if classes is None:
        return source
    kept = _positions(classes, source)
    read_all = functools.cache(source.read)

    def read(split: str, left_out: bool = False) -> tuple[np.ndarray, np.ndarray]:
        images, labels = read_all(split)
        members = np.isin(labels, kept, invert=left_out)
        return images[members], labels[members]

    splits = {}
    for name, split in source.splits.items():
        splits[name] = Split(len(read(name)[1]), f"{split.origin}, classes {classes}")
        if not splits[name].images:
            raise UserError(f"--classes={classes}: the split '{name}' of {source.name} has no such image")
    return dataclasses.replace(source, splits=splits, read=read, left_out=functools.partial(read, left_out=True))


def _positions(classes: str, source: Source) -> list[int]:
    names = [name.strip() for name in classes.split(",")]
    without = all(name.startswith("-") for name in names) and not set(names) <= set(source.class_names)
    wanted = [name.removeprefix("-") if without else name for name in names]
    for name in wanted:
        if name not in source.class_names:
            raise unknown_name("--classes", name, source.class_names)
    named = [position for position, name in enumerate(source.class_names) if name in wanted]
    return [position for position in range(len(source.class_names)) if (position in named) != without]


def check(source: Source, batch_size: int) -> None:
    """Raises `UserError` where a batch is larger than the training split, or held images than half of the memory."""
    training = source.splits["train"].images
    if batch_size > training:
        raise UserError(f"--batch_size={batch_size} is more than the {training} training images")
    total = sum(split.images for split in source.splits.values()) * int(np.prod(source.image_shape))
    memory = psutil.virtual_memory().total
    if total > memory / 2 and not source.streamed:
        raise UserError(
            f"--dataset={source.name} at {source.image_shape} takes {total / 2**30:.1f} GiB of {memory / 2**30:.1f} GiB"
            " of memory, where images are held; --streaming=auto leaves them on disk, a smaller --image_size takes less"
        )
