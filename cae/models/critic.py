"""A critic of images: how far is each from the data?"""

import keras
import tensorflow as tf

from cae.models.conv import Encoder

FEATURES = 32
"""Numbers that the critic sees in an image, whose mean is its answer."""


@keras.saving.register_keras_serializable("cae")
class Critic(keras.Model):
    """Guesses a number for each of images [batch, height, width, channels]: float32 [batch].

    It is an encoder whose latent vector's mean is taken, as in Berthelot et al. 2018.
    """

    def __init__(self, image_shape: tuple[int, int, int], width: int = 32, **options):
        super().__init__(**options)
        self.sizes = {"image_shape": tuple(image_shape), "width": width}
        self.encoder = Encoder(image_shape, FEATURES, width, name="encoder")

    def call(self, images: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(self.encoder(images), axis=1)

    def get_config(self):
        return super().get_config() | self.sizes
