"""A convolutional autoencoder: halve the sides, double the channels, squeeze into a vector; and the same way back."""

import math

import keras
import tensorflow as tf

from cae.models.layers import (
    DepthToSpace,
    ResidualBlock,
    SpaceToDepth,
    convolution,
    crop_from_multiple,
    finished,
    pad_to_multiple,
    transposed_convolution,
)

ACTIVATION = "leaky_relu"

LONGEST_SIDE = 8
"""Sides are halved until none is longer: MNIST's 28 pixels twice, to 7."""


def halvings(image_shape: tuple[int, int, int]) -> int:
    """Returns how often the sides of an image [height, width, channels] are halved."""
    count = 1
    while -(-max(image_shape[:2]) // 2**count) > LONGEST_SIDE:
        count += 1
    return count


def channels_at(scale: int, width: int) -> int:
    """Returns the channels of features whose sides were halved `scale` times: `width`, then 4 times that."""
    return width if scale == 1 else 4 * width


@keras.saving.register_keras_serializable("cae")
class Encoder(keras.Model):
    """Images [batch, height, width, channels] to latent vectors, float32 [batch, latent_dim]."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, width: int, **options):
        super().__init__(**options)
        self.multiple = 2 ** halvings(image_shape)
        self.stages = [SpaceToDepth(), convolution(width, activation=ACTIVATION), ResidualBlock(width, ACTIVATION)]
        for scale in range(2, halvings(image_shape) + 1):
            self.stages.append(convolution(channels_at(scale, width), strides=2, activation=ACTIVATION))
        self.stages += [keras.layers.Flatten(), keras.layers.Dense(latent_dim)]

    def call(self, images):
        features = pad_to_multiple(images, self.multiple)
        for stage in self.stages:
            features = stage(features)
        return tf.cast(features, tf.float32)


@keras.saving.register_keras_serializable("cae")
class Decoder(keras.Model):
    """Latent vectors [batch, latent_dim] to images [batch, height, width, channels], in no certain range."""

    def __init__(self, image_shape: tuple[int, int, int], width: int, **options):
        super().__init__(**options)
        self.image_shape = image_shape
        self.multiple = 2 ** halvings(image_shape)
        coarse = (*(-(-side // self.multiple) for side in image_shape[:2]), channels_at(halvings(image_shape), width))
        self.stages = [keras.layers.Dense(math.prod(coarse), activation=ACTIVATION), keras.layers.Reshape(coarse)]
        for scale in range(halvings(image_shape), 1, -1):
            self.stages.append(transposed_convolution(channels_at(scale - 1, width), strides=2, activation=ACTIVATION))
        self.stages += [ResidualBlock(width, ACTIVATION), convolution(4 * image_shape[2]), DepthToSpace()]

    def call(self, latents):
        features = latents
        for stage in self.stages:
            features = stage(features)
        height, width, _ = self.image_shape
        return crop_from_multiple(features, height, width, self.multiple)


@keras.saving.register_keras_serializable("cae")
class ConvAutoencoder(keras.Model):
    """Squeezes images into flat latent vectors, and decodes those into images.

    image_shape: (height, width, channels), any sides; latent_dim: numbers in a latent vector; width: channels of the
    first features; output_activation: 'linear' or 'sigmoid'.
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
        self.encoder = Encoder(image_shape, latent_dim, width, name="encoder")
        self.decoder = Decoder(image_shape, width, name="decoder")
        self.output_activation = output_activation

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the latent vectors [batch, latent_dim] of images [batch, height, width, channels] in 0..1."""
        return self.encoder(images)

    def decode(self, latents: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the images of latent vectors, in 0..1; in training a linear output may leave that range."""
        return finished(self.decoder(latents), self.output_activation, training)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.decode(self.encode(images), training=training)

    def get_config(self):
        return super().get_config() | self.sizes | {"output_activation": self.output_activation}
