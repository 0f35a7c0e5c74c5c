"""A variational autoencoder (Kingma and Welling 2014): an image becomes a normal distribution of latent vectors."""

import keras
import tensorflow as tf

from cae.models.conv import Decoder, Encoder
from cae.models.layers import finished

MOST_LOG_VARIANCE = 10.0
"""Variances stay within e^-10 and e^10, so that a bad step overflows nothing."""


@keras.saving.register_keras_serializable("cae")
class VariationalAutoencoder(keras.Model):
    """Encodes images as normal distributions of flat latent vectors, and decodes vectors into images.

    image_shape: (height, width, channels), any sides; latent_dim: numbers in a latent vector; width: channels of the
    first features; output_activation: 'linear' or 'sigmoid'. Encoder and decoder are those of the `conv` family.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 32,
        width: int = 32,
        output_activation: str = "linear",
        **options,
    ):
        super().__init__(**options)
        self.sizes = {"image_shape": tuple(image_shape), "latent_dim": latent_dim, "width": width}
        self.latent_dim = latent_dim
        self.encoder = Encoder(image_shape, 2 * latent_dim, width, name="encoder")
        self.decoder = Decoder(image_shape, width, name="decoder")
        self.output_activation = output_activation

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns mean and logarithm of the variance of the latent vectors of images, [batch, latent_dim] each."""
        mean, log_variance = tf.split(self.encoder(images), 2, axis=1)
        return mean, tf.clip_by_value(log_variance, -MOST_LOG_VARIANCE, MOST_LOG_VARIANCE)

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the mean latent vectors [batch, latent_dim] of images [batch, height, width, channels] in 0..1."""
        return self.posterior(images)[0]

    def decode(self, latents: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the images of latent vectors, in 0..1; in training a linear output may leave that range."""
        return finished(self.decoder(latents), self.output_activation, training)

    def sample(self, count: int, seed: int) -> tf.Tensor:
        """Returns images decoded from what is drawn from the prior, a standard normal: a function of the seed."""
        return self.decode(tf.random.stateless_normal([count, self.latent_dim], [seed, 0]))

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.decode(self.encode(images), training=training)

    def get_config(self):
        return super().get_config() | self.sizes | {"output_activation": self.output_activation}
