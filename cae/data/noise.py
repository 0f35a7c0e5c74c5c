"""The names and the grammar of `--noise`: corruptions at levels, in sequence, and alternatives."""

import dataclasses
import re
from collections.abc import Callable

from etils import epy

from cae.data import corruptions, distortions
from cae.errors import UserError, unknown_choice_error

# TensorFlow takes seconds to import, and `--noise` is parsed before it is needed.
with epy.lazy_imports():
    import tensorflow as tf

# (images [batch, height, width, channels], seed [2]) to images of the same shape.
Corruption = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]


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


# The names in `--noise`. To add one, write a function as those of `cae.data.corruptions`, whose result is then clipped
# to 0..1; docs/extending.md has an example.
NOISES: dict[str, Noise] = {
    "gaussian": Noise(corruptions.gaussian, max_level=10.0),
    "awgn": Noise(corruptions.awgn, max_level=2550.0, clips=False),
    "uniform": Noise(corruptions.uniform, max_level=10.0),
    "speckle": Noise(corruptions.speckle, max_level=10.0),
    "poisson": Noise(corruptions.poisson, max_level=10.0),
    "salt_pepper": Noise(corruptions.salt_pepper, max_level=1.0),
    "masking": Noise(corruptions.masking, max_level=1.0),
    "occlusion": Noise(corruptions.occlusion, max_level=1.0),
    "blur": Noise(corruptions.blur, max_level=100.0),
    "column_noise": Noise(corruptions.column_noise, max_level=10.0),
    "affine": Noise(distortions.affine, max_level=1.0),
    "flip": Noise(distortions.flip, max_level=1.0),
    "crop": Noise(distortions.crop, max_level=0.9),
    "color_jitter": Noise(distortions.color_jitter, max_level=1.0),
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
