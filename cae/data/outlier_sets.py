"""Sets of outliers: synthetic ones, most of them made from test images, and images of other data sets."""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cae.config import Config
from cae.data import datasets, tfds, tfds_builder
from cae.data.arrays import border_pixels, to_pil
from cae.data.image_dataset import ImageDataset
from cae.data.image_folder import load_images
from cae.data.resizing import resize_with_pad
from cae.errors import UserError
from cae.io_utils import abbreviate, printable

OutlierFn = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def quarter_turn(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns images rotated counterclockwise by 90 degrees; none of them if they are not square."""
    return np.rot90(images, axes=(1, 2)) if images.shape[1] == images.shape[2] else images[:0]


def shuffled_blocks(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns images whose 4x4 blocks are in random order; rows and columns that are left over stay."""
    count, height, width, channels = images.shape
    rows, columns = height // 4, width // 4
    blocks = images[:, : 4 * rows, : 4 * columns].reshape(count, 4, rows, 4, columns, channels).swapaxes(2, 3)
    orders = np.argsort(random.random([count, 16]), axis=1)
    blocks = blocks.reshape(count, 16, rows, columns, channels)[np.arange(count)[:, None], orders]
    blocks = blocks.reshape(count, 4, 4, rows, columns, channels).swapaxes(2, 3)
    shuffled = images.copy()
    shuffled[:, : 4 * rows, : 4 * columns] = blocks.reshape(count, 4 * rows, 4 * columns, channels)
    return shuffled


def missing_square(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns images in which a square around a random foreground pixel, 3/10 of the side, is set to the background."""
    changed = images.copy()
    side = max(1, round(0.3 * min(images.shape[1:3])))
    backgrounds = np.median(border_pixels(images), axis=1).astype(np.uint8)
    for image, background in zip(changed, backgrounds):
        foreground = np.argwhere(np.abs(image.astype(int) - background).max(axis=-1) > 64)
        center = (image.shape[0] // 2, image.shape[1] // 2)
        row, column = random.choice(foreground) if len(foreground) else center
        top, left = max(row - side // 2, 0), max(column - side // 2, 0)
        image[top : top + side, left : left + side] = background
    return changed


def overlaid(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the pixelwise maximum of each image and another one."""
    return np.maximum(images, np.roll(images, random.integers(1, max(len(images), 2)), axis=0))


# Synthetic outliers, on which every detector is evaluated. To add a set, write a function of inliers, uint8
# [n, height, width, channels], and a random generator to images of the same shape:
#
#   def binarized(images, random):
#       return np.where(images < 128, np.uint8(0), np.uint8(255))
#
#   OUTLIERS["binarized"] = binarized
OUTLIERS: dict[str, OutlierFn] = {
    "uniform_noise": lambda images, random: random.integers(0, 256, images.shape, np.uint8),
    "black": lambda images, random: np.full_like(images[:1], 0),
    "gray": lambda images, random: np.full_like(images[:1], 128),
    "white": lambda images, random: np.full_like(images[:1], 255),
    "inverted": lambda images, random: 255 - images,
    "left_right": lambda images, random: images[:, :, ::-1],
    "up_down": lambda images, random: images[:, ::-1],
    "quarter_turn": quarter_turn,
    "shuffled_blocks": shuffled_blocks,
    "missing_square": missing_square,
    "overlaid": overlaid,
}


def make_outliers(name: str, images: np.ndarray, seed: int) -> np.ndarray:
    """Returns synthetic outliers.

    Args:
      name: A key of `OUTLIERS`.
      images: Inliers, uint8 [n, height, width, channels].
      seed: The same seed and images give the same outliers.

    Returns:
      uint8 [m, height, width, channels], with m = n, 1 for a constant image, or 0.
    """
    return OUTLIERS[name](images, np.random.default_rng([seed, zlib.crc32(name.encode())]))


def load_outlier_datasets(
    names: Sequence[str], data_dir: str | None, shape: tuple[int, int, int], max_images: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Loads the first images of the test splits of other data sets.

    Args:
      names: Names of TFDS, 'digits', 'lines', 'folder:PATH' or 'records:PATH'.
      data_dir: Folder of prepared TFDS data sets; None for the default.
      shape: (height, width, channels) to which images are resized.
      max_images: Maximum number of images of each.

    Returns:
      loaded: Images by name, uint8 [n, height, width, channels].
      skipped: By name, why a data set is missing that is neither prepared nor can be downloaded, or which of its files
        cannot be read.

    Raises:
      UserError: A name is unknown, or a folder has no images.
    """
    loaded, skipped = {}, {}
    for name in names:
        try:
            loaded[printable(name)], unreadable = _load(name, data_dir, shape, max_images)
            if unreadable:
                skipped[printable(name)] = describe_unreadable(unreadable)
        except tfds_builder.DatasetUnavailableError as error:
            skipped[printable(name)] = str(error).removeprefix(f"--dataset={name} is ")
        except UserError as error:
            raise UserError(str(error).replace("--dataset", "--outlier_datasets", 1)) from error
    return loaded, skipped


def load_class_outliers(dataset: ImageDataset, max_images: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Loads the first images of the classes that only other splits than train have.

    Returns:
      loaded: Images by the name of their class, uint8 [n, height, width, channels].
      skipped: Which files cannot be read, by the name of their class.
    """
    found = {name: load(max_images) for name, load in dataset.outliers.items()}
    skipped = {name: describe_unreadable(unreadable) for name, (_, unreadable) in found.items() if unreadable}
    return {name: images for name, (images, _) in found.items()}, skipped


def describe_unreadable(names: Sequence[str]) -> str:
    """Returns how many files cannot be read, and the first of them."""
    return printable(f"{len(names):,} files that cannot be read: {abbreviate(names)}")


def _load(
    name: str, data_dir: str | None, shape: tuple[int, int, int], max_images: int
) -> tuple[np.ndarray, list[str]]:
    """Returns the first images, and the names of the files among them that cannot be read."""
    opener = datasets.get_opener(name)
    if name.startswith("folder:"):
        return load_images(Path(name.partition(":")[2]).expanduser(), shape, max_images)
    if opener:
        dataset = opener(Config(dataset=name))
        images, _ = dataset.splits["test"].load(max_images * int(np.prod(dataset.image_shape)))
        return np.stack([resize_with_pad(to_pil(image), *shape) for image in images[:max_images]]), []
    builder = tfds_builder.get_builder(name, data_dir)
    # If only some splits are prepared, any of them will do: none of its images are inliers.
    split = next(each for each in ("test", "validation", *builder.info.splits) if each in builder.info.splits)
    return tfds.read_split(builder, f"{split}[:{max_images}]", shape)[0], []
