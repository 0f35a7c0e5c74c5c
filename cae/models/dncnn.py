"""A residual denoiser: convolutions of one size that find the noise, which is then taken away.

It is DnCNN (Zhang et al. 2017, "Beyond a Gaussian Denoiser") on images folded by 2x2, as its successor FFDNet (2018)
has them, for a quarter of the work; residual blocks stand where it has batch normalisation.
"""

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
    sides,
)

ACTIVATION = "leaky_relu"

BLOCKS = 5
"""Residual blocks: an output pixel depends on 25 pixels each way, as many as matter in an image of MNIST's."""


@keras.saving.register_keras_serializable("cae")
class DnCNN(keras.Model):
    """Takes the noise from images [batch, height, width, channels] in 0..1, of any sides.

    image_shape: (height, width, channels), of which only the channels matter; width: half the channels of features;
    output_activation: 'linear' or 'sigmoid'.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], width: int = 32, output_activation: str = "linear", **options
    ):
        super().__init__(**options)
        self.sizes = {"image_shape": tuple(image_shape), "width": width}
        self.output_activation = output_activation
        self.fold, self.unfold = SpaceToDepth(), DepthToSpace()
        self.first = convolution(2 * width, activation=ACTIVATION)
        self.blocks = [ResidualBlock(2 * width, ACTIVATION, starts_as_identity=True) for _ in range(BLOCKS)]
        # Before anything is learned, no noise is found, and the output is the input.
        self.last = convolution(4 * image_shape[2], kernel_initializer="zeros")

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        features = self.first(self.fold(pad_to_multiple(images, 2, "SYMMETRIC")))
        for block in self.blocks:
            features = block(features)
        noise = crop_from_multiple(self.unfold(self.last(features)), *sides(images), 2)
        # Of a sigmoid, black and white start as 2 and 98 per cent.
        start = 8.0 * images - 4.0 if self.output_activation == "sigmoid" else images
        found = tf.cast(noise, tf.float32)
        return finished(tf.cast(start, tf.float32) - found, self.output_activation, training)

    def get_config(self):
        return super().get_config() | self.sizes | {"output_activation": self.output_activation}
