"""Corruptions of images, each a stateless function of the images, a level and a seed."""

import dataclasses
import re
from collections.abc import Callable

from etils import epy

from cae.errors import UserError, unknown_choice_error

# TensorFlow takes seconds to import, and `--noise` is parsed before it is needed.
with epy.lazy_imports():
    import tensorflow as tf

# (images [batch, height, width, channels], seed [2]) to images of the same shape.
Corruption = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]


def gaussian(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds normal noise of mean 0 and standard deviation `level` to every value.

    The noise of warm electronics, and the usual one of the denoising literature; 0.1 is usual for photographs, 0.4
    (Keras' example) or 0.5 for MNIST.
    """
    return images + level * tf.random.stateless_normal(tf.shape(images), seed)


def awgn(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds normal noise of mean 0 and standard deviation `level` / 255 to every value, without clipping.

    Additive white Gaussian noise as the tables of the denoising literature have it: values may leave 0..1, and levels
    are those of images in 0..255 (Dabov et al. 2007, BM3D); 15, 25 and 50 are usual.
    """
    return gaussian(images, level / 255.0, seed)


def uniform(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds uniform noise from -`level` to `level` to every value: variance level^2 / 3.

    The error of coarse quantization (Widrow 1956), of which `level` is half a step; 0.5 is usual for MNIST.
    """
    return images + level * tf.random.stateless_uniform(tf.shape(images), seed, -1.0, 1.0)


def speckle(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Multiplies every value by a normal deviate of mean 1 and standard deviation `level`: black stays black.

    The noise of radar and ultrasound, in its simplest form (Jain 1989, section 8.13); 0.5 is usual.
    """
    return images * (1.0 + level * tf.random.stateless_normal(tf.shape(images), seed))


def poisson(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Counts photons, of which a white pixel gets 1 / `level` on average: mean x and variance level * x.

    The shot noise of dim light (Hasinoff 2014, "Photon, Poisson noise"); 0.1, 10 photons, is usual for low light.
    """
    # A range of levels may contain 0, no noise; ten million photons are as good as no noise.
    level = tf.maximum(level, 1e-7)
    rates = tf.maximum(images, 0.0) / level  # Noise that is not clipped may have come before.
    counts = tf.random.stateless_poisson(tf.shape(images), seed, tf.cast(rates, tf.float64), tf.float64)
    return tf.cast(counts, tf.float32) * level


def salt_pepper(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Sets a fraction `level` of the pixels to black or white with equal probability, in all channels at once.

    Impulse noise: dead and saturated pixels (Gonzalez and Woods 2018, section 5.2); 0.2 is usual, 0.5 hard.
    """
    values = tf.random.stateless_uniform(tf.shape(images[..., :1]), seed)
    return tf.where(values < level / 2, 0.0, tf.where(values < level, 1.0, images))


def masking(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Sets a fraction `level` of the pixels to black, in all channels at once: mean (1 - level) x.

    The masking noise of the first denoising autoencoders (Vincent et al. 2008); 0.25 to 0.5 are usual.
    """
    return tf.where(tf.random.stateless_uniform(tf.shape(images[..., :1]), seed) < level, 0.0, images)


def occlusion(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Sets a square at a uniformly random place to black; its side is `level` of the image's shorter side, rounded.

    An object in front of the lens (cutout, DeVries and Taylor 2017); 0.3 is usual, 8 of MNIST's 28 pixels.
    """
    shape = tf.shape(images)
    side = tf.round(level * tf.cast(tf.minimum(shape[1], shape[2]), tf.float32))
    offsets = tf.random.stateless_uniform([2, shape[0], 1, 1, 1], seed)

    def is_covered(axis: int) -> "tf.Tensor":
        """Returns which rows (axis 0) or columns (axis 1) the square covers, [batch, height or width, 1, 1]."""
        extent = tf.cast(shape[1 + axis], tf.float32)
        first = tf.floor(offsets[axis] * (extent - side + 1.0))
        positions = tf.range(extent)[None]
        positions = positions[:, :, None, None] if axis == 0 else positions[:, None, :, None]
        return (positions >= first) & (positions < first + side)

    return tf.where(is_covered(0) & is_covered(1), 0.0, images)


def blur(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Blurs with a Gaussian kernel of standard deviation `level`, in pixels; the seed has no effect.

    A lens out of focus (Gonzalez and Woods 2018, section 5.5). Noise that is independent from pixel to pixel keeps 1 /
    (4 pi level^2) of its variance. At the border the kernel is cut off and normalized. 1 is usual for MNIST.
    """

    def kernel(extent: "tf.Tensor") -> "tf.Tensor":
        positions = tf.range(tf.cast(extent, tf.float32))
        distances = (positions[:, None] - positions[None, :])[None] / tf.maximum(level[:, :, :, 0], 1e-3)
        weights = tf.exp(-tf.square(distances) / 2.0)
        return weights / tf.reduce_sum(weights, axis=2, keepdims=True)

    blurred_columns = tf.einsum("bij,bjwc->biwc", kernel(tf.shape(images)[1]), images)
    return tf.einsum("bij,bhjc->bhic", kernel(tf.shape(images)[2]), blurred_columns)


def column_noise(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds one normal deviate of mean 0 and standard deviation `level` to every column of an image.

    The fixed pattern of sensors that read out by columns, and of line scanners (Gross et al. 1998, "Statistical model
    of fixed pattern noise"); 0.2 is usual.
    """
    shape = tf.shape(images)
    return images + level * tf.random.stateless_normal([shape[0], 1, shape[2], 1], seed)


def affine(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Applies a random affine map about the image's center; pixels beyond the border repeat the border.

    Shears are normal deviates of standard deviation `level`, scalings of half that, shifts of 0.3 `level` of a side:
    the usual distortions of digits (LeCun et al. 1998); 0.2 is usual.
    """
    shape = tf.shape(images)
    sides = tf.cast(shape[1:3], tf.float32)
    deviates = level[:, :, 0, 0] * tf.random.stateless_normal([shape[0], 6], seed)
    xx, xy, yx, yy = 1.0 + 0.5 * deviates[:, 0], deviates[:, 1], deviates[:, 2], 1.0 + 0.5 * deviates[:, 3]
    shifts = 0.3 * deviates[:, 4:] * sides[::-1]
    x, y = (sides[1] - 1) / 2, (sides[0] - 1) / 2
    # Output pixel (i, j) is read at (xx i + xy j + ..., yx i + yy j + ...), which keeps the center but for the shift.
    columns = [xx, xy, x - xx * x - xy * y + shifts[:, 0], yx, yy, y - yx * x - yy * y + shifts[:, 1], 0 * xx, 0 * xx]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(columns, axis=1),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


@dataclasses.dataclass(frozen=True)
class Noise:
    """A corruption `(images, level, seed) -> images`.

    Attributes:
      apply: The function.
      max_level: The largest level that makes sense for it.
      clips: Whether its results are clipped to 0..1.
    """

    apply: Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor"], "tf.Tensor"]
    max_level: float
    clips: bool = True


# The names in `--noise`. To add one, write a function of images, levels [batch, 1, 1, 1] and a seed [2], whose result is
# then clipped to 0..1; docs/extending.md has an example. Images are in 0..1 unless unclipped noise came before.
NOISES: dict[str, Noise] = {
    "gaussian": Noise(gaussian, max_level=10.0),
    "awgn": Noise(awgn, max_level=2550.0, clips=False),
    "uniform": Noise(uniform, max_level=10.0),
    "speckle": Noise(speckle, max_level=10.0),
    "poisson": Noise(poisson, max_level=10.0),
    "salt_pepper": Noise(salt_pepper, max_level=1.0),
    "masking": Noise(masking, max_level=1.0),
    "occlusion": Noise(occlusion, max_level=1.0),
    "blur": Noise(blur, max_level=100.0),
    "column_noise": Noise(column_noise, max_level=10.0),
    "affine": Noise(affine, max_level=1.0),
}


@dataclasses.dataclass(frozen=True)
class CorruptionStep:
    """One of `NOISES` at a level that is sampled for each image, uniformly from `low` to `high`."""

    name: str
    low: float
    high: float

    def __call__(self, images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        """Returns corrupted images [batch, height, width, channels], in 0..1 unless the noise is not clipped."""
        level_seed, noise_seed = (tf.random.experimental.stateless_fold_in(seed, stream) for stream in range(2))
        levels = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], level_seed, self.low, self.high)
        noise = NOISES[self.name]
        noisy = noise.apply(images, levels, noise_seed)
        return tf.clip_by_value(noisy, 0.0, 1.0) if noise.clips else noisy

    def contains(self, other: "CorruptionStep") -> bool:
        """Returns whether this is the same noise at a range of levels that includes the other's."""
        return self.name == other.name and self.low <= other.low and other.high <= self.high


@dataclasses.dataclass(frozen=True)
class OneOf:
    """A corruption: one of several sequences of steps, sampled for each image with equal probability."""

    alternatives: tuple[tuple[CorruptionStep, ...], ...]

    def __call__(self, images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        """Returns corrupted images [batch, height, width, channels], in 0..1 unless a last noise is not clipped."""
        count = len(self.alternatives)
        if count == 1:
            return _apply_all(self.alternatives[0], images, seed)
        choice_seed, *seeds = (tf.random.experimental.stateless_fold_in(seed, stream) for stream in range(1 + count))
        choice = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], choice_seed, maxval=count, dtype=tf.int32)
        corrupted = images
        for index, (steps, steps_seed) in enumerate(zip(self.alternatives, seeds)):
            corrupted = tf.where(choice == index, _apply_all(steps, images, steps_seed), corrupted)
        return corrupted

    @property
    def clips(self) -> bool:
        """Whether all results are in 0..1."""
        return all(NOISES[steps[-1].name].clips for steps in self.alternatives)

    def contains(self, other: "OneOf") -> bool:
        """Returns whether everything that the other corruption does to an image may come from this one."""

        def includes(steps: tuple[CorruptionStep, ...], others: tuple[CorruptionStep, ...]) -> bool:
            return len(steps) == len(others) and all(map(CorruptionStep.contains, steps, others))

        return all(any(includes(steps, others) for steps in self.alternatives) for others in other.alternatives)


def _apply_all(steps: tuple[CorruptionStep, ...], images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    for index, step in enumerate(steps):
        images = step(images, tf.random.experimental.stateless_fold_in(seed, index))
    return images


_NUMBER = r"\d+\.?\d*(?:e-?\d+)?|\.\d+(?:e-?\d+)?"
_LEVEL = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))?")


def parse_noise(text: str | None) -> OneOf | None:
    """Returns the corruption that `--noise` names, None for clean images; does not import TensorFlow.

    Args:
      text: 'NAME:LEVEL' for one noise; 'NAME:LOW-HIGH' for a level sampled for each image; 'A+B' for A, then B; 'A/B'
        for either, sampled for each image. '+' binds more tightly than '/'. None for clean images.

    Raises:
      UserError: A name is unknown; a level is not a number, not above 0, or too large.
    """
    if text is None:
        return None
    return OneOf(tuple(tuple(map(_parse_step, steps.split("+"))) for steps in text.split("/")))


def _parse_step(text: str) -> CorruptionStep:
    name, _, level = text.partition(":")
    if name not in NOISES:
        raise unknown_choice_error("--noise", name, NOISES)
    match = _LEVEL.fullmatch(level)
    if not match:
        raise UserError(f"--noise={text}: '{name}' needs a level, such as {name}:0.5 or {name}:0.1-0.8")
    low, high = float(match[1]), float(match[2] or match[1])
    limit = NOISES[name].max_level
    if not 0 <= low <= high <= limit or high == 0:
        raise UserError(f"--noise={text}: levels of '{name}' must be above 0 and at most {limit:g}, lower one first")
    return CorruptionStep(name, low, high)
