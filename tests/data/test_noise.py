import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

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


# Of a grey or a striped image, a noise leaves the mean and the variance of its formula; 0..1 is far enough away.
# name, level, value: mean, variance of the values, and over how many independent draws they are taken.
MOMENTS = [
    ("gaussian", 0.1, 0.5, 0.5, 0.1**2, 1),
    ("uniform", 0.3, 0.5, 0.5, 0.3**2 / 3, 1),
    ("speckle", 0.2, 0.4, 0.4, (0.2 * 0.4) ** 2, 1),
    ("poisson", 0.01, 0.4, 0.4, 0.01 * 0.4, 1),
    # Black or white with probability a, each a/2: mean a/2 + (1 - a) x, second moment a/2 + (1 - a) x^2.
    ("salt_pepper", 0.3, 0.2, 0.15 + 0.7 * 0.2, 0.15 + 0.7 * 0.2**2 - (0.15 + 0.7 * 0.2) ** 2, 1),
    ("mask", 0.3, 0.5, 0.7 * 0.5, 0.7 * 0.5**2 - (0.7 * 0.5) ** 2, 1),
    # A quarter of 64 is 16 pixels: the share of 1/16 is black, neither more nor less.
    ("occlusion", 0.25, 0.5, 15 / 16 * 0.5, 15 / 16 * 0.5**2 - (15 / 16 * 0.5) ** 2, 1),
    ("stripes", 0.1, 0.5, 0.5, 0.1**2, 64),
    ("blur", 2.0, 0.5, 0.5, 0.0, 1),
    ("warp", 0.3, 0.5, 0.5, 0.0, 1),
]


@pytest.mark.parametrize("name, level, value, mean, variance, alike", MOMENTS)
def test_mean_and_variance_are_those_of_the_formula(name, level, value, mean, variance, alike):
    noisy = noise.parse(f"{name}:{level}")(grey(value, (64, 64, 64, 1)), SEED).numpy().astype(np.float64)
    draws = noisy.size / alike
    assert noisy.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / draws) + 1e-6)
    assert noisy.var() == pytest.approx(variance, rel=8 / math.sqrt(draws) + 0.005, abs=1e-9)


def test_every_noise_has_its_formula_tested():
    assert {name for name, *_ in MOMENTS} == noise.NOISES.keys()


@pytest.mark.parametrize("name", ["salt_pepper", "mask"])
def test_lost_pixels_are_lost_in_all_channels_and_the_others_stay(name):
    noisy = noise.parse(f"{name}:0.3")(grey(shape=(4, 64, 64, 3)), SEED).numpy()
    lost = 0.15 if name == "salt_pepper" else 0.3
    assert (noisy == 0).mean() == pytest.approx(lost, abs=0.015)
    assert (noisy == 1).mean() == pytest.approx(0.3 - lost, abs=0.015)
    assert ((noisy == 0.5) | (noisy == 0) | (noisy == 1)).all()
    assert (noisy == noisy[..., :1]).all()


def test_poisson_counts_whole_photons():
    noisy = noise.parse("poisson:0.1")(grey(0.4), SEED).numpy()
    np.testing.assert_allclose(noisy * 10, (noisy * 10).round(), atol=1e-5)
    # The probability of none at all, of 4 on average, is e^-4.
    assert (noisy == 0).mean() == pytest.approx(math.exp(-4), abs=0.004)


def test_multiplied_and_counted_noise_leave_black_alone():
    for name in ("speckle", "poisson"):
        assert not noise.parse(f"{name}:0.5")(grey(0.0), SEED).numpy().any()


def test_occlusion_is_one_whole_square_anywhere():
    noisy = noise.parse("occlusion:0.3")(grey(shape=(300, 28, 20, 1)), SEED).numpy()[..., 0]
    firsts = set()
    for image in noisy:
        rows, columns = np.nonzero(image == 0)
        # 0.3 of 20 pixels are 6.
        assert len(rows) == 36 and np.ptp(rows) == 5 and np.ptp(columns) == 5
        firsts.add((rows.min(), columns.min()))
    assert {row for row, _ in firsts} == set(range(23)) and {column for _, column in firsts} == set(range(15))


def test_blur_is_that_of_scipy_away_from_the_border(random):
    images = random.random((2, 48, 40, 3)).astype(np.float32)
    blurred = noise.parse("blur:1.5")(tf.constant(images), SEED).numpy()
    expected = ndimage.gaussian_filter(images, (0, 1.5, 1.5, 0), truncate=8)
    np.testing.assert_allclose(blurred[:, 12:-12, 12:-12], expected[:, 12:-12, 12:-12], atol=1e-5)


def test_blur_keeps_the_share_of_independent_noise_that_it_says(random):
    images = random.random((8, 64, 64, 1)).astype(np.float32)
    inside = noise.parse("blur:2")(tf.constant(images), SEED).numpy()[:, 10:-10, 10:-10]
    assert inside.var() == pytest.approx(images.var() / (4 * math.pi * 2**2), rel=0.1)


def test_stripes_run_down_the_columns_through_all_channels():
    noisy = noise.parse("stripes:0.1")(grey(shape=(4, 32, 32, 3)), SEED).numpy()
    assert (noisy == noisy[:, :1, :, :1]).all()
    assert noisy[:, 0, :, 0].std() > 0.05


def test_warp_moves_a_point_as_far_as_it_says():
    # At the centre of an odd side a point is only shifted: 0.3 * 0.1 of 65 pixels, against the draw.
    images = np.zeros((400, 65, 65, 1), np.float32)
    images[:, 31:34, 31:34] = 1
    warped = noise.parse("warp:0.1")(images, SEED).numpy()[..., 0]
    centres = np.array([ndimage.center_of_mass(image) for image in warped]) - 32
    assert centres.mean(axis=0) == pytest.approx([0, 0], abs=5 * 1.95 / 20)
    assert centres.std(axis=0) == pytest.approx([1.95, 1.95], rel=0.2)


def test_warp_stretches_and_shears_about_the_centre():
    images = np.zeros((400, 65, 65, 1), np.float32)
    images[:, 16:49, 16:49] = 1
    areas = noise.parse("warp:0.1")(images, SEED).numpy().sum(axis=(1, 2, 3)) / 33**2
    # The determinant of the map is (1 + a)(1 + b) - cd: a, b of deviation 0.05, c and d of 0.1.
    assert areas.std() == pytest.approx(np.sqrt(2) * 0.05, rel=0.2)
    assert areas.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", noise.NOISES)
def test_every_noise_is_stateless_in_range_and_works_in_a_pipeline(name):
    corrupt = noise.parse(f"{name}:0.5")
    images = tf.random.stateless_uniform([3, 16, 16, 3], SEED)
    noisy = corrupt(images, SEED).numpy()
    np.testing.assert_array_equal(noisy, corrupt(images, SEED))
    # A blur of a given strength has nothing to draw; its strength is drawn, where it is a range.
    fresh = corrupt if name != "blur" else noise.parse("blur:0.5-2")
    assert not np.array_equal(fresh(images, SEED), fresh(images, SEED + 1))
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


def test_either_noise_is_drawn_for_each_image():
    images = grey(shape=(400, 16, 16, 1))
    noisy = noise.parse("mask:0.5/gaussian:0.05+salt_pepper:0.5/gaussian:0.05")(images, SEED).numpy()
    black, white = ((noisy == value).any(axis=(1, 2, 3)) for value in (0, 1))
    shares = (black & ~white).mean(), white.mean(), (~black & ~white).mean()
    assert sum(shares) == 1 and all(share == pytest.approx(1 / 3, abs=0.1) for share in shares)


def test_alternatives_of_the_same_noise_are_not_alike():
    one, other = (noise.parse(f"gaussian:0.1/{name}:0.1")(grey(), SEED).numpy() for name in ("gaussian", "mask"))
    same = (one == other).all(axis=(1, 2, 3))
    assert same.any() and not same.all()


def test_a_range_that_starts_at_no_noise_is_noise_for_every_name():
    for name in noise.NOISES:
        assert np.isfinite(noise.parse(f"{name}:0-0.5")(grey(), SEED)).all()


@pytest.mark.parametrize(
    "trained, tried, covered",
    [
        ("gaussian:0.5", "gaussian:0.5", True),
        ("gaussian:0.5", "gaussian:0.4", False),
        ("gaussian:0.1-0.8", "gaussian:0.4", True),
        ("gaussian:0.1-0.8", "gaussian:0.1-0.9", False),
        ("gaussian:0.1-0.8/salt_pepper:0.1-0.6", "salt_pepper:0.5", True),
        ("gaussian:0.1-0.8/salt_pepper:0.1-0.6", "mask:0.5", False),
        ("gaussian:0.1-0.8/salt_pepper:0.1-0.6", "gaussian:0.3+salt_pepper:0.2", False),
        ("gaussian:0.3+salt_pepper:0.2", "gaussian:0.3+salt_pepper:0.2", True),
        ("gaussian:0.3+salt_pepper:0.2", "salt_pepper:0.2+gaussian:0.3", False),
        ("gaussian:0.3", "gaussian:0.3/mask:0.5", False),
    ],
)
def test_what_was_seen_in_training_is_covered(trained, tried, covered):
    assert noise.parse(trained).covers(noise.parse(tried)) is covered


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
        ("gaussian:0.5/", "unknown --noise ''"),
    ],
)
def test_what_is_no_noise_is_refused(text, told):
    with pytest.raises(UserError, match=told):
        noise.parse(text)
