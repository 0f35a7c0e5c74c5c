import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from cae.config import Config
from cae.data import datasets
from cae.tasks.classifier import HOGClassifier, SVMClassifier, has_classes


@pytest.fixture(scope="module")
def digits():
    return datasets.open_dataset(Config(dataset="digits"))


def test_the_classifier_is_accurate_on_clean_test_images_and_not_on_noise(digits, random):
    classifier = SVMClassifier(*digits.load("train"))
    images, labels = digits.load("test")
    assert classifier.is_correct(images / np.float32(255), labels).mean() > 0.97
    assert classifier.is_correct(random.random(images.shape, np.float32), labels).mean() < 0.4


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_the_classes_are_those_of_scikit_learn(digits, random, num_classes):
    images, labels = (each[digits.load("train")[1] < num_classes] for each in digits.load("train"))
    labels = labels * 7 % 11  # Neither consecutive nor in the order of the digits.
    classifier = SVMClassifier(images, labels)
    noisy = np.clip(images / 255 + random.normal(0, 0.5, images.shape), 0, 1).astype(np.float32)
    pixels = noisy.reshape(len(noisy), -1)
    expected = make_pipeline(PCA(40, random_state=0), SVC(C=5.0)).fit(images.reshape(len(images), -1) / 255.0, labels)
    assert len(set(expected.predict(pixels))) == num_classes
    # One image may lie on a boundary, up to rounding.
    assert np.sum(classifier.predict(noisy) != expected.predict(pixels)) <= 1


def test_the_mean_confidence_is_about_the_accuracy(digits, random):
    classifier = HOGClassifier(*digits.load("train"))
    images, labels = digits.load("test")
    predicted, confidence = classifier.predict_with_confidence(images.reshape(32, 8, 28, 28, 1) / np.float32(255))
    assert predicted.shape == confidence.shape == (32, 8)
    accuracy = np.mean(predicted.reshape(-1) == labels)
    assert accuracy > 0.95 and abs(confidence.mean() - accuracy) < 0.05
    _, noise_confidence = classifier.predict_with_confidence(random.random(images.shape, np.float32))
    assert noise_confidence.mean() < confidence.mean()


def test_a_classifier_needs_at_least_two_classes():
    assert has_classes(np.array([0, 1, 1]), ["a", "b"])
    assert not has_classes(np.zeros(3, int), ["a", "b"]) and not has_classes(np.zeros(3, int), [])


def test_a_classifier_can_be_fitted_to_few_images(random):
    images = random.integers(0, 256, (6, 12, 12, 3), np.uint8)
    assert SVMClassifier(images, np.arange(6) % 2).is_correct(images / 255, np.arange(6) % 2).shape == (6,)
