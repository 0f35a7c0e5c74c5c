"""A model and images so simple that what comes of them is worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.data import noise, pipeline
from cae.tasks.subject import Subject, Trained

LABELS = np.array([2, 0, 0, 1, 2, 2, 0, 1])


class Halves(keras.Model):
    """Encodes an image as its mean and its largest value, and decodes a constant image of half the mean."""

    def encode(self, images):
        return tf.stack([tf.reduce_mean(images, [1, 2, 3]), tf.reduce_max(images, [1, 2, 3])], axis=1)

    def decode(self, latents):
        return tf.ones([1, 12, 12, 1]) * tf.reshape(latents[:, 0], [-1, 1, 1, 1]) / 2

    def call(self, images):
        return self.decode(self.encode(images))


class Black(keras.Model):
    """Has no latent vectors, and makes everything black."""

    def call(self, images):
        return 0.0 * images


@pytest.fixture(scope="session")
def clean():
    """The value of all pixels of each test image."""
    return np.arange(8) * 30 / 255


@pytest.fixture(scope="session")
def labels():
    return LABELS


@pytest.fixture(scope="module")
def subject():
    """What tasks are given; `dataclasses.replace` changes it."""
    values = np.arange(8, dtype=np.uint8) * 30
    images = np.tile(values[:, None, None, None], (1, 12, 12, 1))

    def batches(split, corrupt, only=None):
        common = {"classes": 3, "corrupt": corrupt, "batch_size": 3, "seed": 0}
        return pipeline.evaluation_batches(images, LABELS, only=only, **common)

    return Subject(
        trained=Trained(Halves(), noise.parse("salt_pepper:0.4-0.6")),
        batches=batches,
        read=lambda split: (images, LABELS),
        noises=["salt_pepper:0.5", "gaussian:0.1", "gaussian:0.2", "none"],
        class_names=["a", "b", "c"],
        max_examples=6,
        others={"black": Trained(Black(), None)},
        rival_images=5,
    )
