import numpy as np

from cae.config import Config
from cae.data import sources
from cae.tasks.classifier import Classifier, Recogniser, can_learn


def test_it_knows_clean_digits_that_it_has_not_seen_and_not_noise(random):
    source = sources.open_source(Config(dataset="digits"))
    classifier = Classifier(*source.read("train"))
    images, labels = source.read("test")
    assert classifier.knows(images / np.float32(255), labels).mean() > 0.97
    assert classifier.knows(random.random(images.shape, np.float32), labels).mean() < 0.4


def test_certainty_is_about_how_often_it_is_right(random):
    source = sources.open_source(Config(dataset="digits"))
    recogniser = Recogniser(*source.read("train"))
    images, labels = source.read("test")
    found, certainty = recogniser.recognise(images.reshape(32, 8, 28, 28, 1) / np.float32(255))
    assert found.shape == certainty.shape == (32, 8)
    right = np.mean(found.reshape(-1) == labels)
    assert right > 0.95 and abs(certainty.mean() - right) < 0.05
    _, noise = recogniser.recognise(random.random(images.shape, np.float32))
    assert noise.mean() < certainty.mean()


def test_there_is_something_to_know_where_there_are_several_classes():
    assert can_learn(np.array([0, 1, 1]), ["a", "b"])
    assert not can_learn(np.zeros(3, int), ["a", "b"]) and not can_learn(np.zeros(3, int), [])


def test_it_takes_as_few_images_as_there_are(random):
    images = random.integers(0, 256, (6, 12, 12, 3), np.uint8)
    assert Classifier(images, np.arange(6) % 2).knows(images / 255, np.arange(6) % 2).shape == (6,)
