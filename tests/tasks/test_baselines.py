import collections

import numpy as np
import pytest
from scipy import ndimage
from sklearn.model_selection import ParameterGrid

from cae.tasks import baselines
from cae.tasks.baselines import BASELINES, BaselineData, run_baseline


@pytest.fixture
def pairs(random):
    """Smooth images and the same with noise."""
    clean = ndimage.gaussian_filter(random.random((4, 32, 32, 1)), (0, 3, 3, 0))
    clean = ((clean - clean.min()) / np.ptp(clean)).astype(np.float32)
    return clean, (clean + 0.2 * random.standard_normal(clean.shape)).clip(0, 1).astype(np.float32)


def mse(one, other):
    return float(np.mean((one - other) ** 2))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_removes_noise_with_its_best_parameters(name, pairs):
    clean, noisy = pairs
    result = run_baseline(name, BaselineData(clean[:2], noisy[:2], [noisy[2:]]))
    (denoised,) = result.denoised
    assert denoised.shape == clean[2:].shape and denoised.dtype == np.float32
    assert denoised.min() >= 0 and denoised.max() <= 1
    assert mse(denoised, clean[2:]) < 0.7 * mse(noisy[2:], clean[2:])


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_every_baseline_accepts_color_images(baseline, pairs):
    noisy = np.repeat(pairs[1], 3, axis=-1)
    assert baseline(noisy, ParameterGrid(baseline.param_grid)[0]).shape == noisy.shape


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_accepts_read_only_arrays(name, pairs):
    """Large arrays of another process are read-only."""
    arrays = pairs[0][:1], pairs[1][:1], pairs[1][1:2]
    expected = run_baseline(name, BaselineData(*arrays[:2], arrays[2:]))
    for array in arrays:
        array.flags.writeable = False
    np.testing.assert_array_equal(run_baseline(name, BaselineData(*arrays[:2], arrays[2:])).denoised, expected.denoised)


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_constant_images_stay_finite(baseline):
    for params in ParameterGrid(baseline.param_grid):
        assert np.isfinite(baseline(np.zeros((1, 16, 16, 1), np.float32), params)).all()


def test_grid_search_finds_the_highest_mean_psnr(pairs):
    clean, noisy = pairs
    gaussian = BASELINES["gaussian"]
    psnr = {
        sigma: np.mean([-10 * np.log10(mse(*pair)) for pair in zip(gaussian(noisy, {"sigma": sigma}), clean)])
        for sigma in gaussian.param_grid["sigma"]
    }
    assert baselines.grid_search(gaussian, clean, noisy) == {"sigma": max(psnr, key=psnr.get)}


def test_only_the_best_parameters_are_tried_on_more_than_sixteen_images():
    counts = collections.Counter()

    def constant(image, value):
        counts[value] += 1
        return np.full_like(image, value)

    values = [each / 20 for each in range(16)]
    baseline = baselines.Baseline(constant, {"value": values})
    clean = np.full((40, 2, 2, 1), 0.31)
    clean[16:] = 0.41  # 0.3 is the best of the first images, 0.4 the fourth and the best of all.
    assert baselines.grid_search(baseline, clean, clean) == {"value": 0.4}
    assert counts == dict.fromkeys(values, 16) | dict.fromkeys((0.25, 0.3, 0.35, 0.4), 16 + 40)
    counts.clear()
    assert baselines.grid_search(baseline, clean[:16], clean[:16]) == {"value": 0.3}
    assert counts == dict.fromkeys(values, 16)


def test_results_are_in_the_order_of_noises_and_baselines(pairs):
    clean, noisy = pairs
    noises = [BaselineData(clean[:1], noisy[:1], [noisy[1:2]]), BaselineData(clean[:1], clean[:1], [clean[:1]])]
    first, second = baselines.run_baselines(noises)
    assert [result.method for result in first] == [result.method for result in second] == list(BASELINES)
    assert mse(first[0].denoised[0], clean[1:2]) > mse(second[0].denoised[0], clean[:1])


def test_known_parameters_are_used_without_a_search(pairs, monkeypatch):
    clean, noisy = pairs
    params = {name: list(ParameterGrid(baseline.param_grid))[-1] for name, baseline in BASELINES.items()}
    monkeypatch.setattr(baselines, "grid_search", None)
    (results,) = baselines.run_baselines([BaselineData(clean[:1], noisy[:1], [noisy[1:2]], params)])
    assert {result.method: result.params for result in results} == params
    for result in results:
        np.testing.assert_array_equal(result.denoised[0], BASELINES[result.method](noisy[1:2], params[result.method]))
        assert result.seconds > 0
