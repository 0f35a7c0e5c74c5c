"""Latent vectors between latent vectors: of two, four or several images, at any degree of mixing."""

from collections.abc import Callable

import numpy as np

from cae.errors import UserError

Mixer = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(from [..., d], to [..., d], degrees [...]) to [..., d]: the first at degree 0, the second at 1."""

USUAL_DEGREES = "0,0.1,...,1"

PARALLEL = 1e-4
"""Vectors whose directions differ by fewer radians, or which have none, are mixed linearly."""


def degrees(text: str) -> np.ndarray:
    """Returns the degrees of mixing in a text as '0,0.25,1', in rising order, where '...' goes on in even steps.

    Raises `UserError` for what is no number from 0 to 1, for dots that lead nowhere, and for fewer than two degrees.
    """
    words = [word.strip() for word in text.split(",")]
    found = []
    for position, word in enumerate(words):
        if word == "...":
            found += _between(text, found, words[position + 1 :])
        else:
            found.append(_degree(text, word))
    if len(set(found)) < 2:
        raise UserError(f"--mixing={text} needs two degrees at least, as in --mixing={USUAL_DEGREES}")
    return np.unique(np.round(found, 9))


def _degree(text: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise UserError(f"--mixing={text}: '{word}' is no number from 0 to 1; right would be --mixing={USUAL_DEGREES}")
    return value


def _between(text: str, before: list[float], after: list[str]) -> list[float]:
    if len(before) < 2 or not after or before[-1] <= before[-2] or (last := _degree(text, after[0])) <= before[-1]:
        raise UserError(f"--mixing={text}: '...' needs two rising degrees before it and a larger one after")
    step = before[-1] - before[-2]
    return np.arange(before[-1] + step, last - 1e-6 * step, step).tolist()


def linear(start: np.ndarray, end: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """Returns what lies on the straight line between vectors."""
    degree = np.asarray(degree)[..., None]
    return (1 - degree) * start + degree * end


def spherical(start: np.ndarray, end: np.ndarray, degree: np.ndarray) -> np.ndarray:
    """Returns what lies on the arc between vectors around the origin, at an even angular speed (Shoemake 1985)."""
    norms = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    angle = np.arccos(np.clip(np.sum(start * end, axis=-1) / np.maximum(norms, 1e-12), -1, 1))
    flat = (np.minimum(angle, np.pi - angle) < PARALLEL) | (norms < 1e-12)
    safe = np.where(flat, 1.0, angle)
    degree = np.asarray(degree)
    weights = [np.sin(part * safe) / np.sin(safe) for part in (1 - degree, degree)]
    arc = weights[0][..., None] * start + weights[1][..., None] * end
    return np.where(flat[..., None], linear(start, end, degree), arc)


MIXERS: dict[str, Mixer] = {"linear": linear, "spherical": spherical}
"""The ways from one latent vector to another."""


def path(start: np.ndarray, end: np.ndarray, at: np.ndarray, mixer: Mixer = linear) -> np.ndarray:
    """Returns the vectors [n, degrees, d] between vectors [n, d] at the degrees `at`."""
    return mixer(start[:, None], end[:, None], np.broadcast_to(at, (len(start), len(at))))


def grid(corners: np.ndarray, side: int) -> np.ndarray:
    """Returns vectors [side, side, d] between four, [4, d]: upper left, upper right, lower left, lower right."""
    at = np.linspace(0, 1, side)
    left, right = (path(corners[[above]], corners[[below]], at)[0] for above, below in ((0, 2), (1, 3)))
    return path(left, right, at)


def ring(stations: np.ndarray, steps: int, mixer: Mixer = linear) -> np.ndarray:
    """Returns vectors [n * steps, d] along a closed way through all stations [n, d], each of them once."""
    at = np.arange(steps) / steps
    return path(stations, np.roll(stations, -1, axis=0), at, mixer).reshape(-1, stations.shape[-1])
