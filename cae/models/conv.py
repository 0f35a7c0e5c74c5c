"""A convolutional autoencoder: an encoder that downsamples to a latent vector, and a decoder that mirrors it."""

import math

import keras
import tensorflow as tf

from cae.models import layers
from cae.models.base import Autoencoder

ACTIVATION = "leaky_relu"

MAX_BOTTLENECK_SIZE = 8
"""Images are downsampled until height and width are at most this: MNIST's 28 pixels twice, to 7."""


def num_downsamples(image_shape: tuple[int, int, int]) -> int:
    """Returns how often images of that (height, width, channels) are downsampled by 2: once at least."""
    return max(1, math.ceil(math.log2(max(image_shape[:2]) / MAX_BOTTLENECK_SIZE)))


def filters_at_level(level: int, base_filters: int) -> int:
    """Returns the filters of features that were downsampled `level` times."""
    return base_filters if level == 1 else 4 * base_filters


@keras.saving.register_keras_serializable("cae")
class Encoder(keras.Model):
    """Maps images [batch, height, width, channels] to vectors, float32 [batch, size]."""

    def __init__(self, image_shape: tuple[int, int, int], size: int, base_filters: int, **kwargs):
        super().__init__(**kwargs)
        levels = num_downsamples(image_shape)
        self.multiple = 2**levels
        self.stages = [
            layers.space_to_depth,
            layers.conv2d(base_filters, activation=ACTIVATION),
            layers.ResidualBlock(base_filters, ACTIVATION),
        ]
        for level in range(2, levels + 1):
            self.stages.append(layers.conv2d(filters_at_level(level, base_filters), strides=2, activation=ACTIVATION))
        self.stages += [keras.layers.Flatten(), keras.layers.Dense(size)]

    def call(self, images):
        return tf.cast(layers.apply_all(self.stages, layers.pad_to_multiple(images, self.multiple)), tf.float32)


@keras.saving.register_keras_serializable("cae")
class Decoder(keras.Model):
    """Maps latent vectors [batch, latent_dim] to images [batch, height, width, channels], before the activation."""

    def __init__(self, image_shape: tuple[int, int, int], base_filters: int, **kwargs):
        super().__init__(**kwargs)
        levels = num_downsamples(image_shape)
        self.image_shape, self.multiple = tuple(image_shape), 2**levels
        height, width = (math.ceil(size / self.multiple) for size in image_shape[:2])
        bottleneck_shape = (height, width, filters_at_level(levels, base_filters))
        self.stages = [
            keras.layers.Dense(math.prod(bottleneck_shape), activation=ACTIVATION),
            keras.layers.Reshape(bottleneck_shape),
        ]
        for level in range(levels - 1, 0, -1):
            filters = filters_at_level(level, base_filters)
            self.stages.append(layers.conv2d_transpose(filters, strides=2, activation=ACTIVATION))
        self.stages += [
            layers.ResidualBlock(base_filters, ACTIVATION),
            layers.conv2d(4 * image_shape[2]),
            layers.depth_to_space,
        ]

    def call(self, latents):
        height, width, _ = self.image_shape
        return layers.crop_from_multiple(layers.apply_all(self.stages, latents), height, width, self.multiple)


@keras.saving.register_keras_serializable("cae")
class ConvAutoencoder(Autoencoder):
    """Encodes images of any height and width as flat latent vectors, and decodes those into images.

    Attributes:
      encoder_outputs_per_latent: Outputs of the encoder for each dimension of a latent vector.
    """

    encoder_outputs_per_latent = 1

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int = 32, base_filters: int = 32, **kwargs):
        super().__init__(image_shape, latent_dim, base_filters, **kwargs)
        self.encoder = Encoder(image_shape, self.encoder_outputs_per_latent * latent_dim, base_filters, name="encoder")
        self.decoder = Decoder(image_shape, base_filters, name="decoder")

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        return self.encoder(images)

    def decode(self, latents: tf.Tensor, training: bool = False) -> tf.Tensor:
        return layers.apply_output_activation(self.decoder(latents), self.output_activation, training)
