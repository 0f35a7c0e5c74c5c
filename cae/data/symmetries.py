"""Flips and quarter turns of images [..., height, width, channels]: the symmetries of the square."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Symmetry:
    """A symmetry of the square: a number of quarter turns, after a flip left to right or none."""

    turns: int
    flip: bool

    def apply(self, images: np.ndarray) -> np.ndarray:
        """Returns images flipped and turned; a view."""
        images = images[..., ::-1, :] if self.flip else images
        return np.rot90(images, self.turns, axes=(-3, -2))

    def undo(self, images: np.ndarray) -> np.ndarray:
        """Returns images turned back and flipped back; a view."""
        images = np.rot90(images, -self.turns, axes=(-3, -2))
        return images[..., ::-1, :] if self.flip else images


DIHEDRAL = tuple(Symmetry(turns, flip) for flip in (False, True) for turns in range(4))
"""The eight symmetries of the square, the identity first."""


def self_ensemble(predict_fn: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that is the mean of another's results for images that are flipped and turned.

    Each result is turned back first. It takes eight times as long, and its error is at most the mean of the eight
    (Timofte, Rothe and Van Gool 2016, "Seven ways to improve example-based single image super resolution").

    Args:
      predict_fn: Images [batch, height, width, channels] of any height and width to images of the same shape.
    """

    def predict(images: np.ndarray) -> np.ndarray:
        total = np.zeros(images.shape, np.float32)
        for symmetry in DIHEDRAL:
            total += symmetry.undo(predict_fn(np.ascontiguousarray(symmetry.apply(images))))
        return total / len(DIHEDRAL)

    return predict
