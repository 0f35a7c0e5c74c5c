"""Corruptions of images, each a stateless function of the images, a level and a seed; `cae.data.noise` names them.

Images are [batch, height, width, channels] in 0..1, unless unclipped noise came before, levels [batch, 1, 1, 1] and
seeds [2]; results have the shape of the images.
"""

from etils import epy

# TensorFlow takes seconds to import, and `--noise` is parsed before it is needed.
with epy.lazy_imports():
    import tensorflow as tf


def gaussian(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds normal noise of mean 0 and standard deviation `level` to every value.

    The noise of warm electronics, and the usual one of the denoising literature; 0.1 is usual for photographs, 0.4
    (Keras' example) or 0.5 for MNIST.
    """
    return images + level * tf.random.stateless_normal(tf.shape(images), seed)


def awgn(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds normal noise of mean 0 and standard deviation `level` / 255 to every value, without clipping.

    Additive white Gaussian noise as the tables of the denoising literature have it: values may leave 0..1, and levels
    are those of images in 0..255 (Dabov et al. 2007, BM3D); 15, 25 and 50 are usual.
    """
    return gaussian(images, level / 255.0, seed)


def uniform(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds uniform noise from -`level` to `level` to every value: variance level^2 / 3.

    The error of coarse quantization (Widrow 1956), of which `level` is half a step; 0.5 is usual for MNIST.
    """
    return images + level * tf.random.stateless_uniform(tf.shape(images), seed, -1.0, 1.0)


def speckle(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Multiplies every value by a normal deviate of mean 1 and standard deviation `level`: black stays black.

    The noise of radar and ultrasound, in its simplest form (Jain 1989, section 8.13); 0.5 is usual.
    """
    return images * (1.0 + level * tf.random.stateless_normal(tf.shape(images), seed))


def poisson(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Counts photons, of which a white pixel gets 1 / `level` on average: mean x and variance level * x.

    The shot noise of dim light (Hasinoff 2014, "Photon, Poisson noise"); 0.1, 10 photons, is usual for low light.
    """
    # A range of levels may contain 0, no noise; ten million photons are as good as no noise.
    level = tf.maximum(level, 1e-7)
    rates = tf.maximum(images, 0.0) / level  # Noise that is not clipped may have come before.
    counts = tf.random.stateless_poisson(tf.shape(images), seed, tf.cast(rates, tf.float64), tf.float64)
    return tf.cast(counts, tf.float32) * level


def salt_pepper(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Sets a fraction `level` of the pixels to black or white with equal probability, in all channels at once.

    Impulse noise: dead and saturated pixels (Gonzalez and Woods 2018, section 5.2); 0.2 is usual, 0.5 hard.
    """
    values = tf.random.stateless_uniform(tf.shape(images[..., :1]), seed)
    return tf.where(values < level / 2, 0.0, tf.where(values < level, 1.0, images))


def masking(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Sets a fraction `level` of the pixels to black, in all channels at once: mean (1 - level) x.

    The masking noise of the first denoising autoencoders (Vincent et al. 2008); 0.25 to 0.5 are usual.
    """
    return tf.where(tf.random.stateless_uniform(tf.shape(images[..., :1]), seed) < level, 0.0, images)


def occlusion(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Sets a square at a uniformly random place to black; its side is `level` of the image's shorter side, rounded.

    An object in front of the lens (cutout, DeVries and Taylor 2017); 0.3 is usual, 8 of MNIST's 28 pixels.
    """
    shape = tf.shape(images)
    side = tf.round(level * tf.cast(tf.minimum(shape[1], shape[2]), tf.float32))
    offsets = tf.random.stateless_uniform([2, shape[0], 1, 1, 1], seed)

    def is_covered(axis: int) -> "tf.Tensor":
        """Returns which rows (axis 0) or columns (axis 1) the square covers, [batch, height or width, 1, 1]."""
        extent = tf.cast(shape[1 + axis], tf.float32)
        first = tf.floor(offsets[axis] * (extent - side + 1.0))
        positions = tf.range(extent)[None]
        positions = positions[:, :, None, None] if axis == 0 else positions[:, None, :, None]
        return (positions >= first) & (positions < first + side)

    return tf.where(is_covered(0) & is_covered(1), 0.0, images)


def blur(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Blurs with a Gaussian kernel of standard deviation `level`, in pixels; the seed has no effect.

    A lens out of focus (Gonzalez and Woods 2018, section 5.5). Noise that is independent from pixel to pixel keeps 1 /
    (4 pi level^2) of its variance. At the border the kernel is cut off and normalized. 1 is usual for MNIST.
    """

    def kernel(extent: "tf.Tensor") -> "tf.Tensor":
        positions = tf.range(tf.cast(extent, tf.float32))
        distances = (positions[:, None] - positions[None, :])[None] / tf.maximum(level[:, :, :, 0], 1e-3)
        weights = tf.exp(-tf.square(distances) / 2.0)
        return weights / tf.reduce_sum(weights, axis=2, keepdims=True)

    blurred_columns = tf.einsum("bij,bjwc->biwc", kernel(tf.shape(images)[1]), images)
    return tf.einsum("bij,bhjc->bhic", kernel(tf.shape(images)[2]), blurred_columns)


def column_noise(images: "tf.Tensor", level: "tf.Tensor", seed: "tf.Tensor") -> "tf.Tensor":
    """Adds one normal deviate of mean 0 and standard deviation `level` to every column of an image.

    The fixed pattern of sensors that read out by columns, and of line scanners (El Gamal, Fowler, Min and Liu 1998,
    "Modeling and estimation of FPN components in CMOS image sensors"); 0.2 is usual.
    """
    shape = tf.shape(images)
    return images + level * tf.random.stateless_normal([shape[0], 1, shape[2], 1], seed)
