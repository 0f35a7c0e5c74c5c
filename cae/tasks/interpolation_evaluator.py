"""What interpolation is evaluated by: training images and a classifier, the same for every model of a data set."""

from collections.abc import Mapping

import numpy as np

from cae.data.arrays import to_float
from cae.latents import interpolation_metrics
from cae.report.report import Row
from cae.tasks.classifier import HOGClassifier, has_classes
from cae.tasks.context import EvalContext

MAX_REFERENCE_IMAGES = 2000
"""Test images that the reference values of the metrics are measured on."""

PER_WEIGHT_METRICS = {
    "nn_distance_ratio": "Distance to the nearest training image, divided by that of real test images",
    "confidence": "Confidence of a classifier, the probability of its prediction",
}
"""Captions of the metrics that have a value for each interpolation weight."""


class InterpolationEvaluator:
    """Evaluates paths by the training images of a data set, in the same way for every model.

    Attributes:
      index: The training images.
      classifier: A classifier of images; None where there are no classes.
      test_nn_distance: The mean Euclidean distance of test images to the nearest training image.
      test_confidence: The mean confidence of the classifier on test images; None where there are no classes.
    """

    def __init__(self, context: EvalContext):
        images, labels = context.load("train")
        test_images = to_float(context.load("test")[0][:MAX_REFERENCE_IMAGES])
        self.index = interpolation_metrics.NearestNeighborIndex(images)
        self.test_nn_distance = float(self.index.distances(test_images).mean())
        self.classifier, self.test_confidence = None, None
        if has_classes(labels, context.class_names):
            self.classifier = HOGClassifier(images, labels)
            self.test_confidence = float(self.classifier.predict_with_confidence(test_images)[1].mean())

    def evaluate(self, paths: np.ndarray, ends: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Evaluates paths between pairs of images.

        Args:
          paths: `[num_pairs, num_weights, height, width, channels]` in 0..1.
          ends: The pairs, `[num_pairs, 2, height, width, channels]` in 0..1.
          weights: Interpolation weights, `[num_weights]`.

        Returns:
          By name, `[num_pairs, num_weights]`: nn_distance_ratio and, with a classifier, confidence; `[num_pairs]`:
          max_step_ratio and, with a classifier, num_distinct_labels; `[num_pairs, 2]`: endpoint_mse, where the weights
          include 0 and 1.
        """
        metrics = {
            "nn_distance_ratio": self.index.distances(paths) / max(self.test_nn_distance, 1e-12),
            "max_step_ratio": interpolation_metrics.max_step_ratio(paths, weights),
        }
        if weights[0] == 0 and weights[-1] == 1:
            metrics["endpoint_mse"] = ((paths[:, [0, -1]] - ends) ** 2).mean(axis=(2, 3, 4))
        if self.classifier:
            labels, metrics["confidence"] = self.classifier.predict_with_confidence(paths)
            metrics["num_distinct_labels"] = interpolation_metrics.num_distinct_labels(labels)
        return metrics


def is_between(weights: np.ndarray) -> np.ndarray:
    """Returns which weights are neither 0 nor 1, bool `[num_weights]`; all of them where there are no others."""
    between = (weights > 0) & (weights < 1)
    return between if between.any() else ~between


def average_metrics(metrics: Mapping[str, np.ndarray], weights: np.ndarray) -> Row:
    """Returns the mean of each metric; of those with a value for each weight, between the end points."""
    between = is_between(weights)
    return {
        name: float((values[:, between] if name in PER_WEIGHT_METRICS else values).mean())
        for name, values in metrics.items()
    }
