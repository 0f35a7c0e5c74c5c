"""A residual denoiser: convolutions at one resolution estimate the noise, which is subtracted.

It is DnCNN (Zhang et al. 2017, "Beyond a Gaussian Denoiser") after space-to-depth, as in FFDNet (Zhang et al. 2018),
for a quarter of the FLOPs; residual blocks take the place of batch normalization.
"""

import keras
import tensorflow as tf

from cae.models import layers
from cae.models.base import ImageModel

ACTIVATION = "leaky_relu"

NUM_BLOCKS = 5
"""Residual blocks: their receptive field reaches 25 pixels in each direction, about the size of an MNIST image."""


@keras.saving.register_keras_serializable("cae")
class DnCNN(ImageModel):
    """Denoises images [batch, height, width, channels] in 0..1, of any height and width."""

    def __init__(self, image_shape: tuple[int, int, int], base_filters: int = 32, **kwargs):
        """Creates the model; its layers have twice `base_filters`, and of the shape only the channels matter."""
        # Images keep their precision, from which the noise is subtracted; layers cast their inputs themselves.
        super().__init__(image_shape, base_filters, autocast=False, **kwargs)
        self.multiple = 2
        self.first = layers.conv2d(2 * base_filters, activation=ACTIVATION)
        self.blocks = [layers.ResidualBlock(2 * base_filters, ACTIVATION, zero_init=True) for _ in range(NUM_BLOCKS)]
        # Before training the estimated noise is 0, and the output is the input.
        self.last = layers.conv2d(4 * image_shape[2], kernel_initializer="zeros")

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        features = self.first(layers.space_to_depth(layers.pad_to_multiple(images, self.multiple, "SYMMETRIC")))
        noise = layers.depth_to_space(self.last(layers.apply_all(self.blocks, features)))
        noise = tf.cast(layers.crop_from_multiple(noise, *layers.spatial_shape(images), self.multiple), tf.float32)
        # Logits of black and white are -4 and 4, whose sigmoids are 0.02 and 0.98.
        images = 8.0 * images - 4.0 if self.output_activation == "sigmoid" else images
        return layers.apply_output_activation(tf.cast(images, tf.float32) - noise, self.output_activation, training)
