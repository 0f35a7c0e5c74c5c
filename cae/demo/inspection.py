"""What a model and its detector say of one image: with noise, denoised, encoded, and whether it is an outlier."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from cae.data.arrays import to_float
from cae.data.noise import NOISES, CorruptionStep, OneOf, parse_noise
from cae.outliers.detector import Detector
from cae.outliers.thresholds import get_threshold_method
from cae.run import Run

ALPHA_STEP = 1e-4
MAX_ALPHA = 0.2
MAX_SEED = 999_999


@dataclasses.dataclass(frozen=True)
class Detection:
    """A detector's result for an image.

    Attributes:
      detector: The detector at the chosen false positive rate.
      score, p_value, is_inlier: Those of the image.
      anomaly_map: Where the image is anomalous, float32 [height, width].
    """

    detector: Detector
    score: float
    p_value: float
    is_inlier: bool
    anomaly_map: np.ndarray


def training_noise(run: Run) -> tuple[str, float]:
    """Returns the noise that a page starts with, and its level: the training's, or no Gaussian noise.

    Of a range of levels it is the middle; of several noises it is the whole text, which has its own levels.
    """
    if run.noise is None:
        return "gaussian", 0.0
    if len(run.noise.alternatives) == len(run.noise.alternatives[0]) == 1:
        step = run.noise.alternatives[0][0]
        return step.name, (step.low + step.high) / 2
    return run.config.noise, 1.0


def add_noise(image: np.ndarray, noise: str, level: float, seed: int) -> np.ndarray:
    """Returns an image with noise.

    Args:
      image: uint8 [height, width, channels].
      noise: A name in `NOISES`, or what `--noise` takes, with levels.
      level: Of a name in `NOISES`; 0 is no noise.
      seed: The same seed gives the same noise.

    Returns:
      float32 [height, width, channels] in 0..1.
    """
    clean = to_float(image)
    if noise in NOISES and level == 0:
        return clean
    corruption = OneOf(((CorruptionStep(noise, level, level),),)) if noise in NOISES else parse_noise(noise)
    return corruption(tf.constant(clean[None]), tf.constant([int(seed), 0]))[0].numpy()


def alpha_range(detector: Detector) -> tuple[float, float] | None:
    """Returns the least false positive rate that a detector can guarantee, rounded up, and the largest on the page.

    None is for a detector whose threshold has no such rate.
    """
    if get_threshold_method(detector.method).needs_outliers:
        return None
    least = math.ceil(detector.min_alpha / ALPHA_STEP) * ALPHA_STEP
    return least, max(MAX_ALPHA, min(2 * least, 1 - ALPHA_STEP), detector.alpha)


def detect(detector: Detector, image: np.ndarray, alpha: float | None) -> Detection:
    """Returns whether an image, uint8 [height, width, channels], is an outlier at a false positive rate, and where."""
    detector = detector.with_alpha(alpha)
    scores, maps = detector.scores_and_maps(image[None])
    is_inlier, p_value = detector.threshold.is_inlier(scores)[0], detector.p_values_from_scores(scores)[0]
    return Detection(detector, float(scores[0]), float(p_value), bool(is_inlier), maps[0])
