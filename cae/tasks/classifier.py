"""What an image is taken for: the same classifiers for every method, trained here on clean images, saved nowhere."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cae.outliers.gradients import describe

TRAINED_ON = 10_000
"""Images that a classifier is trained on, or all there are: of MNIST, they are enough for 97 of 100."""

COMPONENTS = 40
STROKE_COMPONENTS = 64
AT_ONCE = 1024


def can_learn(labels: np.ndarray, class_names: object) -> bool:
    """Returns whether there is something to know: unlabelled images have nothing, and one class alone is certain."""
    return bool(class_names) and len(np.unique(labels[:TRAINED_ON])) > 1


class Classifier:
    """A support vector machine on principal components.

    images: clean, uint8 [n, height, width, channels]; labels: int [n], of two classes at least.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        values = _flat(images[:TRAINED_ON]).astype(np.float32) / 255
        components = min(COMPONENTS, *values.shape)
        self._pipeline = make_pipeline(PCA(components, random_state=0), SVC(C=5.0))
        self._pipeline.fit(values, labels[:TRAINED_ON])

    def knows(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns for which images, float32 [n, height, width, channels] in 0..1, it finds the label: bool [n]."""
        return self._pipeline.predict(_flat(images)) == labels


class Recogniser:
    """A logistic regression on principal components of stroke directions, for its probabilities.

    images: clean, uint8 [n, height, width, channels]; labels: int [n], of two classes at least.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        values = _strokes(images[:TRAINED_ON].astype(np.float32) / 255)
        components = min(STROKE_COMPONENTS, *values.shape)
        self._pipeline = make_pipeline(
            PCA(components, random_state=0), StandardScaler(), LogisticRegression(max_iter=1000)
        )
        self._pipeline.fit(values, labels[:TRAINED_ON])

    def recognise(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what images [..., height, width, channels] in 0..1 are taken for, and how certainly, both [...].

        Labels are int, certainty is the probability of the label, 0..1.
        """
        chances = self._pipeline.predict_proba(_strokes(images.reshape(-1, *images.shape[-3:])))
        labels = self._pipeline.classes_[chances.argmax(axis=1)]
        return labels.reshape(images.shape[:-3]), chances.max(axis=1).reshape(images.shape[:-3])


def _strokes(images: np.ndarray) -> np.ndarray:
    parts = [images[first : first + AT_ONCE] for first in range(0, len(images), AT_ONCE)]
    return np.concatenate([describe(part.astype(np.float32)) for part in parts])


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)
