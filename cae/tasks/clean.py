"""A person's own pictures, cleaned by a fitted model: of any size, of any number of channels."""

import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from skimage.restoration import estimate_sigma

from cae.data.originals import Original, Unreadable

TILES_AT_ONCE = 64

PREVIEW = 224


@dataclasses.dataclass(frozen=True)
class Cleaned:
    """A picture, its cleaned channels as its file holds them, and what there is to say of it.

    tiles: how many pieces a channel was cleaned in; noise_before, noise_after: the standard deviation of noise as it is
    estimated from the finest wavelet coefficients (Donoho and Johnstone 1994), white being 1; change: the root mean
    square of what cleaning changed.
    """

    original: Original
    channels: np.ndarray
    tiles: int
    noise_before: float
    noise_after: float
    change: float

    def save(self, path: Path) -> None:
        """Writes the cleaned picture in the format and mode of the original."""
        self.original.save(path, self.channels)

    def facts(self) -> dict[str, object]:
        """Returns what a line of a table says of it."""
        height, width = self.original.size
        return {
            "width": width,
            "height": height,
            "format": self.original.format,
            "mode": self.original.mode,
            "tiles": self.tiles,
            "noise_before": round(self.noise_before, 4),
            "noise_after": round(self.noise_after, 4),
            "change": round(self.change, 4),
        }

    def preview(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns original and cleaned picture, [height, width, 1 or 3] in 0..1, no side longer than `PREVIEW`."""
        before, after = self.original, dataclasses.replace(self.original, channels=self.channels)
        return before.preview(PREVIEW), after.preview(PREVIEW)


Denoiser = Callable[[tf.Tensor], tf.Tensor]

Result = tuple[str, Cleaned | Unreadable]


def run(
    model: keras.Model,
    image_shape: tuple[int, int, int],
    pictures: Iterable[tuple[str, Original | Unreadable]],
) -> Iterator[Result]:
    """Yields each picture cleaned, or why there is none, by name.

    image_shape: what the model was trained on, and what it is given. A convolutional model would take larger images
    whole, but it has learned where the border is: digits far from one came out as clouds.
    """

    @tf.function(input_signature=[tf.TensorSpec([None, *image_shape], tf.float32)])
    def clean_up(images: tf.Tensor) -> tf.Tensor:
        return model(images)

    for name, picture in pictures:
        yield name, picture if isinstance(picture, Unreadable) else _cleaned(clean_up, image_shape, picture)


def _cleaned(clean_up: Denoiser, image_shape: tuple[int, int, int], picture: Original) -> Cleaned:
    axes = [_Axis.of(extent, side) for extent, side in zip(picture.size, image_shape[:2])]
    count, channels = picture.channels.shape[2], image_shape[2]
    # A model of as many channels takes them together, any other one at a time.
    groups = [range(count)] if count == channels else [[channel] for channel in range(count)]
    stored, before, after, squares = np.empty_like(picture.channels), [], [], []
    for group in groups:
        noisy = np.stack([picture.plane(channel) for channel in group], axis=-1)
        shown = noisy if len(group) == channels else np.repeat(noisy, channels, axis=-1)
        output = in_tiles(clean_up, shown, *axes)
        output = output if len(group) == channels else output.mean(axis=-1, keepdims=True)
        for position, channel in enumerate(group):
            stored[..., channel] = picture.stored(output[..., position])
        before.append(_noise(noisy))
        after.append(_noise(output))
        squares.append(float(np.square(output - noisy).mean(dtype="float64")))
    tiles = len(axes[0].starts) * len(axes[1].starts)
    return Cleaned(picture, stored, tiles, np.mean(before), np.mean(after), float(np.sqrt(np.mean(squares))))


def _noise(image: np.ndarray) -> float:
    """Returns the estimated standard deviation of an image's noise; 0 for one that is too small or too flat to say."""
    if min(image.shape[:2]) < 4:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Of a flat image no coefficient is left to take the median of.
        sigma = float(estimate_sigma(image, channel_axis=-1, average_sigmas=True))
    return sigma if np.isfinite(sigma) else 0.0


@dataclasses.dataclass(frozen=True)
class _Axis:
    """How one side of a picture is cut: tiles of `side` pixels at `starts`, weighted by `weights`, [tiles, side].

    `margin` pixels are added before and after where the picture is smaller than a tile. The weights of all tiles that a
    pixel is in sum to 1, and fall smoothly to nearly 0 at a tile's ends, so that no seam can be seen.
    """

    extent: int
    side: int
    margin: tuple[int, int]
    starts: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, extent: int, side: int) -> "_Axis":
        """Returns how `extent` pixels are cut into tiles of `side`, which share half of it at least."""
        overlap = side // 2
        missing = max(side - extent, 0)
        whole = extent + missing
        count = 1 + -(-(whole - side) // (side - overlap))
        starts = np.linspace(0, whole - side, count).round().astype(int)
        depth = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
        window = np.sin(np.pi / 2 * np.minimum(depth / overlap, 1)) ** 2
        total = np.zeros(whole)
        for start in starts:
            total[start : start + side] += window
        weights = np.stack([window / total[start : start + side] for start in starts]).astype(np.float32)
        return cls(extent, side, (missing // 2, missing - missing // 2), starts, weights)


def in_tiles(clean_up: Denoiser, image: np.ndarray, down: _Axis, across: _Axis) -> np.ndarray:
    """Returns an image [height, width, channels] cleaned tile by tile, and the tiles blended."""
    image = np.pad(image, [down.margin, across.margin, (0, 0)], mode="edge")
    output = np.zeros_like(image)
    places = list(itertools.product(zip(down.starts, down.weights), zip(across.starts, across.weights)))
    at_once = max(1, TILES_AT_ONCE * 28 * 28 // (down.side * across.side))
    for first in range(0, len(places), at_once):
        some = places[first : first + at_once]
        cut = [np.s_[top : top + down.side, left : left + across.side] for (top, _), (left, _) in some]
        cleaned = clean_up(tf.constant(np.stack([image[place] for place in cut]))).numpy()
        for place, ((_, rows), (_, columns)), tile in zip(cut, some, cleaned):
            output[place] += rows[:, None, None] * columns[None, :, None] * tile
    top, left = down.margin[0], across.margin[0]
    return output[top : top + down.extent, left : left + across.extent]
