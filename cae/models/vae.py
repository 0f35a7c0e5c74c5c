"""A variational autoencoder (Kingma and Welling 2014): it encodes an image as a normal distribution."""

import keras
import tensorflow as tf

from cae.models.base import GenerativeAutoencoder
from cae.models.conv import ConvAutoencoder

MAX_LOG_VAR = 10.0
"""Variances are clipped to e^-10..e^10, so that no step overflows."""


@keras.saving.register_keras_serializable("cae")
class VariationalAutoencoder(GenerativeAutoencoder, ConvAutoencoder):
    """Encodes images as normal distributions of flat latent vectors; encoder and decoder are those of `conv`."""

    encoder_outputs_per_latent = 2  # Mean and log variance.

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        mean, log_var = tf.split(self.encoder(images), 2, axis=1)
        return mean, tf.clip_by_value(log_var, -MAX_LOG_VAR, MAX_LOG_VAR)
