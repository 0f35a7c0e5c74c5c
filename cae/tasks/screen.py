"""A person's own pictures, fitted to what a detector takes: does each of them belong?"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from cae.data.originals import Original, Unreadable
from cae.outliers.detector import Detector
from cae.tasks.fitted import fitted

AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class Screened:
    """A picture as the detector saw it, uint8 [h, w, c], what was done to it, and what came out.

    warnings: how fitting may have hidden what is odd.
    """

    image: np.ndarray
    width: int
    height: int
    fitted: str
    warnings: tuple[str, ...]
    score: float
    p_value: float
    belongs: bool


def run(
    detector: Detector, pictures: Iterable[tuple[str, Original | Unreadable]], invert: str
) -> Iterator[tuple[str, Screened | Unreadable]]:
    """Yields each picture's name with what the detector says of it, or with why it could not be read, in turn.

    invert: 'always', 'never', or 'auto': where its background is bright and that of training images dark, or the
    other way round.
    """
    pictures = iter(pictures)
    while some := tuple(itertools.islice(pictures, AT_ONCE)):
        ready = {
            name: fitted(each, detector.image_shape, detector.background, invert)
            for name, each in some
            if isinstance(each, Original)
        }
        said = {}
        if ready:
            values = detector.scores(np.stack([each.image for each in ready.values()]))
            p_values, belongs = detector.p_values_of(values), detector.threshold.belongs(values)
            said = dict(zip(ready, zip(values.tolist(), p_values.tolist(), belongs.tolist())))
        for name, each in some:
            if name in ready:
                height, width = each.size
                as_seen = ready[name]
                yield name, Screened(as_seen.image, width, height, as_seen.done, as_seen.warnings, *said[name])
            else:
                yield name, each
