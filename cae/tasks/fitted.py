"""A person's own pictures, fitted to the size, channels and background that a model was trained on."""

import dataclasses

import numpy as np
from PIL import Image, ImageOps

from cae.data.originals import Original
from cae.data.pictures import fit
from cae.outliers.detector import background

MUCH = 2.0
"""A picture whose sides change by more than this factor is one to look at."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A picture as a model takes it, uint8 [height, width, channels], and what was done to it.

    warnings: what that may have hidden.
    """

    image: np.ndarray
    done: str
    warnings: tuple[str, ...]


def fitted(original: Original, image_shape: tuple[int, int, int], usual: float, invert: str) -> Fitted:
    """Returns a picture fitted to an image shape.

    invert: 'always', 'never', or 'auto': where its background is bright and `usual`, that of training images in 0..1,
    is dark, or the other way round.
    """
    height, width, channels = image_shape
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
    if invert == "always" or (invert == "auto" and _is_negative(image, usual)):
        image = 255 - image
        done.append("inverted")
        warnings.append("inverted: bright and dark have changed places")
    return Fitted(image, ", ".join(done), tuple(warnings))


def _is_coloured(picture: Image.Image) -> bool:
    values = np.asarray(picture.convert("RGB"), np.int16)
    return bool((values.max(axis=-1) - values.min(axis=-1)).max() > 16)


def _is_negative(image: np.ndarray, usual: float) -> bool:
    own = background(image[None])
    return abs(own - usual) > 0.5 and abs((1 - own) - usual) < 0.25
