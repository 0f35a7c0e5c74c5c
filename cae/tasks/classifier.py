"""Classifiers of denoised and interpolated images, fitted to clean images in each evaluation and never saved."""

from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cae.data.arrays import flatten, to_float
from cae.outliers.hog import hog_descriptors
from cae.progress import phase

MAX_TRAIN_EXAMPLES = 10_000
"""Enough for a test accuracy of 97% on MNIST."""

MAX_PIXEL_COMPONENTS = 40
MAX_HOG_COMPONENTS = 64

BATCH_SIZE = 1024


def has_classes(labels: np.ndarray, class_names: Sequence[str]) -> bool:
    """Returns whether training images have labels `[n]` of at least two classes."""
    return bool(class_names) and len(np.unique(labels[:MAX_TRAIN_EXAMPLES])) > 1


class SVMClassifier:
    """A support vector machine on the principal components of pixels.

    Args:
      images: Clean images, uint8 `[n, height, width, channels]`.
      labels: int `[n]`, of at least two classes.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        pixels = flatten(to_float(images[:MAX_TRAIN_EXAMPLES]))
        pca = PCA(min(MAX_PIXEL_COMPONENTS, *pixels.shape), random_state=0)
        with phase("fitting a support vector machine"):
            self._pipeline = make_pipeline(pca, SVC(C=5.0)).fit(pixels, labels[:MAX_TRAIN_EXAMPLES])

    def is_correct(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns which images, `[n, height, width, channels]` in 0..1, are classified correctly, bool `[n]`."""
        return self._pipeline.predict(flatten(images)) == labels


class HOGClassifier:
    """A logistic regression on the principal components of HOG descriptors, which gives probabilities.

    Args:
      images: Clean images, uint8 `[n, height, width, channels]`.
      labels: int `[n]`, of at least two classes.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        with phase("fitting a classifier of HOG descriptors"):
            descriptors = _compute_hog(to_float(images[:MAX_TRAIN_EXAMPLES]))
            pca = PCA(min(MAX_HOG_COMPONENTS, *descriptors.shape), random_state=0)
            self._pipeline = make_pipeline(pca, StandardScaler(), LogisticRegression(max_iter=1000))
            self._pipeline.fit(descriptors, labels[:MAX_TRAIN_EXAMPLES])

    def predict_with_confidence(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classifies images `[..., height, width, channels]` in 0..1.

        Returns:
          The labels, int `[...]`, and their probabilities, `[...]` in 0..1.
        """
        probabilities = self._pipeline.predict_proba(_compute_hog(images.reshape(-1, *images.shape[-3:])))
        labels = self._pipeline.classes_[probabilities.argmax(axis=1)]
        return labels.reshape(images.shape[:-3]), probabilities.max(axis=1).reshape(images.shape[:-3])


def _compute_hog(images: np.ndarray) -> np.ndarray:
    batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
    return np.concatenate([hog_descriptors(batch.astype(np.float32)) for batch in batches])
