"""The critic of adversarially constrained interpolation: a regression of each image's interpolation weight."""

import keras
import tensorflow as tf

from cae.models.conv import Encoder

NUM_FEATURES = 32
"""Features of an image, whose mean is the critic's output."""


@keras.saving.register_keras_serializable("cae")
class Critic(keras.Model):
    """Maps images [batch, height, width, channels] to float32 [batch].

    It is an encoder whose latent vector is averaged, as in Berthelot et al. 2018.
    """

    def __init__(self, image_shape: tuple[int, int, int], base_filters: int = 32, **kwargs):
        super().__init__(**kwargs)
        self.encoder = Encoder(image_shape, NUM_FEATURES, base_filters, name="encoder")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(self.encoder(images), axis=1)
