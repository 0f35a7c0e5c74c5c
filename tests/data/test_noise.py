import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from cae.data import noise
from cae.errors import UserError

SEED = tf.constant([3, 7], tf.int64)


def gray(value=0.5, shape=(4, 64, 64, 1)):
    return tf.fill(shape, np.float32(value))


def test_gaussian_has_zero_mean_and_the_given_standard_deviation():
    # 0 and 1 are 5 standard deviations away: clipping changes nothing.
    noisy = noise.parse_noise("gaussian:0.1")(gray(), SEED).numpy()
    assert noisy.mean() == pytest.approx(0.5, abs=4 * 0.1 / math.sqrt(noisy.size))
    assert noisy.std() == pytest.approx(0.1, rel=0.02)


def test_gaussian_on_black_is_half_normal():
    # Clipped at 0, half of the pixels stay black, and the mean is sigma / sqrt(2 pi).
    noisy = noise.parse_noise("gaussian:0.2")(gray(0.0), SEED).numpy()
    assert (noisy == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert noisy.mean() == pytest.approx(0.2 / math.sqrt(2 * math.pi), rel=0.03)


# The mean and variance of a corrupted constant image by the noise's formula, with 0 and 1 far enough away.
# name, level, value of the image: mean, variance, and number of values that share a sample.
MOMENTS = [
    ("gaussian", 0.1, 0.5, 0.5, 0.1**2, 1),
    # Levels in 255ths, and nothing is clipped, not even around black.
    ("awgn", 51, 0.0, 0.0, 0.2**2, 1),
    ("uniform", 0.3, 0.5, 0.5, 0.3**2 / 3, 1),
    ("speckle", 0.2, 0.4, 0.4, (0.2 * 0.4) ** 2, 1),
    ("poisson", 0.01, 0.4, 0.4, 0.01 * 0.4, 1),
    # Black or white with probability a, each a/2: mean a/2 + (1 - a) x, second moment a/2 + (1 - a) x^2.
    ("salt_pepper", 0.3, 0.2, 0.15 + 0.7 * 0.2, 0.15 + 0.7 * 0.2**2 - (0.15 + 0.7 * 0.2) ** 2, 1),
    ("masking", 0.3, 0.5, 0.7 * 0.5, 0.7 * 0.5**2 - (0.7 * 0.5) ** 2, 1),
    # A quarter of 64 is 16 pixels: exactly 1/16 of the image is black.
    ("occlusion", 0.25, 0.5, 15 / 16 * 0.5, 15 / 16 * 0.5**2 - (15 / 16 * 0.5) ** 2, 1),
    ("column_noise", 0.1, 0.5, 0.5, 0.1**2, 64),
    ("blur", 2.0, 0.5, 0.5, 0.0, 1),
    ("affine", 0.3, 0.5, 0.5, 0.0, 1),
    ("flip", 0.5, 0.5, 0.5, 0.0, 1),
    ("crop", 0.5, 0.5, 0.5, 0.0, 1),
    # The brightness is uniformly distributed, one factor for an image.
    ("color_jitter", 0.4, 0.5, 0.5, (0.5 * 0.4) ** 2 / 3, 64 * 64),
]


@pytest.mark.parametrize("name, level, value, mean, variance, values_per_sample", MOMENTS)
def test_mean_and_variance_are_those_of_the_formula(name, level, value, mean, variance, values_per_sample):
    noisy = noise.parse_noise(f"{name}:{level}")(gray(value, (64, 64, 64, 1)), SEED).numpy().astype(np.float64)
    num_samples = noisy.size / values_per_sample
    assert noisy.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / num_samples) + 1e-6)
    assert noisy.var() == pytest.approx(variance, rel=8 / math.sqrt(num_samples) + 0.005, abs=1e-9)


def test_every_noise_has_its_moments_tested():
    assert {name for name, *_ in MOMENTS} == noise.NOISES.keys()


@pytest.mark.parametrize("name", ["salt_pepper", "masking"])
def test_replaced_pixels_are_replaced_in_all_channels_and_the_others_are_unchanged(name):
    noisy = noise.parse_noise(f"{name}:0.3")(gray(shape=(4, 64, 64, 3)), SEED).numpy()
    black = 0.15 if name == "salt_pepper" else 0.3
    assert (noisy == 0).mean() == pytest.approx(black, abs=0.015)
    assert (noisy == 1).mean() == pytest.approx(0.3 - black, abs=0.015)
    assert ((noisy == 0.5) | (noisy == 0) | (noisy == 1)).all()
    assert (noisy == noisy[..., :1]).all()


def test_poisson_counts_whole_photons():
    noisy = noise.parse_noise("poisson:0.1")(gray(0.4), SEED).numpy()
    np.testing.assert_allclose(noisy * 10, (noisy * 10).round(), atol=1e-5)
    # The probability of none at all, of 4 on average, is e^-4.
    assert (noisy == 0).mean() == pytest.approx(math.exp(-4), abs=0.004)


def test_signal_dependent_noise_keeps_black():
    for name in ("speckle", "poisson"):
        assert not noise.parse_noise(f"{name}:0.5")(gray(0.0), SEED).numpy().any()


def test_occlusion_is_one_square_anywhere_within_the_image():
    noisy = noise.parse_noise("occlusion:0.3")(gray(shape=(300, 28, 20, 1)), SEED).numpy()[..., 0]
    firsts = set()
    for image in noisy:
        rows, columns = np.nonzero(image == 0)
        # 0.3 of 20 pixels are 6.
        assert len(rows) == 36 and np.ptp(rows) == 5 and np.ptp(columns) == 5
        firsts.add((rows.min(), columns.min()))
    assert {row for row, _ in firsts} == set(range(23)) and {column for _, column in firsts} == set(range(15))


def test_blur_matches_scipy_away_from_the_border(random):
    images = random.random((2, 48, 40, 3)).astype(np.float32)
    blurred = noise.parse_noise("blur:1.5")(tf.constant(images), SEED).numpy()
    expected = ndimage.gaussian_filter(images, (0, 1.5, 1.5, 0), truncate=8)
    np.testing.assert_allclose(blurred[:, 12:-12, 12:-12], expected[:, 12:-12, 12:-12], atol=1e-5)


def test_blur_reduces_the_variance_of_independent_noise_as_documented(random):
    images = random.random((8, 64, 64, 1)).astype(np.float32)
    inside = noise.parse_noise("blur:2")(tf.constant(images), SEED).numpy()[:, 10:-10, 10:-10]
    assert inside.var() == pytest.approx(images.var() / (4 * math.pi * 2**2), rel=0.1)


def test_column_noise_is_constant_along_columns_and_channels():
    noisy = noise.parse_noise("column_noise:0.1")(gray(shape=(4, 32, 32, 3)), SEED).numpy()
    assert (noisy == noisy[:, :1, :, :1]).all()
    assert noisy[:, 0, :, 0].std() > 0.05


def test_flip_mirrors_with_the_given_probability():
    images = np.tile(np.linspace(0, 1, 9, dtype=np.float32)[None, None, :, None], [4000, 2, 1, 1])
    flipped = noise.parse_noise("flip:0.3")(tf.constant(images), SEED).numpy()
    is_mirrored = np.all(flipped == images[:, :, ::-1], axis=(1, 2, 3))
    assert np.all(is_mirrored | np.all(flipped == images, axis=(1, 2, 3)))
    assert is_mirrored.mean() == pytest.approx(0.3, abs=0.03)


def test_crop_enlarges_a_part_of_the_given_size():
    # Of a ramp the range is the size of the part, and its middle the center.
    ramp = np.tile(np.linspace(0, 1, 32, dtype=np.float32)[None, None, :, None], [2000, 32, 1, 1])
    cropped = noise.parse_noise("crop:0.4")(tf.constant(ramp), SEED).numpy()[:, 0, :, 0]
    sides, centers = cropped[:, -1] - cropped[:, 0], (cropped[:, -1] + cropped[:, 0]) / 2
    np.testing.assert_allclose(np.diff(cropped), np.repeat(sides[:, None] / 31, 31, axis=1), atol=1e-5)
    assert sides.min() >= 0.6 - 1e-5 and sides.max() <= 1 + 1e-5 and sides.mean() == pytest.approx(0.8, abs=0.01)
    assert cropped.min() > -1e-5 and cropped.max() < 1 + 1e-5 and centers.mean() == pytest.approx(0.5, abs=0.01)


def test_color_jitter_changes_brightness_contrast_and_saturation(random):
    images = np.tile(random.uniform(0.4, 0.6, (1, 8, 8, 3)).astype(np.float32), [3000, 1, 1, 1])
    jittered = noise.parse_noise("color_jitter:0.3")(tf.constant(images), SEED).numpy()
    # Nothing is clipped. Gray varies by brightness times contrast, and colors around gray by all three factors.
    gray, gray_before = jittered.mean(axis=3), images.mean(axis=3)
    brightness = jittered.mean(axis=(1, 2, 3)) / images.mean()
    contrast = gray.std(axis=(1, 2)) / gray_before.std(axis=(1, 2)) / brightness
    saturation = (jittered - gray[..., None]).std(axis=(1, 2, 3)) / (images - gray_before[..., None])[0].std()
    saturation /= brightness * contrast
    for factors in (brightness, contrast, saturation):
        assert 0.7 - 1e-3 <= factors.min() < 0.72 and 1.28 < factors.max() <= 1.3 + 1e-3
        assert factors.mean() == pytest.approx(1, abs=0.02)
    assert np.abs(np.corrcoef([brightness, contrast, saturation]) - np.eye(3)).max() < 0.08


def test_affine_shifts_have_the_documented_standard_deviation():
    # At the center of an odd side a point is only shifted, by 0.3 * 0.1 of 65 pixels.
    images = np.zeros((400, 65, 65, 1), np.float32)
    images[:, 31:34, 31:34] = 1
    transformed = noise.parse_noise("affine:0.1")(images, SEED).numpy()[..., 0]
    centers = np.array([ndimage.center_of_mass(image) for image in transformed]) - 32
    assert centers.mean(axis=0) == pytest.approx([0, 0], abs=5 * 1.95 / 20)
    assert centers.std(axis=0) == pytest.approx([1.95, 1.95], rel=0.2)


def test_affine_scales_and_shears_about_the_center():
    images = np.zeros((400, 65, 65, 1), np.float32)
    images[:, 16:49, 16:49] = 1
    areas = noise.parse_noise("affine:0.1")(images, SEED).numpy().sum(axis=(1, 2, 3)) / 33**2
    # The determinant of the map is (1 + a)(1 + b) - cd: a, b of deviation 0.05, c and d of 0.1.
    assert areas.std() == pytest.approx(np.sqrt(2) * 0.05, rel=0.2)
    assert areas.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", noise.NOISES)
def test_every_noise_is_stateless_keeps_the_range_and_works_in_a_pipeline(name):
    corrupt = noise.parse_noise(f"{name}:0.5")
    images = tf.random.stateless_uniform([3, 16, 16, 3], SEED)
    noisy = corrupt(images, SEED).numpy()
    np.testing.assert_array_equal(noisy, corrupt(images, SEED))
    # A blur is random only in its level.
    random = corrupt if name != "blur" else noise.parse_noise("blur:0.5-2")
    assert not np.array_equal(random(images, SEED), random(images, SEED + 1))
    assert noisy.shape == images.shape and (not noise.NOISES[name].clips or 0 <= noisy.min() <= noisy.max() <= 1)
    dataset = tf.data.Dataset.from_tensors(images).map(lambda batch: corrupt(batch, SEED))
    np.testing.assert_allclose(next(iter(dataset)), noisy, atol=1e-6)


def test_level_range_is_sampled_for_each_image():
    noisy = noise.parse_noise("gaussian:0.01-0.1")(gray(shape=(200, 32, 32, 1)), SEED).numpy()
    deviations = noisy.std(axis=(1, 2, 3))
    assert 0.009 < deviations.min() < 0.02 and 0.09 < deviations.max() < 0.11
    assert deviations.mean() == pytest.approx(0.055, abs=0.006)


def test_steps_are_applied_in_order_with_independent_noise():
    both = noise.parse_noise("gaussian:0.1+salt_pepper:0.2")(gray(), SEED).numpy()
    # Salt and pepper is last, so its pixels are exactly black and white.
    assert ((both == 0) | (both == 1)).mean() == pytest.approx(0.2, abs=0.02)
    twice = noise.parse_noise("gaussian:0.1+gaussian:0.1")(gray(), SEED).numpy()
    assert twice.std() == pytest.approx(0.1 * math.sqrt(2), rel=0.03)


def test_alternative_is_sampled_for_each_image():
    images = gray(shape=(400, 16, 16, 1))
    noisy = noise.parse_noise("masking:0.5/gaussian:0.05+salt_pepper:0.5/gaussian:0.05")(images, SEED).numpy()
    black, white = ((noisy == value).any(axis=(1, 2, 3)) for value in (0, 1))
    fractions = (black & ~white).mean(), white.mean(), (~black & ~white).mean()
    assert sum(fractions) == 1 and all(each == pytest.approx(1 / 3, abs=0.1) for each in fractions)


def test_alternatives_of_the_same_noise_are_independent():
    one, other = (
        noise.parse_noise(f"gaussian:0.1/{name}:0.1")(gray(), SEED).numpy() for name in ("gaussian", "masking")
    )
    same = (one == other).all(axis=(1, 2, 3))
    assert same.any() and not same.all()


def test_every_noise_accepts_a_range_of_levels_from_zero():
    for name in noise.NOISES:
        assert np.isfinite(noise.parse_noise(f"{name}:0-0.5")(gray(), SEED)).all()


@pytest.mark.parametrize(
    "training, evaluation, expected",
    [
        ("gaussian:0.5", "gaussian:0.5", True),
        ("gaussian:0.5", "gaussian:0.4", False),
        ("gaussian:0.1-0.8", "gaussian:0.4", True),
        ("gaussian:0.1-0.8", "gaussian:0.1-0.9", False),
        ("gaussian:0.1-0.8/salt_pepper:0.1-0.6", "salt_pepper:0.5", True),
        ("gaussian:0.1-0.8/salt_pepper:0.1-0.6", "masking:0.5", False),
        ("gaussian:0.1-0.8/salt_pepper:0.1-0.6", "gaussian:0.3+salt_pepper:0.2", False),
        ("gaussian:0.3+salt_pepper:0.2", "gaussian:0.3+salt_pepper:0.2", True),
        ("gaussian:0.3+salt_pepper:0.2", "salt_pepper:0.2+gaussian:0.3", False),
        ("gaussian:0.3", "gaussian:0.3/masking:0.5", False),
    ],
)
def test_training_corruption_contains_a_subset_of_itself(training, evaluation, expected):
    assert noise.parse_noise(training).contains(noise.parse_noise(evaluation)) is expected


@pytest.mark.parametrize(
    "text, clips",
    [("awgn:51", False), ("awgn:20-80", False), ("awgn:51+gaussian:0.1", True), ("gaussian:0.1+awgn:51", False),
     ("awgn:51+poisson:0.1", True), ("awgn:51/gaussian:0.1", False)],
)  # fmt: skip
def test_only_noise_that_ends_unclipped_leaves_the_range(text, clips):
    corrupt = noise.parse_noise(text)
    noisy = corrupt(gray(0.1, (8, 32, 32, 1)), SEED).numpy()
    assert corrupt.clips is clips and np.isfinite(noisy).all() and (noisy.min() >= 0) is np.bool_(clips)


def test_no_noise_is_none():
    assert noise.parse_noise(None) is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("gausian:0.5", "unknown --noise 'gausian'.*did you mean 'gaussian'.*salt_pepper"),
        ("gaussian", "'gaussian' needs a level, such as gaussian:0.5"),
        ("gaussian:loud", "'gaussian' needs a level"),
        ("gaussian:0", "must be above 0"),
        ("gaussian:-1", "'gaussian' needs a level"),
        ("gaussian:0.8-0.1", "lower one first"),
        ("salt_pepper:1.5", "at most 1"),
        ("gaussian:0.5+", "unknown --noise ''"),
        ("gaussian:0.5/", "unknown --noise ''"),
    ],
)
def test_invalid_noise_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        noise.parse_noise(text)
