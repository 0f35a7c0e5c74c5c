"""An outlier detector as a function of tensors, calibrated with the scores that it computes itself."""

import functools
import math
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from cae.export.graph_scores import make_graph_score
from cae.outliers.anomaly_map import fit_pixel_threshold, smoothed_error
from cae.outliers.calibration_classes import CalibrationClasses
from cae.outliers.detector import Detector
from cae.outliers.forward import ModelOutputs, compute_outputs, make_batches
from cae.outliers.thresholds import DEFAULT_ALPHA, Threshold, fit_threshold, get_threshold_method, min_alpha

MAX_BATCH_SIZE = 256
"""Images that are scored together: there is a distance from each to every training image."""

_ROUNDING = 1 + 1e-6
"""More than the rounding error of alpha (n + 1) in float32: 0.01 * 1000 is not less than 10."""


class GraphDetector:
    """Decides by conformal p-values whether images are inliers; all that it computes is in a graph, in float32.

    Attributes:
      score_name: A key of `SCORES`.
      method: "conformal", or "class_conditional" if the detector that was exported is.
      two_sided: Whether small scores are anomalous as well.
      calibration_scores: The scores of the calibration split, sorted, float32 [n].
      classes: Their classes, for a class-conditional threshold.
      pixel_threshold: The smoothed error that `PIXEL_ALPHA` of the pixels of calibration images exceed.
      default_alpha: The false positive rate of the detector that was exported.
    """

    def __init__(
        self, model: keras.Model, detector: Detector, calibration: np.ndarray, labels: np.ndarray | None = None
    ):
        """Calibrates a fitted detector again.

        Args:
          model: The model, in float32.
          detector: What is exported.
          calibration: Images that nothing was fitted to, uint8 [n, height, width, channels].
          labels: Their labels, for a class-conditional threshold, int [n].

        Raises:
          UserError: The detector's score can't be exported.
        """
        self._model, self._score = model, make_graph_score(detector.score_name, detector.score)
        self.score_name, self.two_sided = detector.score_name, detector.score.two_sided
        method = get_threshold_method(detector.method)
        self.method, self.classes = "class_conditional" if method.by_class else "conformal", None
        order = self._calibrate(calibration)
        if method.by_class:
            self.classes = CalibrationClasses(labels[order], detector.classes.names)
        self.default_alpha = max(DEFAULT_ALPHA if method.needs_outliers else detector.alpha, self.min_alpha)

    @property
    def min_alpha(self) -> float:
        """The smallest false positive rate that so many calibration images can guarantee."""
        return min_alpha(self.method, len(self.calibration_scores), self.two_sided, self.classes)

    def threshold(self, alpha: float) -> Threshold:
        """Returns the range of scores that `__call__` takes for those of inliers."""
        scores, no_outliers = self.calibration_scores, np.zeros(0)
        return fit_threshold(self.method, scores, no_outliers, alpha, self.two_sided, self.classes)

    def __call__(self, images: tf.Tensor, alpha: tf.Tensor) -> dict[str, tf.Tensor]:
        """Decides on images.

        Args:
          images: float32 [batch, height, width, channels] in 0..1; all but the first dimension must be known.
          alpha: The false positive rate, float32. Below `min_alpha` every image is an inlier, which keeps to the rate.

        Returns:
          `score` and `p_value`, float32 [batch]; `is_inlier`, bool [batch]; `anomaly_map`, float32 [batch, height,
          width].
        """
        score, error = self._score_and_error(images)
        # What becomes of NaN on the way to a score depends on the runtime.
        score = tf.where(tf.reduce_any(tf.math.is_nan(images), axis=[1, 2, 3]), np.float32(np.nan), score)
        p_value, is_inlier = decide(score, alpha, self.calibration_scores, self.two_sided, self.classes)
        anomaly_map = error / self.pixel_threshold
        return {"score": score, "p_value": p_value, "is_inlier": is_inlier, "anomaly_map": anomaly_map}

    def _score_and_error(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the scores of images, and the smoothed errors of their pixels."""
        output, latents, embeddings = compute_outputs(self._model, images)
        score = self._score(ModelOutputs(images, output, latents, self._model, embeddings))
        return score, smoothed_error(images, output)

    def _calibrate(self, images: np.ndarray) -> np.ndarray:
        """Scores calibration images and their pixels, and returns the order of the sorted scores, int [n]."""
        compute = tf.function(
            self._score_and_error, input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.float32)]
        )
        scores = []

        def maps() -> Iterator[np.ndarray]:
            for start in range(0, len(images), MAX_BATCH_SIZE):
                for batch in make_batches(images[start : start + MAX_BATCH_SIZE]):
                    score, error = compute(batch)
                    scores.append(score.numpy())
                    yield error.numpy()

        self.pixel_threshold = fit_pixel_threshold(maps(), math.prod(images.shape[:3]))
        order = np.argsort(np.concatenate(scores))
        self.calibration_scores = np.concatenate(scores)[order]
        return order


def decide(
    scores: tf.Tensor,
    alpha: tf.Tensor,
    calibration_scores: np.ndarray,
    two_sided: bool,
    classes: CalibrationClasses | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns conformal p-values, and which scores are those of inliers by `thresholds.fit_threshold`.

    The threshold is the calibration score of rank n + 1 - g of n, g being (n + 1) alpha rounded down. A score exceeds
    it if fewer than g calibration scores are at least as large: if 1 + their number, the numerator of the p-value, is
    at most g. So it is a comparison of integers, which takes NaN for an outlier. Of several classes, the one with the
    largest p-value counts.

    Args:
      scores: float32 [batch].
      alpha: The false positive rate, float32.
      calibration_scores: float32 [n].
      two_sided: Whether small scores are anomalous as well; either side then has half of alpha.
      classes: The classes of the calibration scores, for class-conditional p-values.

    Returns:
      float32 [batch] and bool [batch].
    """
    labels, known = (np.zeros(len(calibration_scores)), [0]) if classes is None else (classes.labels, [*classes.names])
    members = (labels[:, None] == known).astype(np.float32)
    num_gaps = (members.sum(axis=0, dtype=np.float64) + 1) / (2 if two_sided else 1)
    p_values, margins = [], []
    for comparison in (tf.greater_equal, tf.less_equal)[: 2 if two_sided else 1]:
        numerators = 1 + tf.cast(comparison(calibration_scores, scores[:, None]), tf.float32) @ members
        max_outside = tf.floor(alpha * (num_gaps * _ROUNDING).astype(np.float32))
        p_values.append(tf.reduce_max(numerators / num_gaps.astype(np.float32), axis=1))
        margins.append(tf.reduce_max(numerators - max_outside, axis=1))
    return tf.minimum(1.0, functools.reduce(tf.minimum, p_values)), functools.reduce(tf.minimum, margins) > 0
