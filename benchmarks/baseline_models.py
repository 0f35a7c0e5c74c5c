"""Models to compare ours with: the usual small convolutional autoencoder, and that of a Keras example."""

import math

import keras
import tensorflow as tf

from cae.config import Config
from cae.models import build_scope
from cae.models.layers import apply_output_activation


class BaselineAutoencoder(keras.Sequential):
    """Clips its output to 0..1 except in training."""

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns images of the same shape, [batch, height, width, channels]."""
        return apply_output_activation(super().call(images, training=training), "linear", training)


def build_baseline(config: Config, image_shape: tuple[int, int, int]) -> keras.Model:
    """Returns a small autoencoder of strided convolutions and their transposes.

    The encoder has convolutions of `base_filters` filters and twice that, and a dense layer; the decoder mirrors them
    and ends with a convolution at full resolution. For MNIST and the default sizes it has 278,369 weights.

    Args:
      config: Its precision, seed and sizes.
      image_shape: (height, width, channels); sides are multiples of 4.
    """
    (height, width, channels), filters = image_shape, config.base_filters
    coarse_shape = (height // 4, width // 4, 2 * filters)
    options = {"kernel_size": 3, "padding": "same", "activation": "relu"}
    with build_scope(config):
        model = BaselineAutoencoder(
            [
                keras.layers.Conv2D(filters, strides=2, **options),
                keras.layers.Conv2D(2 * filters, strides=2, **options),
                keras.layers.Flatten(),
                keras.layers.Dense(config.latent_dim),
                keras.layers.Dense(math.prod(coarse_shape), activation="relu"),
                keras.layers.Reshape(coarse_shape),
                keras.layers.Conv2DTranspose(2 * filters, strides=2, **options),
                keras.layers.Conv2DTranspose(filters, strides=2, **options),
                keras.layers.Conv2D(channels, 3, padding="same"),
            ]
        )
        model(tf.zeros([1, *image_shape]))
        return model


def build_keras_example() -> keras.Model:
    """Returns the model of https://keras.io/examples/vision/autoencoder, for grayscale images: 28,353 weights."""
    options = {"activation": "relu", "padding": "same"}
    return keras.Sequential(
        [
            keras.layers.Conv2D(32, 3, **options),
            keras.layers.MaxPooling2D(2, padding="same"),
            keras.layers.Conv2D(32, 3, **options),
            keras.layers.MaxPooling2D(2, padding="same"),
            keras.layers.Conv2DTranspose(32, 3, strides=2, **options),
            keras.layers.Conv2DTranspose(32, 3, strides=2, **options),
            keras.layers.Conv2D(1, 3, activation="sigmoid", padding="same"),
        ]
    )
