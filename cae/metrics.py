"""Per-image losses and metrics of a target and an output, both [batch, height, width, channels] in 0..1.

Each returns float32 [batch] and leaves the reduction to its caller, so that one function serves as training loss, as
metric and as anomaly score.
"""

from collections.abc import Callable

from etils import epy

from cae.errors import unknown_choice_error

# TensorFlow takes seconds to import, and flags are checked before.
with epy.lazy_imports():
    import tensorflow as tf

PerImageLoss = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]

MIN_IMAGE_SIZE = 11
"""Smallest height and width, in pixels: SSIM compares windows of 11x11."""


def squared_error(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the mean squared error over an image's pixels: [batch], 0 or more."""
    return _mean_over_pixels(tf.math.squared_difference(target, output))


def binary_crossentropy(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the mean binary cross-entropy over an image's pixels, in nats: [batch], 0 or more.

    A gray pixel counts as a probability, so the smallest possible value is the target's own entropy, not 0. Outputs are
    clipped to 1e-7..1 - 1e-7, as Keras does.
    """
    output = tf.clip_by_value(output, 1e-7, 1 - 1e-7)
    return -_mean_over_pixels(target * tf.math.log(output) + (1 - target) * tf.math.log1p(-output))


def psnr(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the peak signal-to-noise ratio, 10 log10(1 / image MSE), in dB: [batch], at most 100."""
    # Identical images have 100 dB: infinity would make every mean infinite.
    mse = tf.maximum(squared_error(target, output), 1e-10)
    return -10.0 * tf.math.log(mse) / tf.math.log(10.0)


def negative_psnr(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns minus the PSNR, in dB: [batch], -100 or more.

    As a loss it weighs a change relative to the image's error, so that lightly and heavily corrupted images count the
    same; by the squared error the latter dominate.
    """
    return -psnr(target, output)


def ssim(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the structural similarity (Wang et al. 2004) of `tf.image.ssim`: [batch], at most 1.

    Height and width must be at least `MIN_IMAGE_SIZE`.
    """
    return tf.image.ssim(target, output, max_val=1.0)


def _mean_over_pixels(values: "tf.Tensor") -> "tf.Tensor":
    return tf.reduce_mean(tf.cast(values, tf.float32), axis=[1, 2, 3])


LOSSES: dict[str, PerImageLoss] = {
    "mse": squared_error,
    "binary_crossentropy": binary_crossentropy,
    "neg_psnr": negative_psnr,
}
"""The values of --loss."""

METRICS: dict[str, PerImageLoss] = {"mse": squared_error, "psnr": psnr, "ssim": ssim}
"""What every evaluation reports."""


def get_loss(name: str) -> PerImageLoss:
    """Returns the loss of that name; raises `UserError` for an unknown one."""
    if name not in LOSSES:
        raise unknown_choice_error("--loss", name, LOSSES)
    return LOSSES[name]
