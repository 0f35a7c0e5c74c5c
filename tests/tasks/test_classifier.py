import numpy as np
import pytest

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
