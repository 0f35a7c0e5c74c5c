import numpy as np

from cae.config import Config
from cae.data import sources
from cae.tasks.classifier import Classifier


def test_it_knows_clean_digits_that_it_has_not_seen_and_not_noise(random):
    source = sources.open_source(Config(dataset="digits"))
    classifier = Classifier(*source.read("train"))
    images, labels = source.read("test")
    assert classifier.knows(images / np.float32(255), labels).mean() > 0.97
    assert classifier.knows(random.random(images.shape, np.float32), labels).mean() < 0.4


def test_it_takes_as_few_images_as_there_are(random):
    images = random.integers(0, 256, (6, 12, 12, 3), np.uint8)
    assert Classifier(images, np.arange(6) % 2).knows(images / 255, np.arange(6) % 2).shape == (6,)
