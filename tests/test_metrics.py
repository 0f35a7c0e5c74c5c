import math

import numpy as np
import pytest
import tensorflow as tf

from cae import metrics
from cae.errors import UserError


def images(*values):
    """Constant images, one for each value."""
    return np.stack([np.full((16, 16, 1), value, np.float32) for value in values])


def test_values_worked_out_by_hand():
    target, output = images(0.0, 1.0, 0.5), images(0.5, 1.0, 0.25)
    np.testing.assert_allclose(metrics.squared_error(target, output), [0.25, 0, 0.0625])
    np.testing.assert_allclose(metrics.psnr(target, output), [6.0206, 100, 12.0412], atol=1e-4)
    np.testing.assert_allclose(metrics.negative_psnr(target, output), [-6.0206, -100, -12.0412], atol=1e-4)
    # -ln(1 - 0.5), about 0, and -(ln(0.25) + ln(0.75)) / 2.
    expected = [math.log(2), 0, -(math.log(0.25) + math.log(0.75)) / 2]
    np.testing.assert_allclose(metrics.binary_crossentropy(target, output), expected, atol=1e-6)


def test_psnr_loss_weighs_relative_errors_equally():
    target, output = tf.constant(images(0.5, 0.5)), tf.Variable(images(0.6, 0.9))
    with tf.GradientTape() as tape:
        losses = metrics.negative_psnr(target, output)
    gradient = tape.gradient(losses, output).numpy()[:, 0, 0, 0] * 16 * 16
    # d/de of 10 log10(e^2), 20 / ln(10) / e: the same for the same relative change.
    np.testing.assert_allclose(gradient, 20 / math.log(10) / np.array([0.1, 0.4]), rtol=1e-4)


def test_binary_crossentropy_agrees_with_keras(random):
    target, output = random.random((2, 4, 12, 12, 3), np.float32)
    expected = tf.reduce_mean(tf.keras.losses.binary_crossentropy(target, output), axis=[1, 2])
    np.testing.assert_allclose(metrics.binary_crossentropy(target, output), expected, rtol=1e-5)


def test_binary_crossentropy_is_finite_for_certain_but_wrong_outputs():
    assert np.isfinite(metrics.binary_crossentropy(images(0.0, 1.0), images(1.0, 0.0))).all()


def test_ssim_is_one_for_identical_images_and_agrees_with_tensorflow(random):
    target, output = random.random((2, 4, 28, 28, 1), np.float32)
    np.testing.assert_allclose(metrics.ssim(target, target), 1, atol=1e-6)
    np.testing.assert_allclose(metrics.ssim(target, output), tf.image.ssim(target, output, 1.0), rtol=1e-6)


@pytest.mark.parametrize("name", [*metrics.LOSSES, *metrics.METRICS])
def test_each_image_has_its_own_value(name, random):
    metric = (metrics.LOSSES | metrics.METRICS)[name]
    target, output = random.random((2, 3, 16, 16, 2), np.float32)
    batch = metric(target, output)
    assert batch.shape == (3,) and batch.dtype == tf.float32
    single = [float(metric(target[i : i + 1], output[i : i + 1])[0]) for i in range(3)]
    np.testing.assert_allclose(batch, single, rtol=1e-5)


def test_unknown_loss_is_answered_with_the_available_ones():
    with pytest.raises(UserError, match=r"unknown --loss 'mes'.*did you mean 'mse'.*binary_crossentropy"):
        metrics.get_loss("mes")
