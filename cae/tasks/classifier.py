"""Classifiers of denoised and interpolated images, fitted to clean images in each evaluation and never saved."""

import itertools
from collections.abc import Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import ThreadpoolController

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
        self._pca = PCA(min(MAX_PIXEL_COMPONENTS, *pixels.shape), random_state=0)
        with phase("fitting a support vector machine"):
            components = self._pca.fit_transform(pixels)
            self._gamma = 1 / (components.shape[1] * (components.var() or 1))
            self._svm = SVC(C=5.0, gamma=self._gamma).fit(components, labels[:MAX_TRAIN_EXAMPLES])
        self._pairs = [*itertools.combinations(range(len(self._svm.classes_)), 2)]
        self._weights = self._pair_weights()
        self._thread_pools = ThreadpoolController()

    def is_correct(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns which images, `[n, height, width, channels]` in 0..1, are classified correctly, bool `[n]`."""
        return self.predict(images) == labels

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Returns the classes `[n]` of images as `SVC.predict` does, by matrix products in a fifth of its time.

        Each pair of classes votes for one of them, as in LIBSVM (Chang and Lin 2011).
        """
        # Threads of a BLAS keep a processor busy after their product, when the model is to compute the next batch.
        with self._thread_pools.limit(limits=1, user_api="blas"):
            kernel = rbf_kernel(self._pca.transform(flatten(images)), self._svm.support_vectors_, gamma=self._gamma)
            decisions = kernel @ self._weights + self._svm.intercept_
        is_first = decisions > 0 if len(self._pairs) > 1 else decisions <= 0  # scikit-learn negates those of a pair.
        votes = np.zeros((len(images), len(self._svm.classes_)), int)
        for (first, second), wins in zip(self._pairs, is_first.T):
            votes[:, first] += wins
            votes[:, second] += ~wins
        return self._svm.classes_[votes.argmax(axis=1)]

    def _pair_weights(self) -> np.ndarray:
        """Returns the weights `[num_vectors, num_pairs]` of support vectors in the decisions between two classes."""
        class_of_vector = np.repeat(range(len(self._svm.classes_)), self._svm.n_support_)
        weights = np.zeros((len(class_of_vector), len(self._pairs)))
        for pair, (first, second) in enumerate(self._pairs):
            for own, other in ((first, second - 1), (second, first)):
                is_own = class_of_vector == own
                weights[is_own, pair] = self._svm.dual_coef_[other, is_own]
        return weights


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
