"""Images that do not belong: made of test images, made of nothing, or taken from other data sets.

To add a kind, write a function of (images, random generator) to images and name it in `OUTLIERS`; all are uint8
[n, height, width, channels].
"""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cae.config import Config
from cae.data import pictures, prepared, sources
from cae.data.records import Records
from cae.errors import UserError

Outlier = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def uniform_noise(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns pixels that are drawn evenly from all values, as many images as are given."""
    return random.integers(0, 256, images.shape, np.uint8)


def constant(value: int) -> Outlier:
    """Returns what gives one image, all pixels of it alike."""
    return lambda images, random: np.full_like(images[:1], value)


def inverted(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the images' negatives."""
    return 255 - images


def left_right(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the images as a mirror shows them."""
    return images[:, :, ::-1]


def up_down(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the images as water shows them."""
    return images[:, ::-1]


def quarter_turn(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the images turned by 90 degrees against the clock; none of them where they are not square."""
    return np.rot90(images, axes=(1, 2)) if images.shape[1] == images.shape[2] else images[:0]


def shuffled_blocks(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the images cut into 4x4 blocks, each of them put somewhere else; lines that are left over stay."""
    count, height, width, channels = images.shape
    down, across = height // 4, width // 4
    blocks = images[:, : 4 * down, : 4 * across].reshape(count, 4, down, 4, across, channels).swapaxes(2, 3)
    orders = np.argsort(random.random([count, 16]), axis=1)
    blocks = blocks.reshape(count, 16, down, across, channels)[np.arange(count)[:, None], orders]
    shuffled = images.copy()
    whole = blocks.reshape(count, 4, 4, down, across, channels).swapaxes(2, 3)
    shuffled[:, : 4 * down, : 4 * across] = whole.reshape(count, 4 * down, 4 * across, channels)
    return shuffled


def missing_square(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns the images with a square of 3/10 of the side, around a pixel that is not background, turned to that."""
    changed = images.copy()
    side = max(1, round(0.3 * min(images.shape[1:3])))
    for image in changed:
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        background = np.median(border, axis=0).astype(np.uint8)
        inside = np.argwhere(np.abs(image.astype(int) - background).max(axis=-1) > 64)
        row, column = random.choice(inside) if len(inside) else (image.shape[0] // 2, image.shape[1] // 2)
        top, left = max(row - side // 2, 0), max(column - side // 2, 0)
        image[top : top + side, left : left + side] = background
    return changed


def overlaid(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Returns each image laid over another one: of both the brighter pixel."""
    return np.maximum(images, np.roll(images, random.integers(1, max(len(images), 2)), axis=0))


OUTLIERS: dict[str, Outlier] = {
    "uniform_noise": uniform_noise,
    "black": constant(0),
    "grey": constant(128),
    "white": constant(255),
    "inverted": inverted,
    "left_right": left_right,
    "up_down": up_down,
    "quarter_turn": quarter_turn,
    "shuffled_blocks": shuffled_blocks,
    "missing_square": missing_square,
    "overlaid": overlaid,
}
"""What every data set is tried with; needs no other data."""


def make(name: str, images: np.ndarray, seed: int) -> np.ndarray:
    """Returns the outliers of that kind, the same for the same seed and images."""
    return OUTLIERS[name](images, np.random.default_rng([seed, zlib.crc32(name.encode())]))


def read_each(
    names: Sequence[str], data_dir: str | None, shape: tuple[int, int, int], most: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the first images of other data sets' test splits, at most so many of each, fitted to a shape.

    names: of TFDS, 'digits', 'lines', 'folder:PATH' or 'records:PATH'. Those that are neither prepared nor can be
    downloaded are left out, and why stands in the second dict. Raises `UserError` for a name that is not known and a
    folder without pictures.
    """
    found, skipped = {}, {}
    for name in names:
        try:
            found[name] = _read(name, data_dir, shape, most)[:most]
        except prepared.Unavailable as error:
            skipped[name] = str(error).removeprefix(f"--dataset={name} is ")
    return found, skipped


def _read(name: str, data_dir: str | None, shape: tuple[int, int, int], most: int) -> np.ndarray:
    try:
        kind, _, rest = name.partition(":")
        if kind == "folder":
            return pictures.read_folder(Path(rest).expanduser(), *shape).images
        if name in ("digits", "lines"):
            images, _ = sources.open_source(Config(dataset=name)).read("test")
            return _fitted(images, shape)
        if kind == "records":
            images, _ = Records(Path(rest).expanduser()).split("test")[:most].all()
            return _fitted(images, shape)
        builder = prepared.builder(name, data_dir)
        # Of a set that is prepared in part, any split will do: none of it is normal.
        held = [split for split in ("test", "validation", *builder.info.splits) if split in builder.info.splits]
        return prepared.read(builder, f"{held[0]}[:{most}]", shape)[0]
    except prepared.Unavailable:
        raise
    except UserError as error:
        raise UserError(str(error).replace("--dataset", "--outlier_datasets", 1)) from error


def _fitted(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    planes = images[..., 0] if images.shape[-1] == 1 else images
    return np.stack([pictures.fit(Image.fromarray(plane), *shape) for plane in planes])
