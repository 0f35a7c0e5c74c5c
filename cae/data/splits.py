"""The four splits that every data set is cut into, by a fixed rule."""

import dataclasses

import numpy as np

from cae.errors import UserError

SPLITS = {
    "train": "fits the weights",
    "validation": "chooses the best checkpoint",
    "calibration": "is kept for thresholds",
    "test": "is what is reported",
}


@dataclasses.dataclass(frozen=True)
class Split:
    """How many images a split has, and which ones."""

    images: int
    origin: str


# MNIST's sizes: 50,000 / 5,000 / 5,000 / 10,000. Everything else is cut in proportion.
_PROPORTIONS = {"train": 10, "validation": 1, "calibration": 1, "test": 2}


def cut(what: str, total: int, parts: tuple[str, ...] = tuple(SPLITS)) -> dict[str, tuple[int, int]]:
    """Cuts `total` images into consecutive parts, in `_PROPORTIONS`: each part's (start, stop).

    Raises `UserError`, naming `what` has them, where they are too few.
    """
    whole = sum(_PROPORTIONS[part] for part in parts)
    if total < whole:
        raise UserError(f"{what} has {total} images; {whole} are needed for {', '.join(parts)}")
    sizes = [total * _PROPORTIONS[part] // whole for part in parts]
    sizes[0] += total - sum(sizes)
    stops = np.cumsum(sizes).tolist()
    return {part: (stop - size, stop) for part, size, stop in zip(parts, sizes, stops)}
