"""A model so simple that its results are worked out by hand."""

from pathlib import Path

import keras
import tensorflow as tf

from cae.config import Config
from cae.run import Run


class HalfMean(keras.Model):
    """Encodes an image as its mean and its maximum, and decodes a constant image of half the mean."""

    latent_dim = 2

    def encode(self, images):
        return tf.stack([tf.reduce_mean(images, [1, 2, 3]), tf.reduce_max(images, [1, 2, 3])], axis=1)

    def decode(self, latents):
        return tf.ones([1, 12, 12, 1]) * tf.reshape(latents[:, 0], [-1, 1, 1, 1]) / 2

    def call(self, images):
        return self.decode(self.encode(images))


def run_of(model, image_shape, config=None):
    """Returns a run of a model, without files."""
    return Run(Path(), {"dataset": {"image_shape": image_shape}}, config or Config(), model, step=0)


def half_mean_run():
    """Returns a run of `HalfMean`, which was trained on some noise."""
    return run_of(HalfMean(), (12, 12, 1), Config(noise="salt_pepper:0.4-0.6"))
