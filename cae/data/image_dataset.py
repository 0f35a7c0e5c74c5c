"""A data set of images with four splits, whatever it is read from."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cae.data.full_resolution import Crops
from cae.data.splits import ArraySplit, Images, Split
from cae.io_utils import abbreviate, printable

MAX_EVAL_BYTES = 2**28
"""Bytes of a split's first images that `ImageDataset.load` returns at most if the data set is streamed."""


LoadOutliers = Callable[[int], tuple[np.ndarray, list[str]]]
"""Takes a maximum, and returns images, uint8 [n, height, width, channels], and names of files that cannot be read."""


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A data set that is open for reading.

    Attributes:
      name: Its name as in --dataset.
      image_shape: The (height, width, channels) of all images.
      class_names: Names of the classes by label; empty for unlabeled images, whose labels are 0.
      splits: The splits of `SPLITS` by name.
      version: What tells its content from that of another version under the same name; any JSON value.
      fingerprint: A hash of what the images were read from, or of the images.
      skipped: Names of files that could not be read.
      notes: Lines to print about what was read.
      pixel_max: The largest value of a pixel in what the images are read from, where they are in 0..255.
      outliers: What loads the first images of the classes that only other splits than train have, by class name.
      warning: Why this is another data set than was requested, if it is.
      excluded_classes: Takes a split's name, and returns images and labels of the classes that --normal_classes
        excludes; None without the flag.
      crops: How training crops are cut out where the splits are a `FullResolutionSplit`;
        `image_shape` is that of a crop.
      interpolation_metric: Measures interpolated images as `lines.evaluate_interpolation` does; None if the images
        between two images are unknown.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    version: Any = None
    fingerprint: str = ""
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    pixel_max: int = 255
    outliers: Mapping[str, LoadOutliers] = dataclasses.field(default_factory=dict)
    warning: str | None = None
    excluded_classes: Callable[[str], Images] | None = None
    crops: Crops | None = None
    interpolation_metric: Callable[[np.ndarray], dict[str, float | int | None]] | None = None
    _loaded: dict[str, Images] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def num_images(self) -> int:
        """Number of images in all splits."""
        return sum(len(split) for split in self.splits.values())

    @property
    def num_bytes(self) -> int:
        """What all images take in memory."""
        return self.num_images * math.prod(self.image_shape)

    @property
    def folder(self) -> Path | None:
        """The folder of the records that images are streamed from; None if they are in memory."""
        return next(iter(self.splits.values())).folder

    def load(self, split: str) -> Images:
        """Returns a split's images and labels, and keeps them for the next call.

        Returns:
          images: uint8 [n, height, width, channels]; the first `MAX_EVAL_BYTES` at most if the data set is streamed.
          labels: int64 [n].
        """
        if split not in self._loaded:
            self._loaded[split] = self.splits[split].load(MAX_EVAL_BYTES)
        return self._loaded[split]

    def in_memory(self) -> "ImageDataset":
        """Returns the same data set, read as a whole instead of being streamed."""
        splits = {
            name: ArraySplit(len(split), split.origin, lambda split=split: [split.load()])
            for name, split in self.splits.items()
        }
        return dataclasses.replace(self, splits=splits)

    def info(self) -> dict[str, Any]:
        """Returns what config.json says of the data set, which is the same whether it is streamed or not."""
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            "class_names": list(self.class_names),
            "splits": {name: split.info() for name, split in self.splits.items()},
            "fingerprint": self.fingerprint,
            "skipped": list(self.skipped),
            "pixel_max": self.pixel_max,
            "warning": self.warning,
        }

    def warnings(self) -> list[str]:
        """Returns lines to print when the data set is opened."""
        lines = [f"warning: {self.warning}"] if self.warning else []
        if self.skipped:
            lines.append(f"skipped {len(self.skipped):,} files that cannot be read: {abbreviate(self.skipped)}")
        lines += self.notes
        if self.folder:
            lines.append(f"streaming {self.name} from {self.folder}")
        return [*map(printable, lines)]

    def truncation_warnings(self) -> list[str]:
        """Returns a line for each split of which an evaluation takes only the first images."""
        counts = {name: (split.num_loaded(MAX_EVAL_BYTES), len(split)) for name, split in self.splits.items()}
        return [
            f"evaluating on the first {loaded:,} of {total:,} {name} images of {self.name}"
            for name, (loaded, total) in counts.items()
            if loaded < total
        ]
