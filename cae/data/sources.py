"""A data set's name to uint8 images and labels in four disjoint splits.

To add a source, write a function to a `Source` and name it in `_open`.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from cae.config import Config
from cae.data import lines, pictures, prepared
from cae.errors import UserError, unknown_name

SMALLEST_SIDE = 11
"""SSIM looks through windows of 11x11 pixels, so no image may be smaller."""

SPLITS = {
    "train": "fits the weights",
    "validation": "chooses the best checkpoint",
    "calibration": "is kept for thresholds",
    "test": "is what is reported",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """How many images a split has, and which ones."""

    images: int
    origin: str


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set, ready to be read split by split.

    `read` takes a split's name and returns its images, uint8 [n, height, width, channels], and labels, int64 [n] in
    0..len(class_names)-1, or all zeros where `class_names` is empty: the images are unlabelled. `fingerprint` tells
    folders apart that have changed in between; `warning` says that this is not the data set that was asked for.
    `left_out` reads a split's images of the classes that were not taken, where only some were. `judge` scores paths of
    interpolation, as `lines.judge` does, where the truth is known.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    read: Callable[[str], tuple[np.ndarray, np.ndarray]]
    fingerprint: str = ""
    skipped: tuple[str, ...] = ()
    warning: str | None = None
    left_out: Callable[[str], tuple[np.ndarray, np.ndarray]] | None = None
    judge: Callable[[np.ndarray], dict[str, float | int | None]] | None = None

    def notices(self) -> list[str]:
        """Returns what a person should know of the data set, a line each."""
        lines = [f"warning: {self.warning}"] if self.warning else []
        if self.skipped:
            lines.append(f"{len(self.skipped)} files cannot be read and are left out: {', '.join(self.skipped)}")
        return lines

    def describe(self) -> dict[str, Any]:
        """Returns what config.json says of the data set."""
        described = dataclasses.asdict(dataclasses.replace(self, read=None, left_out=None, judge=None))
        described = {name: value for name, value in described.items() if name not in ("read", "left_out", "judge")}
        return described | {key: list(described[key]) for key in ("image_shape", "class_names", "skipped")}


def open_source(settings: Config) -> Source:
    """Returns the data set of the settings, or the fallback, with a warning, where it is neither here nor to be had.

    Raises `UserError` for a name that is not known, a folder without pictures, a split or a class that is missing, and
    a data set that is neither here nor to be had.
    """
    return _only(_either(settings), settings.classes)


def _either(settings: Config) -> Source:
    size = settings.data_dir, settings.image_size, settings.channels
    try:
        return _open(settings.dataset, *size)
    except prepared.Unavailable as error:
        fallback = settings.fallback_dataset
        if fallback is None:
            raise UserError(f"{error}; name a --data_dir that has it, or --fallback_dataset=digits") from error
        return dataclasses.replace(_open(fallback, *size), warning=f"{error}: this is '{fallback}' instead")


def _open(dataset: str, data_dir: str | None, image_size: int | None, channels: int | None) -> Source:
    if image_size is not None and image_size < SMALLEST_SIDE:
        raise UserError(f"--image_size={image_size} must be at least {SMALLEST_SIDE}, the side of SSIM's window")
    name, colon, rest = dataset.partition(":")
    if name == "digits" and not colon:
        return _digits(image_size or 28, channels or 1)
    if name == "lines" and not colon:
        return _lines(image_size or lines.SIDE, channels or 1)
    if name == "folder":
        return _folder(dataset, Path(rest).expanduser(), image_size or 28, channels or 1)
    return _prepared(dataset, data_dir, image_size, channels)


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
    cuts, angles = _cut("lines", lines.IMAGES, tuple(SPLITS)), lines.angles()

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        images = lines.draw(angles[slice(*cuts[split])])
        return images, np.zeros(len(images), np.int64)

    return Source(
        name="lines",
        image_shape=(lines.SIDE, lines.SIDE, 1),
        class_names=(),
        splits={name: Split(stop - start, f"drawn lines[{start}:{stop}]") for name, (start, stop) in cuts.items()},
        read=read,
        judge=lines.judge,
    )


def _folder(dataset: str, path: Path, side: int, channels: int) -> Source:
    folder = pictures.read_folder(path, side, side, channels)
    source = _cut_in_four(dataset, folder.images, folder.labels(), tuple(folder.classes()), "files by hashed name")
    fingerprint = hashlib.sha256("\n".join(folder.names).encode(errors="replace")).hexdigest()
    return dataclasses.replace(source, fingerprint=fingerprint, skipped=tuple(folder.skipped))


def _prepared(dataset: str, data_dir: str | None, image_size: int | None, channels: int | None) -> Source:
    builder = prepared.builder(dataset, data_dir)
    _, own = prepared.image_feature(builder)
    if image_size is None and None in own[:2]:
        raise UserError(f"--dataset={dataset} has images of many sizes: say --image_size")
    shape = (image_size or own[0], image_size or own[1], channels or own[2])
    label = prepared.label_feature(builder)
    sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
    origins = _official_splits(dataset, sizes)
    return Source(
        name=dataset,
        image_shape=shape,
        class_names=tuple(label[1]) if label else (),
        splits={name: Split(stop - start, f"{part}[{start}:{stop}]") for name, (part, start, stop) in origins.items()},
        read=lambda split: prepared.read(builder, "{}[{}:{}]".format(*origins[split]), shape),
    )


def _official_splits(dataset: str, sizes: dict[str, int]) -> dict[str, tuple[str, int, int]]:
    """Returns each split's (official split, start, stop), given the official splits' sizes."""
    if "train" not in sizes:
        raise UserError(f"--dataset={dataset}: the prepared copy lacks the split 'train'; it has {', '.join(sizes)}")
    held_out = next((name for name in ("test", "validation") if sizes.get(name)), None)
    parts = ("train", "validation", "calibration") if held_out else tuple(SPLITS)
    cuts = {name: ("train", *bounds) for name, bounds in _cut(dataset, sizes["train"], parts).items()}
    return cuts | ({"test": (held_out, 0, sizes[held_out])} if held_out else {})


def _cut_in_four(
    dataset: str, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], origin: str
) -> Source:
    cuts = _cut(dataset, len(images), tuple(SPLITS))
    return Source(
        name=dataset,
        image_shape=images.shape[1:],
        class_names=class_names,
        splits={name: Split(stop - start, f"{origin}[{start}:{stop}]") for name, (start, stop) in cuts.items()},
        read=lambda split: (images[slice(*cuts[split])], labels[slice(*cuts[split])]),
    )


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


# MNIST's sizes: 50,000 / 5,000 / 5,000 / 10,000. Everything else is cut in proportion.
_PROPORTIONS = {"train": 10, "validation": 1, "calibration": 1, "test": 2}


def _cut(dataset: str, total: int, parts: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Cuts `total` images into consecutive parts, in `_PROPORTIONS`: each part's (start, stop)."""
    whole = sum(_PROPORTIONS[part] for part in parts)
    if total < whole:
        raise UserError(f"--dataset={dataset} has {total} images; {whole} are needed for {', '.join(parts)}")
    sizes = [total * _PROPORTIONS[part] // whole for part in parts]
    sizes[0] += total - sum(sizes)
    stops = np.cumsum(sizes).tolist()
    return {part: (stop - size, stop) for part, size, stop in zip(parts, sizes, stops)}


def check(source: Source, batch_size: int) -> None:
    """Raises `UserError` where a batch is larger than the training split, or the images than half of the memory."""
    training = source.splits["train"].images
    if batch_size > training:
        raise UserError(f"--batch_size={batch_size} is more than the {training} training images")
    total = sum(split.images for split in source.splits.values()) * int(np.prod(source.image_shape))
    memory = psutil.virtual_memory().total
    if total > memory / 2:
        raise UserError(
            f"--dataset={source.name} at {source.image_shape} takes {total / 2**30:.1f} GiB of {memory / 2**30:.1f} GiB"
            " of memory, where images are held; a smaller --image_size takes less"
        )
