"""The blocks of encoders and decoders, each beside its inverse."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

# He initialization keeps the variance of activations through layers that are followed by a rectifier (He et al. 2015).
conv2d = functools.partial(keras.layers.Conv2D, kernel_size=3, padding="same", kernel_initializer="he_normal")
conv2d_transpose = functools.partial(
    keras.layers.Conv2DTranspose, kernel_size=3, padding="same", kernel_initializer="he_normal"
)

space_to_depth = functools.partial(tf.nn.space_to_depth, block_size=2)
"""Moves each 2x2 patch into channels: [batch, 2h, 2w, c] to [batch, h, w, 4c]."""

depth_to_space = functools.partial(tf.nn.depth_to_space, block_size=2)
"""Moves channels into 2x2 patches: [batch, h, w, 4c] to [batch, 2h, 2w, c]; the inverse of `space_to_depth`."""


@keras.saving.register_keras_serializable("cae")
class ResidualBlock(keras.layers.Layer):
    """Adds a residual of two convolutions (He et al. 2016): [batch, height, width, filters] in and out."""

    def __init__(self, filters: int, activation: str, zero_init: bool = False, **kwargs):
        """Creates the block.

        Args:
          filters: Filters of both convolutions.
          activation: The activation between them.
          zero_init: The block is the identity before training (Goyal et al. 2017; Zhang et al. 2019, "Fixup").
          **kwargs: Arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.first = conv2d(filters, activation=activation)
        self.second = conv2d(filters, **({"kernel_initializer": "zeros"} if zero_init else {}))
        # Halved, the residuals of a stack of blocks do not add up to a larger variance at initialization.
        self.scale = 1.0 if zero_init else 0.5

    def call(self, features):
        return features + self.scale * self.second(self.first(features))


def apply_all(layers: Sequence[Callable[[tf.Tensor], tf.Tensor]], features: tf.Tensor) -> tf.Tensor:
    """Applies layers, or functions, one after the other.

    Models keep them in lists, since `keras.Sequential` would change the order of variables in checkpoints.
    """
    for layer in layers:
        features = layer(features)
    return features


def pad_to_multiple(images: tf.Tensor, multiple: int, mode: str = "CONSTANT") -> tf.Tensor:
    """Pads images [batch, height, width, channels] at all sides until height and width are multiples.

    Args:
      images: Height and width may be unknown until the graph runs.
      multiple: What height and width become multiples of.
      mode: CONSTANT pads with black, SYMMETRIC with reflections, as often as a small image needs.
    """
    sizes = spatial_shape(images)
    paddings = [_padding(size, multiple) for size in sizes]
    # `tf.pad` reflects an image once, and cannot be told before the graph runs whether that suffices.
    if mode == "CONSTANT" or all(isinstance(size, int) and pad[1] <= size for size, pad in zip(sizes, paddings)):
        return tf.pad(images, [[0, 0], *paddings, [0, 0]], mode)
    for axis, size, padding in zip((1, 2), sizes, paddings):
        images = tf.gather(images, _reflected_indices(size, padding, multiple), axis=axis)
    return images


def crop_from_multiple(images: tf.Tensor, height: int, width: int, multiple: int) -> tf.Tensor:
    """Undoes `pad_to_multiple` for images that had this height and width."""
    top, left = (_padding(size, multiple)[0] for size in (height, width))
    return images[:, top : top + height, left : left + width]


def apply_output_activation(images: tf.Tensor, activation: str, training: bool) -> tf.Tensor:
    """Returns a model's output in 0..1, float32: the sigmoid of logits, or a 'linear' output clipped.

    In training a linear output is not clipped, or pixels outside of the range would get no gradient.
    """
    images = tf.cast(images, tf.float32)
    if activation == "sigmoid":
        return tf.sigmoid(images)
    return images if training else tf.clip_by_value(images, 0.0, 1.0)


def spatial_shape(images: tf.Tensor) -> tuple[int | tf.Tensor, int | tf.Tensor]:
    """Returns height and width of images [batch, height, width, channels]: integers where known, else tensors."""
    static, dynamic = images.shape, tf.shape(images)
    return tuple(dynamic[axis] if static[axis] is None else static[axis] for axis in (1, 2))


def _padding(size: int | tf.Tensor, multiple: int) -> list[int | tf.Tensor]:
    missing = (multiple - size % multiple) % multiple  # ONNX has another remainder of negative numbers.
    return [missing // 2, missing - missing // 2]


def _reflected_indices(size: int | tf.Tensor, padding: list[int | tf.Tensor], multiple: int) -> tf.Tensor:
    """Returns the index of each pixel of a padded side: 1 0 | 0 1 2 | 2 1 for two pixels on both sides of three."""
    position = tf.range(padding[0] + size + padding[1]) - padding[0]
    position = (position + 2 * size * multiple) % (2 * size)
    return tf.minimum(position, 2 * size - 1 - position)
