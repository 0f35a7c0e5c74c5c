"""Per-image errors and qualities: each takes a target and an output, [batch, height, width, channels] in 0..1.

Each returns [batch] float32 and leaves the reduction to its caller, so that one function serves as training loss, as
metric and as outlier score.
"""

from collections.abc import Callable

from etils import epy

from cae.errors import unknown_name

# TensorFlow takes seconds to import; names are looked up before it is needed.
with epy.lazy_imports():
    import tensorflow as tf

PerImage = Callable[["tf.Tensor", "tf.Tensor"], "tf.Tensor"]

SMALLEST_SIDE = 11
"""SSIM compares windows of 11x11 pixels, so no image may be smaller."""


def squared_error(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the mean squared error over an image's pixels: [batch], 0 or more."""
    return _mean_over_pixels(tf.math.squared_difference(target, output))


def cross_entropy(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the mean binary cross-entropy over an image's pixels, in nats: [batch], 0 or more.

    A grey pixel counts as a probability, so the least possible value is the target's own entropy, not 0. Outputs are
    kept 1e-7 away from 0 and 1, as Keras does.
    """
    output = tf.clip_by_value(output, 1e-7, 1 - 1e-7)
    return -_mean_over_pixels(target * tf.math.log(output) + (1 - target) * tf.math.log1p(-output))


def psnr(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the peak signal-to-noise ratio, 10 log10(1 / image MSE), in dB: [batch], at most 100."""
    # 100 dB stands for identical images: infinity would spoil every mean.
    error = tf.maximum(squared_error(target, output), 1e-10)
    return -10.0 * tf.math.log(error) / tf.math.log(10.0)


def negative_psnr(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns minus the PSNR, in dB: [batch], -100 or more.

    As a loss it counts a change by its share of the image's error, so that lightly and heavily noisy images weigh the
    same; by the squared error the latter drown the former.
    """
    return -psnr(target, output)


def ssim(target: "tf.Tensor", output: "tf.Tensor") -> "tf.Tensor":
    """Returns the structural similarity (Wang et al. 2004) as `tf.image.ssim` has it: [batch], at most 1.

    Sides must be at least `SMALLEST_SIDE` pixels.
    """
    return tf.image.ssim(target, output, max_val=1.0)


def _mean_over_pixels(values: "tf.Tensor") -> "tf.Tensor":
    return tf.reduce_mean(tf.cast(values, tf.float32), axis=[1, 2, 3])


LOSSES: dict[str, PerImage] = {"mse": squared_error, "cross_entropy": cross_entropy, "psnr": negative_psnr}
"""What `--loss` can name."""

QUALITIES: dict[str, PerImage] = {"mse": squared_error, "psnr": psnr, "ssim": ssim}
"""What every evaluation reports."""


def find_loss(name: str) -> PerImage:
    """Returns the loss of that name; raises `UserError` for an unknown one."""
    if name not in LOSSES:
        raise unknown_name("--loss", name, LOSSES)
    return LOSSES[name]
