"""Corruptions of images, each a stateless function of the images, a strength and a seed.

To add one, write `(images, level, seed) -> images` and name it in `NOISES`; `level` comes as [batch, 1, 1, 1], and
results are clipped to 0..1 afterwards, so that a noisy image is still an image.
"""

import dataclasses
import re
from collections.abc import Callable

from etils import epy

from cae.errors import UserError, unknown_name

# TensorFlow takes seconds to import; a noise is looked up and its level checked before it is needed.
with epy.lazy_imports():
    import tensorflow as tf

Corruption = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]
"""(images [batch, height, width, channels] in 0..1, seed [2]) to images of the same shape and range."""


def gaussian(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds to every value a normal deviate of mean 0 and standard deviation `level`.

    The noise of warm electronics and the denoising literature's home case; 0.1 is usual for photographs, 0.4 (Keras'
    example) or 0.5 for MNIST.
    """
    return images + level * tf.random.stateless_normal(tf.shape(images), seed)


def uniform(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds to every value a number from -`level` to `level`, all as likely: variance level^2 / 3.

    The error of coarse quantisation (Widrow 1956), of which `level` is half a step; 0.5 is usual for MNIST.
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
    # A level of 0, no noise, can be drawn from a range; ten million photons are as good as no noise.
    level = tf.maximum(level, 1e-7)
    counts = tf.random.stateless_poisson(tf.shape(images), seed, tf.cast(images / level, tf.float64), tf.float64)
    return tf.cast(counts, tf.float32) * level


def salt_pepper(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Turns the share `level` of the pixels black or white, either as likely, in all their channels at once.

    Impulse noise: dead and saturated pixels, errors of transmission (Gonzalez and Woods 2018, section 5.2); 0.2 is
    usual, 0.5 hard.
    """
    draw = tf.random.stateless_uniform(_one_channel(images), seed)
    return tf.where(draw < level / 2, 0.0, tf.where(draw < level, 1.0, images))


def mask(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Turns the share `level` of the pixels black, in all their channels at once: mean (1 - level) x.

    The masking noise of the first denoising autoencoders (Vincent et al. 2008); 0.25 to 0.5 are usual.
    """
    return tf.where(tf.random.stateless_uniform(_one_channel(images), seed) < level, 0.0, images)


def occlusion(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Turns a square black, anywhere in the image, whose side is `level` of the image's shorter one, in whole pixels.

    Something in front of the lens (cutout, DeVries and Taylor 2017); 0.3 is usual, 8 of MNIST's 28 pixels.
    """
    shape = tf.shape(images)
    side = tf.round(level * tf.cast(tf.minimum(shape[1], shape[2]), tf.float32))
    place = tf.random.stateless_uniform([2, shape[0], 1, 1, 1], seed)

    def within(axis: int, extent: "tf.Tensor") -> "tf.Tensor":
        """Returns which lines or columns the square covers; every place that it has room for is as likely."""
        first = tf.floor(place[axis] * (tf.cast(extent, tf.float32) - side + 1.0))
        positions = tf.range(tf.cast(extent, tf.float32))[None]
        positions = positions[:, :, None, None] if axis == 0 else positions[:, None, :, None]
        return (positions >= first) & (positions < first + side)

    return tf.where(within(0, shape[1]) & within(1, shape[2]), 0.0, images)


def blur(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Blurs by a Gaussian of standard deviation `level`, in pixels; the seed changes nothing.

    A lens out of focus (Gonzalez and Woods 2018, section 5.5). Noise that is independent from pixel to pixel keeps 1 /
    (4 pi level^2) of its variance; beyond the border there is nothing, and weights are those of what is inside. 1 is
    usual for MNIST.
    """
    del seed

    def weights(extent: "tf.Tensor") -> "tf.Tensor":
        positions = tf.range(tf.cast(extent, tf.float32))
        distances = (positions[:, None] - positions[None, :])[None] / tf.maximum(level[:, :, :, 0], 1e-3)
        each = tf.exp(-tf.square(distances) / 2.0)
        return each / tf.reduce_sum(each, axis=2, keepdims=True)

    along_columns = tf.einsum("bij,bjwc->biwc", weights(tf.shape(images)[1]), images)
    return tf.einsum("bij,bhjc->bhic", weights(tf.shape(images)[2]), along_columns)


def stripes(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds to every column of an image one normal deviate, of mean 0 and standard deviation `level`.

    The fixed pattern of sensors that read out by columns, and of line scanners (Gross et al. 1998, "Statistical model
    of fixed pattern noise"); 0.2 is usual.
    """
    shape = tf.shape(images)
    return images + level * tf.random.stateless_normal([shape[0], 1, shape[2], 1], seed)


def warp(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Moves, turns, shears and stretches an image about its centre by a random affine map; its border goes on outside.

    Shears are normal deviates of standard deviation `level`, stretches of half that, shifts of 0.3 `level` of a side.
    Affine distortions are the usual ones for digits (LeCun et al. 1998); to undo them, a code has to tell what is shown
    from how it is written. 0.2 is usual.
    """
    shape = tf.shape(images)
    sides = tf.cast(shape[1:3], tf.float32)
    draws = level[:, :, 0, 0] * tf.random.stateless_normal([shape[0], 6], seed)
    xx, xy, yx, yy = 1.0 + 0.5 * draws[:, 0], draws[:, 1], draws[:, 2], 1.0 + 0.5 * draws[:, 3]
    shifts = 0.3 * draws[:, 4:] * sides[::-1]
    x, y = (sides[1] - 1) / 2, (sides[0] - 1) / 2
    # Output pixel (i, j) comes from (xx i + xy j + ..., yx i + yy j + ...), which leaves the centre but for the shift.
    columns = [xx, xy, x - xx * x - xy * y + shifts[:, 0], yx, yy, y - yx * x - yy * y + shifts[:, 1], 0 * xx, 0 * xx]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(columns, axis=1),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def _one_channel(images: "tf.Tensor") -> "tf.Tensor":
    return tf.concat([tf.shape(images)[:-1], [1]], axis=0)


@dataclasses.dataclass(frozen=True)
class Noise:
    """A corruption `(images, level, seed) -> images` and the largest level that it has a meaning for."""

    corrupt: Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor"], "tf.Tensor"]
    largest: float


NOISES: dict[str, Noise] = {
    "gaussian": Noise(gaussian, largest=10.0),
    "uniform": Noise(uniform, largest=10.0),
    "speckle": Noise(speckle, largest=10.0),
    "poisson": Noise(poisson, largest=10.0),
    "salt_pepper": Noise(salt_pepper, largest=1.0),
    "mask": Noise(mask, largest=1.0),
    "occlusion": Noise(occlusion, largest=1.0),
    "blur": Noise(blur, largest=100.0),
    "stripes": Noise(stripes, largest=10.0),
    "warp": Noise(warp, largest=1.0),
}
"""What `--noise` can name."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One noise at a level that is drawn for each image, uniformly from `low` to `high`."""

    name: str
    low: float
    high: float

    def __call__(self, images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        """Returns images [batch, height, width, channels] in 0..1 with the noise, in the same range."""
        shape = [tf.shape(images)[0], 1, 1, 1]
        level_seed, noise_seed = (tf.random.experimental.stateless_fold_in(seed, number) for number in range(2))
        levels = tf.random.stateless_uniform(shape, level_seed, self.low, self.high)
        return tf.clip_by_value(NOISES[self.name].corrupt(images, levels, noise_seed), 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A corruption: one of its alternatives, drawn for each image, each of which is stages, one after the other."""

    alternatives: tuple[tuple[Stage, ...], ...]

    def __call__(self, images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        """Returns images [batch, height, width, channels] in 0..1 corrupted, in the same range."""
        if len(self.alternatives) == 1:
            return _through(self.alternatives[0], images, seed)
        seeds = [tf.random.experimental.stateless_fold_in(seed, number) for number in range(1 + len(self.alternatives))]
        shape, several = [tf.shape(images)[0], 1, 1, 1], len(self.alternatives)
        drawn = tf.random.stateless_uniform(shape, seeds[0], maxval=several, dtype=tf.int32)
        noisy = images
        for number, stages in enumerate(self.alternatives):
            noisy = tf.where(drawn == number, _through(stages, images, seeds[1 + number]), noisy)
        return noisy

    def covers(self, other: "Recipe") -> bool:
        """Returns whether all that the other one does to an image can come from this one, too."""
        return all(any(_covers(mine, theirs) for mine in self.alternatives) for theirs in other.alternatives)


def _through(stages: tuple[Stage, ...], images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    for position, stage in enumerate(stages):
        images = stage(images, tf.random.experimental.stateless_fold_in(seed, position))
    return images


def _covers(mine: tuple[Stage, ...], theirs: tuple[Stage, ...]) -> bool:
    return len(mine) == len(theirs) and all(
        one.name == other.name and one.low <= other.low and other.high <= one.high for one, other in zip(mine, theirs)
    )


_NUMBER = r"\d+\.?\d*(?:e-?\d+)?|\.\d+(?:e-?\d+)?"
_LEVEL = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))?")


def parse(text: str | None) -> Recipe | None:
    """Returns the corruption that a text names, nothing for no text.

    NAME:LEVEL is one noise, NAME:LOW-HIGH draws its level for each image, ONE+OTHER is both in that order, ONE/OTHER is
    either, drawn for each image; '+' binds more tightly. Raises `UserError` for an unknown name, and for a level that
    is no number, not above 0, or too large.
    """
    if text is None:
        return None
    return Recipe(tuple(tuple(_parse_stage(part) for part in way.split("+")) for way in text.split("/")))


def _parse_stage(text: str) -> Stage:
    name, _, level = text.partition(":")
    if name not in NOISES:
        raise unknown_name("--noise", name, NOISES)
    match = _LEVEL.fullmatch(level)
    if not match:
        raise UserError(f"--noise={text}: give '{name}' a level, such as {name}:0.5 or {name}:0.1-0.8")
    low, high = float(match[1]), float(match[2] or match[1])
    largest = NOISES[name].largest
    if not 0 <= low <= high <= largest or high == 0:
        raise UserError(f"--noise={text}: levels of '{name}' lie above 0, up to {largest:g}, the lower one first")
    return Stage(name, low, high)
