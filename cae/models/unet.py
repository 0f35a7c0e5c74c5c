"""A U-Net (Ronneberger et al. 2015): halve the sides, and on the way back take along what was there before.

What differs from it: images are folded by 2x2 first, so that no layer works on all pixels; blocks are residual; output
and corrections start at 0, so that no step goes into taking back what the initial weights made up.
"""

import keras
import tensorflow as tf

from cae.models.conv import halvings
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

BLOCKS = 2
"""Residual blocks on the way down at each scale but the first, which has one on either way."""


def channels_at(scale: int, width: int) -> int:
    """Returns the channels of features whose sides were halved `scale` times: `width`, then 3 times that."""
    return width if scale == 1 else 3 * width


def block(filters: int) -> ResidualBlock:
    """Returns a residual block that changes nothing at first."""
    return ResidualBlock(filters, ACTIVATION, starts_as_identity=True)


@keras.saving.register_keras_serializable("cae")
class UNet(keras.Model):
    """Takes the noise from images [batch, height, width, channels] in 0..1, of any sides.

    image_shape: (height, width, channels), which says how many scales there are; width: channels of the first
    features; output_activation: 'linear' or 'sigmoid'.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], width: int = 32, output_activation: str = "linear", **options
    ):
        super().__init__(**options)
        self.sizes = {"image_shape": tuple(image_shape), "width": width}
        self.output_activation = output_activation
        self.scales = halvings(image_shape)
        self.fold, self.unfold = SpaceToDepth(), DepthToSpace()
        self.stem = [convolution(width, activation=ACTIVATION), block(width)]
        self.down = [self._down(channels_at(scale, width)) for scale in range(2, self.scales + 1)]
        self.up = [self._up(channels_at(scale - 1, width)) for scale in range(self.scales, 1, -1)]
        self.last = [block(width), convolution(4 * image_shape[2], kernel_initializer="zeros")]

    def _down(self, filters: int) -> list[keras.layers.Layer]:
        return [convolution(filters, strides=2, activation=ACTIVATION), *(block(filters) for _ in range(BLOCKS))]

    def _up(self, filters: int) -> list[keras.layers.Layer]:
        return [convolution(4 * filters, 1), convolution(filters, activation=ACTIVATION)]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        features = through(self.stem, self.fold(pad_to_multiple(images, 2**self.scales, "SYMMETRIC")))
        passed = []
        for stage in self.down:
            passed.append(features)
            features = through(stage, features)
        for (widen, merge), beside in zip(self.up, reversed(passed)):
            features = merge(tf.concat([self.unfold(widen(features)), beside], axis=-1))
        output = self.unfold(through(self.last, features))
        cropped = crop_from_multiple(output, *sides(images), 2**self.scales)
        return finished(cropped, self.output_activation, training)

    def get_config(self):
        return super().get_config() | self.sizes | {"output_activation": self.output_activation}


def through(layers: list[keras.layers.Layer], features: tf.Tensor) -> tf.Tensor:
    """Returns what layers, one after the other, make of features."""
    for layer in layers:
        features = layer(features)
    return features
