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
    """Adds to every value a normal deviate of mean 0 and standard deviation `level`; 0.5 is usual for MNIST."""
    return images + level * tf.random.stateless_normal(tf.shape(images), seed)


def salt_pepper(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Turns the share `level` of the pixels black or white, either as likely (impulse noise); 0.2 is usual.

    A pixel is hit in all its channels at once.
    """
    shape = tf.concat([tf.shape(images)[:-1], [1]], axis=0)
    draw = tf.random.stateless_uniform(shape, seed)
    return tf.where(draw < level / 2, 0.0, tf.where(draw < level, 1.0, images))


@dataclasses.dataclass(frozen=True)
class Noise:
    """A corruption `(images, level, seed) -> images` and the largest level that it has a meaning for."""

    corrupt: Callable[["tf.Tensor", "tf.Tensor", "tf.Tensor"], "tf.Tensor"]
    largest: float


NOISES: dict[str, Noise] = {
    "gaussian": Noise(gaussian, largest=10.0),
    "salt_pepper": Noise(salt_pepper, largest=1.0),
}
"""What `--noise` can name."""

_NUMBER = r"\d+\.?\d*(?:e-?\d+)?|\.\d+(?:e-?\d+)?"
_LEVEL = re.compile(rf"({_NUMBER})(?:-({_NUMBER}))?")


def parse(text: str | None) -> Corruption | None:
    """Returns the corruption that NAME:LEVEL or NAME:LOW-HIGH names, or several of them joined by '+', in that order.

    LOW-HIGH draws a level for each image, uniformly. Nothing for no text. Raises `UserError` for an unknown name, and
    for a level that is no number, not above 0, or too large.
    """
    if text is None:
        return None
    stages = [_parse_one(part) for part in text.split("+")]

    def corrupt(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        for position, stage in enumerate(stages):
            images = stage(images, tf.random.experimental.stateless_fold_in(seed, position))
        return images

    return corrupt


def _parse_one(text: str) -> Corruption:
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

    def stage(images: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
        shape = [tf.shape(images)[0], 1, 1, 1]
        levels = tf.random.stateless_uniform(shape, tf.random.experimental.stateless_fold_in(seed, 0), low, high)
        noise_seed = tf.random.experimental.stateless_fold_in(seed, 1)
        return tf.clip_by_value(NOISES[name].corrupt(images, levels, noise_seed), 0.0, 1.0)

    return stage
