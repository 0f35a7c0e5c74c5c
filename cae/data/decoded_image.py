"""The content of an image file: its values as they are stored, their range, and how they are written back."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cae.data.arrays import to_pil
from cae.io_utils import atomic_write

MIN_CONTRAST = 0.1
"""Root mean square difference from white, in 0..1, below which what is visible needs a black background."""

MAX_CONTRAST_PIXELS = 2**22
"""Number of pixels of which the contrast is measured, about."""

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each value of Exif's orientation; 1 is upright."""

# Types that declare their range. Values far below its end are usually of another range.
_DARK = {np.dtype(np.uint8): 1, np.dtype(np.uint16): 4095}

_USUAL_RANGES = (1, 255, 65_535)


class UnreadableImageError(Exception):
    """A file is not a supported image; the message says why, in a few words."""


@dataclasses.dataclass(frozen=True)
class DecodedImage:
    """An image file's content.

    Attributes:
      channels: [height, width, 1, 3 or 4 channels], as stored in the file: gray, RGB or CMYK, without alpha.
      alpha: Opacity, uint8 [height, width]; None for an opaque image.
      black: The value that counts as 0.
      white: The value that counts as 1; less than `black` where larger values are darker.
      format: The file's format, such as 'PNG'.
      mode: The kind of its pixels, such as 'RGB'.
      encode: Takes channels like `channels`, and returns the content of a file that is like this one otherwise.
      orientation: How the camera was held, from 1 (upright) to 8, as in Exif.
      premultiplied: Whether the channels are multiplied by alpha.
      background: The value behind transparent parts, 255 or 0.
      warnings: What had to be guessed, or is not used.
    """

    channels: np.ndarray
    alpha: np.ndarray | None
    black: float
    white: float
    format: str
    mode: str
    encode: Callable[[np.ndarray], bytes]
    orientation: int = 1
    premultiplied: bool = False
    background: int = 255
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.channels.shape[:2]

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) in pixels of the upright image."""
        height, width = self.size
        return (height, width) if 5 <= self.orientation <= 8 else (width, height)

    def to_float(self, channel: int) -> np.ndarray:
        """Returns a channel in 0..1, where 1 is bright, float32 [height, width]."""
        stored = self.channels.dtype
        # Half the memory of large images where float32 is exact enough.
        values = self.channels[..., channel].astype(
            np.float32 if stored.itemsize <= 2 else np.promote_types(stored, "f4")
        )
        values -= self.black
        values /= (self.white - self.black) or 1.0
        return values.clip(0, 1, out=values).astype(np.float32, copy=False)

    def from_float(self, values: np.ndarray) -> np.ndarray:
        """Returns values in 0..1 in the file's range and type: the inverse of `to_float`."""
        # Float32 may have been rounded to more than 1, and what is beyond an integer's largest value turns black.
        values = values.astype(np.float64).clip(0, 1) * (self.white - self.black) + self.black
        stored = self.channels.dtype
        if stored.kind == "b":
            return values >= 0.5
        if stored.kind != "f":
            values = values.round()
        # So does the end of a guessed range, and the largest integer of 64 bits, which float64 rounds up.
        limits = np.finfo(stored) if stored.kind == "f" else np.iinfo(stored)
        highest = float(limits.max) if stored.itemsize < 8 else np.nextafter(float(limits.max), 0)
        return values.clip(float(limits.min), highest).astype(stored)

    def to_pil(self) -> Image.Image:
        """Returns the image upright, of mode L or RGB, with `background` behind transparent parts."""
        values = self._to_uint8()
        if values.shape[-1] == 4:
            values = np.asarray(Image.fromarray(255 - values, "CMYK").convert("RGB"))
        if self.alpha is not None:
            values = _composite(values, self.alpha, self.background, self.premultiplied)
        image = to_pil(values)
        return image.transpose(_TRANSPOSES[self.orientation]) if self.orientation in _TRANSPOSES else image

    def _to_uint8(self) -> np.ndarray:
        """Returns the channels as uint8, 255 being bright."""
        if self.channels.dtype.kind in "iu" and {self.black, self.white} == {0, 65_535}:
            values = (self.channels >> 8).astype(np.uint8)
            return values if self.white else 255 - values
        if self.channels.dtype == np.uint8 and (self.black, self.white) == (0, 255):
            return self.channels
        channels = [self.to_float(channel) for channel in range(self.channels.shape[-1])]
        return np.stack([(255 * channel).round().astype(np.uint8) for channel in channels], axis=-1)

    def preview(self, max_side: int) -> np.ndarray:
        """Returns the image shrunk to sides of at most `max_side`, float32 [height, width, 1 or 3] in 0..1."""
        image = self.to_pil()
        scale = min(1.0, max_side / max(image.size))
        resized = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)
        return np.asarray(resized, np.float32).reshape(resized.height, resized.width, -1) / 255

    def save(self, path: Path, channels: np.ndarray) -> None:
        """Writes channels, [height, width, channels] as of `from_float`, to a file that is like this one otherwise.

        Format, mode, transparency, color profile, resolution and orientation are those of this image. The file is
        written whole or not at all.
        """
        content = self.encode(channels)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb") as file:
            file.write(content)


def mode_name(channels: np.ndarray, has_alpha: bool) -> str:
    """Returns the name of a kind of pixels, such as 'RGB' for three channels of 8 bits, or 'LA uint16'."""
    name = {1: "L", 3: "RGB", 4: "CMYK"}[channels.shape[-1]] + "A" * has_alpha
    return name if channels.dtype == np.uint8 else "1" if channels.dtype == bool else f"{name} {channels.dtype}"


def with_range(image: DecodedImage) -> DecodedImage:
    """Returns an image, whose `black` and `white` are the order of its range, with the values of both.

    Unsigned integers of 8 and 16 bits and single bits declare their range. For all others, floats and integers of other
    sizes, it is the first of 0..1, 0..255 and 0..65535 that holds all values, or else that of the values themselves;
    unless they are floats in 0..1, there is a warning.

    Raises:
      UnreadableImageError: A value is not finite.
    """
    values, warning = image.channels, None
    low, high = float(values.min()), float(values.max())
    if values.dtype == bool:
        range_ = (0.0, 1.0)
    elif values.dtype in _DARK:
        range_ = (0.0, float(np.iinfo(values.dtype).max))
        if 0 < high <= _DARK[values.dtype] and image.white > image.black:
            warning = f"dark: its largest value is {high:g} of {range_[1]:g}"
    elif not np.isfinite([low, high]).all():
        raise UnreadableImageError("contains values that are not finite")
    else:
        range_, warning = _guess_range(low, high, is_float=values.dtype.kind == "f")
    black, white = range_ if image.black < image.white else range_[::-1]
    warnings = (*image.warnings, warning) if warning else image.warnings
    return dataclasses.replace(image, black=black, white=white, warnings=warnings)


def _guess_range(low: float, high: float, is_float: bool) -> tuple[tuple[float, float], str | None]:
    for usual in _USUAL_RANGES:
        tolerance = 1e-6 * usual  # Of rounding.
        if -tolerance <= low and high <= usual + tolerance:
            is_known = high == 0 or (is_float and usual == 1)
            message = f"the range 0..{usual} was guessed from its values, {low:g} to {high:g}"
            return (0.0, float(usual)), None if is_known else message
    return (low, high), f"its values, {low:g} to {high:g}, have no usual range; the smallest is taken as black"


def with_background(image: DecodedImage) -> DecodedImage:
    """Returns an image with the background that makes it visible: white, or black for what is nearly white."""
    if image.alpha is None or image.alpha.min() == 255:
        return dataclasses.replace(image, alpha=None)
    if not image.alpha.any():
        return dataclasses.replace(image, warnings=(*image.warnings, "transparent everywhere: it is blank"))
    # Of large images, pixels at regular distances are enough.
    step = 1 + math.isqrt(image.alpha.size // MAX_CONTRAST_PIXELS)
    alpha = image.alpha[::step, ::step]
    sample = dataclasses.replace(image, channels=image.channels[::step, ::step], alpha=alpha, orientation=1)
    squares = np.square(1 - np.asarray(sample.to_pil(), np.float32) / 255).reshape(*alpha.shape, -1).mean(axis=-1)
    if np.sqrt((squares * alpha).sum(dtype="float64") / max(alpha.sum(dtype="float64"), 1)) >= MIN_CONTRAST:
        return image
    message = "nearly white on transparency: a black background is put behind it"
    return dataclasses.replace(image, background=0, warnings=(*image.warnings, message))


def _composite(values: np.ndarray, alpha: np.ndarray, background: int, premultiplied: bool) -> np.ndarray:
    """Returns uint8 values [height, width, channels] over a background."""
    opacity = alpha[..., None].astype(np.float32) / 255
    colors = values.astype(np.float32)
    blended = (colors if premultiplied else colors * opacity) + background * (1 - opacity)
    return blended.round().clip(0, 255).astype(np.uint8)
