"""Distortions that preserve the class of an image: affine maps, mirroring, cropping, other colors.

Each is a stateless function of images [batch, height, width, channels] in 0..1, levels [batch, 1, 1, 1] and a seed [2],
as those of `corruptions.py` are. Which of them preserve the class depends on the data: a mirrored 2 is no digit.
"""

from etils import epy

# TensorFlow takes seconds to import, and `--noise` is parsed before it is needed.
with epy.lazy_imports():
    import tensorflow as tf


def affine(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Applies a random affine map about the image's center; pixels beyond the border repeat the border.

    Shears are normal deviates of standard deviation `level`, scalings of half that, shifts of 0.3 `level` of a side:
    the usual distortions of digits (LeCun et al. 1998); 0.2 is usual.
    """
    shape = tf.shape(images)
    sides = tf.cast(shape[1:3], tf.float32)
    deviates = level[:, :, 0, 0] * tf.random.stateless_normal([shape[0], 6], seed)
    xx, xy, yx, yy = 1.0 + 0.5 * deviates[:, 0], deviates[:, 1], deviates[:, 2], 1.0 + 0.5 * deviates[:, 3]
    shifts = 0.3 * deviates[:, 4:] * sides[::-1]
    x, y = (sides[1] - 1) / 2, (sides[0] - 1) / 2
    # Output pixel (i, j) is read at (xx i + xy j + ..., yx i + yy j + ...), which keeps the center but for the shift.
    columns = [xx, xy, x - xx * x - xy * y + shifts[:, 0], yx, yy, y - yx * x - yy * y + shifts[:, 1], 0 * xx, 0 * xx]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(columns, axis=1),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="NEAREST",
    )


def flip(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Mirrors an image left to right with probability `level`; 0.5 is usual."""
    mirrored = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < level
    return tf.where(mirrored, tf.reverse(images, axis=[2]), images)


def crop(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Enlarges a random part of the image, whose sides are 1 - `level` to 1 of the image's, to its whole size.

    The random resized crop of Szegedy et al. 2015, of the image's aspect ratio; 0.5 is usual.
    """
    shape = tf.shape(images)
    deviates = tf.random.stateless_uniform([3, shape[0]], seed)
    side = 1.0 - level[:, 0, 0, 0] * deviates[0]
    top, left = (1.0 - side) * deviates[1], (1.0 - side) * deviates[2]
    boxes = tf.stack([top, left, top + side, left + side], axis=1)
    return tf.image.crop_and_resize(images, boxes, tf.range(shape[0]), shape[1:3])


def color_jitter(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Multiplies brightness, contrast and saturation by factors from 1 - `level` to 1 + `level`, in this order.

    As torchvision's ColorJitter without hue; saturation is that of the mean over channels; 0.4 is usual.
    """
    deviates = tf.random.stateless_uniform([3, tf.shape(images)[0], 1, 1, 1], seed, -1.0, 1.0)
    brightness, contrast, saturation = tf.unstack(1.0 + level * deviates)
    images = tf.clip_by_value(images * brightness, 0.0, 1.0)
    mean = tf.reduce_mean(images, axis=[1, 2, 3], keepdims=True)
    images = tf.clip_by_value(mean + (images - mean) * contrast, 0.0, 1.0)
    gray = tf.reduce_mean(images, axis=3, keepdims=True)
    return gray + (images - gray) * saturation
