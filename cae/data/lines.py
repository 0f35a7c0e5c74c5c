"""Lines from the centre outward, one for every angle: a data set on which an interpolation can be judged.

Images and scores are those of Berthelot, Raffel, Roy and Goodfellow 2018, "Understanding and Improving Interpolation in
Autoencoders via an Adversarial Regularizer", section 4: lines of 16 pixels in images of 32x32, angles uniform in
0..2 pi. Theirs are 15 pixels long and 2 wide along rows or columns, so that a diagonal one has less of white; ours are
2 wide across, and all have the same brightness. Theirs are drawn afresh for ever in training; ours are a fixed set.
"""

import functools
from collections.abc import Iterator

import numpy as np

SIDE, LENGTH, WIDTH = 32, 16, 2
"""Of an image, and of its line, in pixels."""

IMAGES = 70_000

REFERENCES = 10_000
"""How many lines, at evenly spaced angles, an image is compared with."""

LEAST_TURN = 1e-4
"""A path whose ends lie closer than this, in radians, has no steps to speak of."""

# Both keep what is held at a time in tens of megabytes.
_DRAWN_AT_ONCE, _JUDGED_AT_ONCE = 256, 1024


def angles() -> np.ndarray:
    """Returns the angles of the data set's lines, in radians: float64 [70000] in 0..2 pi, the same every time."""
    # RandomState's stream is frozen for ever, so that every version of NumPy makes the same lines.
    return np.random.RandomState(0).uniform(0, 2 * np.pi, IMAGES)


def draw(angles: np.ndarray) -> np.ndarray:
    """Returns white lines on black, uint8 [n, 32, 32, 1], at angles [n] in radians: 0 points right, pi / 2 up.

    A pixel is as bright as its share that the line covers, so that an image changes as steadily as its angle does.
    """
    images = np.empty([len(angles), SIDE, SIDE, 1], np.uint8)
    for part in _parts(len(angles), _DRAWN_AT_ONCE):
        images[part, ..., 0] = np.rint(255 * _coverage(np.asarray(angles, np.float64)[part]))
    return images


def _coverage(angles: np.ndarray) -> np.ndarray:
    """Returns each pixel's share inside the line, float32 [n, 32, 32] in 0..1.

    It is the share between the line's long sides times that between its ends: exact but where one pixel has a corner.
    """
    cosine, sine = (of(angles).astype(np.float32)[:, None, None] for of in (np.cos, np.sin))
    across = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    right, up = across[None, None, :], -across[None, :, None]
    along, aside = right * cosine + up * sine, up * cosine - right * sine
    widths = np.abs(cosine), np.abs(sine)
    between_sides = _beyond(aside + WIDTH / 2, *widths) - _beyond(aside - WIDTH / 2, *widths)
    return between_sides * (_beyond(along, *widths) - _beyond(along - LENGTH, *widths))


def _beyond(distance: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the share of pixels that lies beyond a straight edge, 0..1, given how far beyond it their centres lie.

    one, other: absolute cosine and sine of the edge's direction. Across the edge a pixel is a trapezium, whose
    integral is made of three parabolas.
    """
    # A slope of 0 would be a division by 0; one of 0.01 changes no pixel by more than half a grey level.
    wide, narrow = np.maximum(one, other), np.maximum(np.minimum(one, other), 0.01)
    half_base, half_top = (wide + narrow) / 2, (wide - narrow) / 2
    inside = np.clip(distance, -half_base, half_base)
    parabolas = np.square(inside + half_base)
    for start in (half_top, -half_top):
        parabolas -= np.square(np.maximum(inside + start, 0))
    return parabolas / (2 * wide * narrow)


def judge(paths: np.ndarray) -> dict[str, float | int | None]:
    """Returns how good interpolations are that lead from one line to another, [paths, steps, 32, 32, 1] in 0..1.

    mean_distance: the cosine distance of an image to the nearest line, background -1 and line 1, mean over all images;
    smoothness: the largest of a path's turns from one image's nearest line to the next one's, as a share of the turn
    from the first to the last, beyond what even steps would have: 0 is best, mean over paths; scored: how many paths
    that mean is of, as those that end where they began have none; where all do, it is nothing.
    """
    count, steps = paths.shape[:2]
    distances, nearest = _compared(paths.reshape(count * steps, -1))
    turns = np.diff(np.unwrap(nearest.reshape(count, steps) * (2 * np.pi / REFERENCES), axis=1), axis=1)
    whole = np.abs(turns.sum(axis=1))
    scored = whole >= LEAST_TURN
    unevenness = np.abs(turns[scored]).max(axis=1) / whole[scored] - 1 / (steps - 1)
    return {
        "mean_distance": float(distances.mean(dtype="float64")),
        "smoothness": float(unevenness.mean()) if scored.any() else None,
        "scored": int(scored.sum()),
    }


def _compared(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cosine distance of images, [n, 1024] in 0..1, to the nearest line, [n], and that line's number."""
    lines, found = _references(), []
    for part in _parts(len(images), _JUDGED_AT_ONCE):
        similarities = _directions(images[part]) @ lines.T
        nearest = similarities.argmax(axis=1)
        # Rounding makes the similarity of a line to itself a little more than 1.
        found.append((np.maximum(1 - similarities[np.arange(len(nearest)), nearest], 0), nearest))
    distances, numbers = (np.concatenate(each) for each in zip(*found))
    return distances, numbers


@functools.cache
def _references() -> np.ndarray:
    turns = np.arange(REFERENCES) * (2 * np.pi / REFERENCES)
    return _directions(draw(turns).reshape(REFERENCES, -1) / 255)


def _directions(images: np.ndarray) -> np.ndarray:
    """Returns images, [n, 1024] in 0..1, on the scale of -1 to 1 and of length 1: float64.

    In float32 neighbouring lines are as near to an image as each other, and its place in a product of matrices decides.
    """
    centred = 2 * images.astype(np.float64) - 1
    # An image that is grey all over has no direction, and is as far from one line as from another.
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def _parts(total: int, most: int) -> Iterator[slice]:
    return (slice(start, start + most) for start in range(0, total, most))
