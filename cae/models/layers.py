"""The blocks that encoders and decoders are made of, each with its inverse in shape beside it."""

import keras
import tensorflow as tf

# The variance of activations stays the same through layers that are followed by a rectifier (He et al. 2015).
INITIALIZER = "he_normal"


def convolution(filters: int, kernel_size: int = 3, **options) -> keras.layers.Conv2D:
    """Returns a convolution whose output has the input's sides, or half of them for strides of 2."""
    return keras.layers.Conv2D(filters, kernel_size, padding="same", kernel_initializer=INITIALIZER, **options)


def transposed_convolution(filters: int, kernel_size: int = 3, **options) -> keras.layers.Conv2DTranspose:
    """Returns a transposed convolution: for strides of 2 its output has twice the input's sides."""
    return keras.layers.Conv2DTranspose(filters, kernel_size, padding="same", kernel_initializer=INITIALIZER, **options)


@keras.saving.register_keras_serializable("cae")
class ResidualBlock(keras.layers.Layer):
    """Adds to features a correction by two convolutions (He et al. 2016): [batch, h, w, filters] in and out."""

    def __init__(self, filters: int, activation: str, **options):
        super().__init__(**options)
        self.first = convolution(filters, activation=activation)
        self.second = convolution(filters)

    def call(self, features):
        # Halved, the corrections of a stack of blocks do not add up to a larger variance at the start.
        return features + 0.5 * self.second(self.first(features))


@keras.saving.register_keras_serializable("cae")
class SpaceToDepth(keras.layers.Layer):
    """Folds each 2x2 patch into channels: [batch, 2h, 2w, c] to [batch, h, w, 4c]."""

    def call(self, features):
        return tf.nn.space_to_depth(features, 2)


@keras.saving.register_keras_serializable("cae")
class DepthToSpace(keras.layers.Layer):
    """Unfolds channels into 2x2 patches: [batch, h, w, 4c] to [batch, 2h, 2w, c]; the inverse of `SpaceToDepth`."""

    def call(self, features):
        return tf.nn.depth_to_space(features, 2)


def pad_to_multiple(images: tf.Tensor, multiple: int) -> tf.Tensor:
    """Adds black lines and columns, shared out over both ends, until the sides [batch, h, w, c] are multiples."""
    return tf.pad(images, [[0, 0], *(_margins(side, multiple) for side in images.shape[1:3]), [0, 0]])


def crop_from_multiple(images: tf.Tensor, height: int, width: int, multiple: int) -> tf.Tensor:
    """Takes away what `pad_to_multiple` adds to images of that height and width."""
    top, left = (_margins(side, multiple)[0] for side in (height, width))
    return images[:, top : top + height, left : left + width]


def _margins(side: int, multiple: int) -> list[int]:
    missing = -side % multiple
    return [missing // 2, missing - missing // 2]
