import math

import numpy as np
import pytest
import tensorflow as tf

from cae.data import noise
from cae.errors import UserError

SEED = tf.constant([3, 7], tf.int64)


def grey(value=0.5, shape=(4, 64, 64, 1)):
    return tf.fill(shape, np.float32(value))


def test_gaussian_has_the_mean_and_the_deviation_that_it_says():
    # 5 deviations of room on each side: clipping to 0..1 changes nothing.
    noisy = noise.parse("gaussian:0.1")(grey(), SEED).numpy()
    assert noisy.mean() == pytest.approx(0.5, abs=4 * 0.1 / math.sqrt(noisy.size))
    assert noisy.std() == pytest.approx(0.1, rel=0.02)


def test_gaussian_on_black_is_half_normal():
    # Clipped at 0, half of the pixels stay black, and the mean is sigma / sqrt(2 pi).
    noisy = noise.parse("gaussian:0.2")(grey(0.0), SEED).numpy()
    assert (noisy == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert noisy.mean() == pytest.approx(0.2 / math.sqrt(2 * math.pi), rel=0.03)


def test_salt_pepper_hits_its_share_of_pixels_in_all_channels():
    noisy = noise.parse("salt_pepper:0.3")(grey(shape=(4, 64, 64, 3)), SEED).numpy()
    assert (noisy == 0).mean() == pytest.approx(0.15, abs=0.015)
    assert (noisy == 1).mean() == pytest.approx(0.15, abs=0.015)
    assert ((noisy == 0.5) | (noisy == 0) | (noisy == 1)).all()
    assert (noisy[..., 0] == noisy[..., 1]).all()


@pytest.mark.parametrize("name", noise.NOISES)
def test_every_noise_is_stateless_in_range_and_works_in_a_pipeline(name):
    corrupt = noise.parse(f"{name}:0.5")
    images = tf.random.stateless_uniform([3, 16, 16, 3], SEED)
    noisy = corrupt(images, SEED).numpy()
    np.testing.assert_array_equal(noisy, corrupt(images, SEED))
    assert not np.array_equal(noisy, corrupt(images, SEED + 1))
    assert noisy.shape == images.shape and noisy.min() >= 0 and noisy.max() <= 1
    dataset = tf.data.Dataset.from_tensors(images).map(lambda batch: corrupt(batch, SEED))
    np.testing.assert_allclose(next(iter(dataset)), noisy, atol=1e-6)


def test_a_range_draws_a_level_for_each_image():
    noisy = noise.parse("gaussian:0.01-0.1")(grey(shape=(200, 32, 32, 1)), SEED).numpy()
    deviations = noisy.std(axis=(1, 2, 3))
    assert 0.009 < deviations.min() < 0.02 and 0.09 < deviations.max() < 0.11
    assert deviations.mean() == pytest.approx(0.055, abs=0.006)


def test_joined_noises_come_one_after_the_other_with_noise_of_their_own():
    both = noise.parse("gaussian:0.1+salt_pepper:0.2")(grey(), SEED).numpy()
    # Salt and pepper came last, so that its pixels are purely black and white.
    assert ((both == 0) | (both == 1)).mean() == pytest.approx(0.2, abs=0.02)
    twice = noise.parse("gaussian:0.1+gaussian:0.1")(grey(), SEED).numpy()
    assert twice.std() == pytest.approx(0.1 * math.sqrt(2), rel=0.03)


def test_no_noise_is_nothing():
    assert noise.parse(None) is None


@pytest.mark.parametrize(
    "text, told",
    [
        ("gausian:0.5", "unknown --noise 'gausian'.*did you mean 'gaussian'.*salt_pepper"),
        ("gaussian", "give 'gaussian' a level, such as gaussian:0.5"),
        ("gaussian:loud", "give 'gaussian' a level"),
        ("gaussian:0", "lie above 0"),
        ("gaussian:-1", "give 'gaussian' a level"),
        ("gaussian:0.8-0.1", "the lower one first"),
        ("salt_pepper:1.5", "up to 1"),
        ("gaussian:0.5+", "unknown --noise ''"),
    ],
)
def test_what_is_no_noise_is_refused(text, told):
    with pytest.raises(UserError, match=told):
        noise.parse(text)
