"""A U-Net (Ronneberger et al. 2015): a denoiser with skip connections at every level.

Unlike the original, a space-to-depth stem keeps every layer off the full resolution, blocks are residual, and output
and residuals are zero-initialized, so that no step is spent on undoing the initial weights.
"""

import keras
import tensorflow as tf

from cae.models import layers
from cae.models.base import ImageModel
from cae.models.conv import num_downsamples

ACTIVATION = "leaky_relu"

NUM_BLOCKS = 2
"""Residual blocks of each downsampling stage; the first level has one on either side."""


def filters_at_level(level: int, base_filters: int) -> int:
    """Returns the filters of features that were downsampled `level` times."""
    return base_filters if level == 1 else 3 * base_filters


def residual_block(filters: int) -> layers.ResidualBlock:
    """Returns a residual block that is the identity before training."""
    return layers.ResidualBlock(filters, ACTIVATION, zero_init=True)


@keras.saving.register_keras_serializable("cae")
class UNet(ImageModel):
    """Denoises images [batch, height, width, channels] in 0..1, of any height and width."""

    def __init__(self, image_shape: tuple[int, int, int], base_filters: int = 32, **kwargs):
        """Creates the model, with more levels for larger images."""
        super().__init__(image_shape, base_filters, **kwargs)
        levels = num_downsamples(image_shape)
        self.multiple = 2**levels
        self.stem = [layers.conv2d(base_filters, activation=ACTIVATION), residual_block(base_filters)]
        self.down = [self._down(filters_at_level(level, base_filters)) for level in range(2, levels + 1)]
        self.up = [self._up(filters_at_level(level, base_filters)) for level in range(levels - 1, 0, -1)]
        self.last = [residual_block(base_filters), layers.conv2d(4 * image_shape[2], kernel_initializer="zeros")]

    def _down(self, filters: int) -> list[keras.layers.Layer]:
        blocks = [residual_block(filters) for _ in range(NUM_BLOCKS)]
        return [layers.conv2d(filters, strides=2, activation=ACTIVATION), *blocks]

    def _up(self, filters: int) -> list[keras.layers.Layer]:
        return [layers.conv2d(4 * filters, kernel_size=1), layers.conv2d(filters, activation=ACTIVATION)]

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        padded = layers.pad_to_multiple(images, self.multiple, "SYMMETRIC")
        features = layers.apply_all(self.stem, layers.space_to_depth(padded))
        skips = []
        for stage in self.down:
            skips.append(features)
            features = layers.apply_all(stage, features)
        for (expand, merge), skip in zip(self.up, reversed(skips)):
            features = merge(tf.concat([layers.depth_to_space(expand(features)), skip], axis=-1))
        output = layers.depth_to_space(layers.apply_all(self.last, features))
        cropped = layers.crop_from_multiple(output, *layers.spatial_shape(images), self.multiple)
        return layers.apply_output_activation(cropped, self.output_activation, training)
