"""An outlier detector as a function of tensors, calibrated with the scores that it computes itself."""

import math
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from cae.export.graph_scores import make_graph_score
from cae.outliers.anomaly_map import fit_pixel_threshold, smoothed_error
from cae.outliers.conformal import min_attainable_alpha
from cae.outliers.detector import Detector
from cae.outliers.forward import ModelOutputs, make_batches
from cae.outliers.thresholds import DEFAULT_ALPHA, Threshold, fit_threshold, get_threshold_method

MAX_BATCH_SIZE = 256
"""Images that are scored together: there is a distance from each to every training image."""

_ROUNDING = 1 + 1e-6
"""More than the rounding error of alpha (n + 1) in float32: 0.01 * 1000 is not less than 10."""


class GraphDetector:
    """Decides by conformal p-values whether images are inliers; all that it computes is in a graph, in float32.

    Attributes:
      score_name: A key of `SCORES`.
      two_sided: Whether small scores are anomalous as well.
      calibration_scores: The scores of the calibration split, sorted, float32 [n].
      pixel_threshold: The smoothed error that `PIXEL_ALPHA` of the pixels of calibration images exceed.
      default_alpha: The false positive rate of the detector that was exported.
    """

    def __init__(self, model: keras.Model, detector: Detector, calibration: np.ndarray):
        """Calibrates a fitted detector again.

        Args:
          model: The model, in float32.
          detector: What is exported.
          calibration: Images that nothing was fitted to, uint8 [n, height, width, channels].

        Raises:
          UserError: The detector's score can't be exported.
        """
        self._model, self._score = model, make_graph_score(detector.score_name, detector.score)
        self.score_name, self.two_sided = detector.score_name, detector.score.two_sided
        self._calibrate(calibration)
        has_alpha = not get_threshold_method(detector.method).needs_outliers
        self.default_alpha = max(detector.alpha if has_alpha else DEFAULT_ALPHA, self.min_alpha)

    @property
    def min_alpha(self) -> float:
        """The smallest false positive rate that so many calibration images can guarantee."""
        return min_attainable_alpha(len(self.calibration_scores), self.two_sided)

    def threshold(self, alpha: float) -> Threshold:
        """Returns the range of scores that `__call__` takes for those of inliers."""
        return fit_threshold("conformal", self.calibration_scores, np.zeros(0), alpha, self.two_sided)

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
        p_value, is_inlier = decide(score, alpha, self.calibration_scores, self.two_sided)
        anomaly_map = error / self.pixel_threshold
        return {"score": score, "p_value": p_value, "is_inlier": is_inlier, "anomaly_map": anomaly_map}

    def _score_and_error(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the scores of images, and the smoothed errors of their pixels."""
        latents = self._model.encode(images) if hasattr(self._model, "encode") else None
        output = self._model(images) if latents is None else self._model.decode(latents)
        score = self._score(ModelOutputs(images, output, latents, self._model))
        return score, smoothed_error(images, output)

    def _calibrate(self, images: np.ndarray) -> None:
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
        self.calibration_scores = np.sort(np.concatenate(scores))


def decide(
    scores: tf.Tensor, alpha: tf.Tensor, calibration_scores: np.ndarray, two_sided: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns conformal p-values, and which scores are those of inliers by `thresholds.conformal`.

    The threshold is the calibration score of rank n + 1 - g of n, g being (n + 1) alpha rounded down. A score exceeds
    it if fewer than g calibration scores are at least as large: if 1 + their number, the numerator of the p-value, is
    at most g. So it is a comparison of integers, which takes NaN for an outlier.

    Args:
      scores: float32 [batch].
      alpha: The false positive rate, float32.
      calibration_scores: float32 [n].
      two_sided: Whether small scores are anomalous as well; either side then has half of alpha.

    Returns:
      float32 [batch] and bool [batch].
    """

    def count(comparison: Callable[[np.ndarray, tf.Tensor], tf.Tensor]) -> tf.Tensor:
        return 1 + tf.reduce_sum(tf.cast(comparison(calibration_scores, scores[:, None]), tf.float32), axis=1)

    numerator = count(tf.greater_equal)
    if two_sided:
        numerator = tf.minimum(numerator, count(tf.less_equal))
    num_gaps = (len(calibration_scores) + 1) / (2 if two_sided else 1)
    return tf.minimum(1.0, numerator / num_gaps), numerator > tf.floor(alpha * (num_gaps * _ROUNDING))
