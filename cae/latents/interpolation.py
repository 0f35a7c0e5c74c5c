"""Interpolation between latent vectors: along paths, over grids, around closed paths."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cae.data.arrays import flatten
from cae.errors import UserError, unknown_choice_error

# (start [..., d], end [..., d], weights [...]) to vectors [..., d]: the start at weight 0, the end at 1.
Interpolator = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

DEFAULT_WEIGHTS = "0,0.1,...,1"

# By which a weight may lie outside of 0..1.
MAX_ROUNDING_ERROR = 1e-6

# Radians; vectors at a smaller angle from parallel are interpolated linearly.
MIN_SLERP_ANGLE = 1e-4


def parse_weights(text: str) -> np.ndarray:
    """Parses the value of `--interpolation_weights`.

    Args:
      text: Numbers from 0 to 1, up to `MAX_ROUNDING_ERROR`, separated by commas, such as '0,0.25,1'; '...' continues
        in equal steps, as in '0,0.1,...,1'.

    Returns:
      The weights in increasing order, [n].

    Raises:
      UserError: A number is invalid, '...' is not between increasing numbers, or there are fewer than two weights.
    """
    tokens = [token.strip() for token in text.split(",")]
    weights = []
    for index, token in enumerate(tokens):
        weights += (
            _expand_ellipsis(text, weights, tokens[index + 1 :]) if token == "..." else [_parse_weight(text, token)]
        )
    unique = np.unique(np.round(weights, 9))
    if len(unique) < 2:
        raise UserError(f"--interpolation_weights={text} needs at least two weights, such as {DEFAULT_WEIGHTS}")
    return unique


def check_weights(weights: Any) -> np.ndarray:
    """Returns interpolation weights as float64 [n]; raises `ValueError` unless they are numbers from 0 to 1."""
    values = np.asarray(weights)
    if values.ndim != 1 or not values.size or values.dtype.kind not in "fiu":
        raise ValueError(f"weights must be a list of numbers from 0 to 1, such as [0, 0.5, 1], not {weights}")
    clipped = values.astype(np.float64).clip(0, 1)
    if not np.all(np.abs(values - clipped) <= 1.001 * MAX_ROUNDING_ERROR):  # NaN is no number from 0 to 1 either.
        raise ValueError(f"weights must be numbers from 0 to 1, not in {values.min():.5g}..{values.max():.5g}")
    return clipped


def _parse_weight(text: str, token: str) -> float:
    try:
        weight = float(token)
    except ValueError:
        weight = float("nan")
    clipped = min(max(weight, 0.0), 1.0)
    if not abs(weight - clipped) <= 1.001 * MAX_ROUNDING_ERROR:
        raise UserError(f"--interpolation_weights={text}: '{token}' is not a number from 0 to 1; try {DEFAULT_WEIGHTS}")
    return clipped


def _expand_ellipsis(text: str, before: list[float], after: list[str]) -> list[float]:
    if len(before) < 2 or not after or not before[-2] < before[-1] < (last := _parse_weight(text, after[0])):
        raise UserError(
            f"--interpolation_weights={text}: '...' needs two increasing weights before and a larger one after"
        )
    step = before[-1] - before[-2]
    return np.arange(before[-1] + step, last - 1e-6 * step, step).tolist()


def lerp(start: np.ndarray, end: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolates linearly; see `Interpolator` for the shapes."""
    weights = np.asarray(weights)[..., None]
    return (1 - weights) * start + weights * end


def slerp(start: np.ndarray, end: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolates along the arc around the origin at a constant angular speed (Shoemake 1985)."""
    norms = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    angle = np.arccos(np.clip(np.sum(start * end, axis=-1) / np.maximum(norms, 1e-12), -1, 1))
    is_parallel = (np.minimum(angle, np.pi - angle) < MIN_SLERP_ANGLE) | (norms < 1e-12)
    angle = np.where(is_parallel, 1.0, angle)
    weights = np.asarray(weights)
    start_factor, end_factor = (np.sin(weight * angle) / np.sin(angle) for weight in (1 - weights, weights))
    arc = start_factor[..., None] * start + end_factor[..., None] * end
    return np.where(is_parallel[..., None], lerp(start, end, weights), arc)


# All methods of interpolation between latent vectors that an evaluation compares. To add one, write a function as
# `Interpolator` says:
#
#   def smoothstep(start, end, weights):
#       return lerp(start, end, weights**2 * (3 - 2 * weights))
#
#   INTERPOLATORS["smoothstep"] = smoothstep
INTERPOLATORS: dict[str, Interpolator] = {"lerp": lerp, "slerp": slerp}


PIXELS = "pixels"
"""The method that interpolates pixels instead of latent vectors."""


def check_method(method: str) -> None:
    """Raises `UserError` unless it is `PIXELS` or a key of `INTERPOLATORS`."""
    if method not in (PIXELS, *INTERPOLATORS):
        raise unknown_choice_error("method", method, [PIXELS, *INTERPOLATORS])


def interpolate_pixels(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns images [n, weights, height, width, channels] between floats [n, height, width, channels] in 0..1."""
    # In float32, since there may be many.
    paths = interpolate_path(flatten(first), flatten(second), weights.astype(np.float32))
    return paths.clip(0, 1, out=paths).reshape(len(first), len(weights), *first.shape[1:])


def interpolate_path(
    start: np.ndarray, end: np.ndarray, weights: np.ndarray, interpolator: Interpolator = lerp
) -> np.ndarray:
    """Returns vectors [n, weights, d] between vectors [n, d]."""
    return interpolator(start[:, None], end[:, None], np.broadcast_to(weights, (len(start), len(weights))))


def interpolate_grid(corners: np.ndarray, side: int) -> np.ndarray:
    """Returns vectors [side, side, d] between four, [4, d]: upper left, upper right, lower left, lower right."""
    weights = np.linspace(0, 1, side)
    left, right = (interpolate_path(corners[[top]], corners[[top + 2]], weights)[0] for top in (0, 1))
    return interpolate_path(left, right, weights)


def closed_path(anchors: np.ndarray, steps: int, interpolator: Interpolator = lerp) -> np.ndarray:
    """Returns vectors [n * steps, d] along a closed path through all anchors [n, d], each of them once."""
    weights = np.arange(steps) / steps
    path = interpolate_path(anchors, np.roll(anchors, -1, axis=0), weights, interpolator)
    return path.reshape(-1, anchors.shape[-1])
