"""The blocks that encoders and decoders are made of, each with its inverse in shape beside it."""

import keras
import tensorflow as tf

# The variance of activations stays the same through layers that are followed by a rectifier (He et al. 2015).
INITIALIZER = "he_normal"


def convolution(filters: int, kernel_size: int = 3, **options) -> keras.layers.Conv2D:
    """Returns a convolution whose output has the input's sides, or half of them for strides of 2."""
    options = {"kernel_initializer": INITIALIZER} | options
    return keras.layers.Conv2D(filters, kernel_size, padding="same", **options)


def transposed_convolution(filters: int, kernel_size: int = 3, **options) -> keras.layers.Conv2DTranspose:
    """Returns a transposed convolution: for strides of 2 its output has twice the input's sides."""
    return keras.layers.Conv2DTranspose(filters, kernel_size, padding="same", kernel_initializer=INITIALIZER, **options)


@keras.saving.register_keras_serializable("cae")
class ResidualBlock(keras.layers.Layer):
    """Adds to features a correction by two convolutions (He et al. 2016): [batch, h, w, filters] in and out.

    starts_as_identity: the correction is 0 before anything is learned (Goyal et al. 2017; Zhang et al. 2019, "Fixup").
    """

    def __init__(self, filters: int, activation: str, starts_as_identity: bool = False, **options):
        super().__init__(**options)
        self.first = convolution(filters, activation=activation)
        self.second = convolution(filters, **({"kernel_initializer": "zeros"} if starts_as_identity else {}))
        # Halved, the corrections of a stack of blocks do not add up to a larger variance at the start.
        self.scale = 1.0 if starts_as_identity else 0.5

    def call(self, features):
        return features + self.scale * self.second(self.first(features))


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


def pad_to_multiple(images: tf.Tensor, multiple: int, mode: str = "CONSTANT") -> tf.Tensor:
    """Adds lines and columns, shared out over both ends, until the sides of images [batch, h, w, c] are multiples.

    They are black, or, by `mode`, those of `tf.pad`. Sides need not be known before the graph runs.
    """
    return tf.pad(images, [[0, 0], *(_margins(side, multiple) for side in sides(images)), [0, 0]], mode)


def crop_from_multiple(images: tf.Tensor, height: int, width: int, multiple: int) -> tf.Tensor:
    """Takes away what `pad_to_multiple` adds to images of that height and width."""
    top, left = (_margins(side, multiple)[0] for side in (height, width))
    return images[:, top : top + height, left : left + width]


def finished(images: tf.Tensor, activation: str, training: bool) -> tf.Tensor:
    """Returns a model's images in 0..1, float32: the sigmoid of logits, or a 'linear' output clipped.

    A linear output may leave that range in training, where a pixel that has left it must feel its error.
    """
    images = tf.cast(images, tf.float32)
    if activation == "sigmoid":
        return tf.sigmoid(images)
    return images if training else tf.clip_by_value(images, 0.0, 1.0)


def sides(images: tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Returns height and width of images [batch, h, w, c]: numbers where they are known, else tensors."""
    known, later = images.shape, tf.shape(images)
    return tuple(later[axis] if known[axis] is None else known[axis] for axis in (1, 2))


def _margins(side: int | tf.Tensor, multiple: int) -> list[int | tf.Tensor]:
    missing = -side % multiple
    return [missing // 2, missing - missing // 2]
