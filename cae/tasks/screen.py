"""A person's own pictures, fitted to what a detector takes: does each of them belong?"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageOps

from cae.data.originals import Original, Unreadable
from cae.data.pictures import fit
from cae.outliers.detector import Detector, background

AT_ONCE = 256

MUCH = 2.0
"""A picture whose sides change by more than this factor is one to look at."""


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
        ready = {name: _fitted(each, detector, invert) for name, each in some if isinstance(each, Original)}
        said = {}
        if ready:
            values = detector.scores(np.stack([image for image, _, _ in ready.values()]))
            p_values, belongs = detector.p_values_of(values), detector.threshold.belongs(values)
            said = dict(zip(ready, zip(values.tolist(), p_values.tolist(), belongs.tolist())))
        for name, each in some:
            if name in ready:
                image, done, warnings = ready[name]
                height, width = each.size
                yield name, Screened(image, width, height, done, warnings, *said[name])
            else:
                yield name, each


def _fitted(original: Original, detector: Detector, invert: str) -> tuple[np.ndarray, str, tuple[str, ...]]:
    """Returns the picture as the detector takes it, what was done to it, and what that may have hidden."""
    height, width, channels = detector.image_shape
    picture = ImageOps.exif_transpose(original.picture)
    image = fit(picture, height, width, channels)
    done, warnings = [], []
    factor = max(picture.width / width, picture.height / height)
    if picture.size != (width, height):
        done.append(f"{picture.width}x{picture.height} to {width}x{height}")
    if factor > MUCH:
        warnings.append(f"shrunk {factor:.1f} times: fine detail is gone")
    elif factor < 1 / MUCH:
        warnings.append(f"enlarged {1 / factor:.1f} times: it is blurred")
    if not 0.9 < (picture.width / picture.height) / (width / height) < 1.1:
        done.append("padded")
        warnings.append("padded to another shape")
    if channels == 1 and _is_coloured(picture):
        done.append("colours to grey")
        warnings.append("colours are gone")
    if invert == "always" or (invert == "auto" and _is_negative(image, detector.background)):
        image = 255 - image
        done.append("inverted")
        warnings.append("inverted: bright and dark have changed places")
    return image, ", ".join(done), tuple(warnings)


def _is_coloured(picture: Image.Image) -> bool:
    values = np.asarray(picture.convert("RGB"), np.int16)
    return bool((values.max(axis=-1) - values.min(axis=-1)).max() > 16)


def _is_negative(image: np.ndarray, usual: float) -> bool:
    own = background(image[None])
    return abs(own - usual) > 0.5 and abs((1 - own) - usual) < 0.25
