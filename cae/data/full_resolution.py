"""Images of any sizes at full resolution, and crops of them at random places, flipped and turned.

An image is a stack, uint8 [takes, height, width, channels]: the target, and its input where that is another image,
as in pairs of a clean and a noisy one. Stacks are in memory, or mapped from a file: a crop reads only its own rows.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from cae.data.splits import Images, Split, chunk_slices
from cae.data.symmetries import DIHEDRAL
from cae.errors import UserError
from cae.metrics import MIN_IMAGE_SIZE


@dataclasses.dataclass(frozen=True)
class Crops:
    """How training crops are cut out of images.

    Attributes:
      size: Height and width in pixels.
      per_image: Number of crops of an image in an epoch.
      augment: Whether they are flipped and turned by quarters.
      swap: Whether target and input of a pair change places in half of the crops.
    """

    size: int
    per_image: int
    augment: bool = False
    swap: bool = False


class FullResolutionSplit(Split):
    """Images of any sizes, unlabeled; what loads a split as images of one size gets the center of each.

    Attributes:
      stacks: The images, each uint8 [takes, height, width, channels].
      names: Their names.
      hashes: A hash of each one's target, as `hash_images` has them, uint64 [n].
    """

    def __init__(
        self,
        stacks: Sequence[np.ndarray],
        names: Sequence[str],
        hashes: np.ndarray,
        origin: str,
        crop_size: int,
        folder: Path | None = None,
        duplicates: np.ndarray | None = None,
    ):
        super().__init__(len(stacks), origin)
        self.stacks, self.names, self.hashes = stacks, names, hashes
        self.folder, self.duplicates = folder, duplicates
        self._crop_size = crop_size

    def read(self) -> Iterator[Images]:
        """Yields the centers of all images in chunks, uint8 [n, crop_size, crop_size, channels]."""
        for part in chunk_slices(len(self)):
            centers = [center_crop(stack, self._crop_size)[0] for stack in self.stacks[part]]
            yield np.stack(centers), np.zeros(len(centers), np.int64)

    def load(self, max_bytes: int | None = None) -> Images:
        """Returns the centers of all images, and labels of 0."""
        images, labels = map(np.concatenate, zip(*self.read()))
        return images, labels

    def without(self, indices: np.ndarray, origin: str) -> "FullResolutionSplit":
        """Returns the split without the images at some indices, int [n] in ascending order."""
        kept = np.setdiff1d(np.arange(len(self)), indices)
        stacks, names = ([values[index] for index in kept] for values in (self.stacks, self.names))
        return FullResolutionSplit(stacks, names, self.hashes[kept], origin, self._crop_size, self.folder)

    def take_centers(self, indices: np.ndarray, max_side: int) -> np.ndarray:
        """Returns images whose centers have one size, [n, takes, height, width, channels], at most of `max_side`."""
        return np.stack([center_crop(self.stacks[index], max_side) for index in indices])

    def take_crops(self, indices: np.ndarray, places: np.ndarray, crops: Crops) -> np.ndarray:
        """Returns crops of images, uint8 [n, takes, size, size, channels].

        Args:
          indices: Of the images, int [n].
          places: Random values in 0..1, 1 excluded, float [n, 4]: where a crop is, vertically and horizontally; how it
            is flipped and turned; whether the takes are swapped.
          crops: The kind of crops.
        """
        places = places.astype(np.float64)  # In float32 a product may be rounded up to the next place.
        return np.stack([_crop(self.stacks[index], place, crops) for index, place in zip(indices, places)])


def _crop(stack: np.ndarray, place: np.ndarray, crops: Crops) -> np.ndarray:
    size = crops.size
    top, left = (int(at * (side - size + 1)) for at, side in zip(place, stack.shape[1:3]))
    crop = stack[:, top : top + size, left : left + size]
    if crops.augment:
        crop = DIHEDRAL[int(place[2] * len(DIHEDRAL))].apply(crop)
    return crop[::-1] if crops.swap and place[3] < 0.5 else crop


def center_crop(images: np.ndarray, max_side: int) -> np.ndarray:
    """Returns the center of images [..., height, width, channels], whose sides are `max_side` at most."""
    top, left = (max(side - max_side, 0) // 2 for side in images.shape[-3:-1])
    return images[..., top : top + max_side, left : left + max_side, :]


def check_sizes(option: str, stacks: Sequence[np.ndarray], names: Sequence[str], crop_size: int) -> None:
    """Raises `UserError` where a crop or SSIM's window is larger than an image; the message names the smallest one."""
    smallest = min(range(len(stacks)), key=lambda index: min(stacks[index].shape[1:3]))
    height, width = stacks[smallest].shape[1:3]
    if min(height, width) < MIN_IMAGE_SIZE:
        raise UserError(
            f"{names[smallest]} of {option} has {width}x{height} pixels; images need at least"
            f" {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}, SSIM's window"
        )
    if min(height, width) < crop_size:
        raise UserError(
            f"--crop_size={crop_size} is larger than {names[smallest]} of {option}, {width}x{height} pixels;"
            f" --crop_size={min(height, width)} is the largest that is possible"
        )
