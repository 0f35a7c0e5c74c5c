"""Lines from the center outward at every angle: a data set whose interpolations can be compared with the truth.

Images and metrics are those of Berthelot, Raffel, Roy and Goodfellow 2018, "Understanding and Improving Interpolation
in Autoencoders via an Adversarial Regularizer" (ACAI), section 4: lines of 16 pixels in images of 32x32, angles uniform
in [0, 2 pi). Theirs are 15 pixels long, and 2 wide along rows or columns, so that a diagonal line has fewer white
pixels; ours are 2 wide across, and all have the same brightness. Theirs are sampled endlessly in training; ours are a
fixed set.
"""

import functools
from collections.abc import Iterator

import numpy as np

from cae.config import Config
from cae.data.image_dataset import ImageDataset
from cae.data.splits import ArraySplit, Images, chunk_slices, partition
from cae.errors import UserError

SIDE, LENGTH, WIDTH = 32, 16, 2
"""Sides of an image, and length and width of its line, in pixels."""

NUM_IMAGES = 70_000

NUM_REFERENCES = 10_000
"""Number of lines, at evenly spaced angles, with which an image is compared."""

MIN_TURN = 1e-4
"""Angle between the ends of a path, in radians, below which its smoothness is undefined."""


def open_lines(config: Config) -> ImageDataset:
    """Returns the data set of lines; raises `UserError` for another image size than 32x32x1."""
    size, channels = config.image_size or SIDE, config.channels or 1
    if (size, channels) != (SIDE, 1):
        raise UserError(
            f"--dataset=lines has grayscale images of {SIDE}x{SIDE}; --image_size={size} and --channels={channels} are"
            " not supported"
        )
    return ImageDataset(
        name="lines",
        image_shape=(SIDE, SIDE, 1),
        class_names=(),
        splits={
            name: ArraySplit(stop - start, f"drawn lines[{start}:{stop}]", functools.partial(_read, start, stop))
            for name, (start, stop) in partition("--dataset=lines", NUM_IMAGES).items()
        },
        interpolation_metric=evaluate_interpolation,
    )


def _read(start: int, stop: int) -> Iterator[Images]:
    angles = sample_angles()[start:stop]
    for chunk in chunk_slices(len(angles)):
        images = draw(angles[chunk])
        yield images, np.zeros(len(images), np.int64)


def sample_angles() -> np.ndarray:
    """Returns the angles of the data set's lines, in radians: float64 [70000] in [0, 2 pi), always the same."""
    # RandomState's stream never changes, so that all versions of NumPy make the same lines.
    return np.random.RandomState(0).uniform(0, 2 * np.pi, NUM_IMAGES)


def draw(angles: np.ndarray) -> np.ndarray:
    """Draws white lines on black.

    A pixel is as bright as the fraction of it that the line covers, so that an image is continuous in its angle.

    Args:
      angles: Float [n] in radians: 0 points right, pi / 2 up.

    Returns:
      uint8 [n, 32, 32, 1].
    """
    images = np.empty([len(angles), SIDE, SIDE, 1], np.uint8)
    for chunk in chunk_slices(len(angles)):
        images[chunk, ..., 0] = np.rint(255 * _coverage(np.asarray(angles, np.float64)[chunk]))
    return images


def _coverage(angles: np.ndarray) -> np.ndarray:
    """Returns the fraction of each pixel inside the line, float32 [n, 32, 32] in 0..1.

    It is the fraction between the line's long sides times that between its ends: exact except at its corners.
    """
    cosine, sine = (of(angles).astype(np.float32)[:, None, None] for of in (np.cos, np.sin))
    axis = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    x, y = axis[None, None, :], -axis[None, :, None]
    along, across = x * cosine + y * sine, y * cosine - x * sine
    direction = np.abs(cosine), np.abs(sine)
    between_sides = _fraction_beyond(across + WIDTH / 2, *direction) - _fraction_beyond(across - WIDTH / 2, *direction)
    return between_sides * (_fraction_beyond(along, *direction) - _fraction_beyond(along - LENGTH, *direction))


def _fraction_beyond(distance: np.ndarray, cosine: np.ndarray, sine: np.ndarray) -> np.ndarray:
    """Returns the fraction of a pixel beyond a straight edge, in 0..1.

    A pixel projected on the edge's normal is a trapezoid, whose integral consists of three parabolas.

    Args:
      distance: Signed distance of the pixel's center beyond the edge.
      cosine: Absolute cosine of the edge's direction.
      sine: Absolute sine of the edge's direction.
    """
    # A slope of 0 would be a division by 0; one of 0.01 changes no pixel by more than half a gray level.
    wide, narrow = np.maximum(cosine, sine), np.maximum(np.minimum(cosine, sine), 0.01)
    half_base, half_top = (wide + narrow) / 2, (wide - narrow) / 2
    inside = np.clip(distance, -half_base, half_base)
    parabolas = np.square(inside + half_base)
    for start in (half_top, -half_top):
        parabolas -= np.square(np.maximum(inside + start, 0))
    return parabolas / (2 * wide * narrow)


def evaluate_interpolation(paths: np.ndarray) -> dict[str, float | int | None]:
    """Computes the metrics of ACAI for interpolations between pairs of lines.

    Args:
      paths: [paths, steps, 32, 32, 1] in 0..1; the first and last image of a path are what is interpolated.

    Returns:
      mean_distance: Cosine distance of an image, scaled to -1..1, to the nearest line; mean over all images.
      smoothness: The largest angle between the nearest lines of successive images, as a fraction of the angle between
        a path's ends, minus that of even steps: 0 is best. Mean over paths; None if it is undefined for all.
      scored: Number of paths whose ends differ, so that smoothness is defined.
    """
    count, steps = paths.shape[:2]
    distances, nearest = _find_nearest_lines(paths.reshape(count * steps, -1))
    turns = np.diff(np.unwrap(nearest.reshape(count, steps) * (2 * np.pi / NUM_REFERENCES), axis=1), axis=1)
    total = np.abs(turns.sum(axis=1))
    scored = total >= MIN_TURN
    smoothness = np.abs(turns[scored]).max(axis=1) / total[scored] - 1 / (steps - 1)
    return {
        "mean_distance": float(distances.mean(dtype="float64")),
        "smoothness": float(smoothness.mean()) if scored.any() else None,
        "scored": int(scored.sum()),
    }


def _find_nearest_lines(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cosine distance of images, [n, 1024] in 0..1, to the nearest line, [n], and that line's index."""
    references, distances, nearest = _reference_directions(), np.empty(len(images)), np.empty(len(images), np.int64)
    for chunk in chunk_slices(len(images)):
        similarities = _normalize(images[chunk]) @ references.T
        nearest[chunk] = similarities.argmax(axis=1)
        # Rounding makes the similarity of a line to itself slightly more than 1.
        distances[chunk] = np.maximum(1 - similarities.max(axis=1), 0)
    return distances, nearest


@functools.cache
def _reference_directions() -> np.ndarray:
    angles = np.arange(NUM_REFERENCES) * (2 * np.pi / NUM_REFERENCES)
    return _normalize(draw(angles).reshape(NUM_REFERENCES, -1) / 255)


def _normalize(images: np.ndarray) -> np.ndarray:
    """Returns images, [n, 1024] in 0..1, scaled to -1..1 and then to length 1: float64.

    In float32 neighboring lines are equally near to an image, and the order of summation decides between them.
    """
    scaled = 2 * images.astype(np.float64) - 1
    # A uniformly gray image has no direction, and is equally far from all lines.
    return scaled / np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
