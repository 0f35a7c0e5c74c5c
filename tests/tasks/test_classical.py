import numpy as np
import pytest
from scipy import ndimage

from cae.tasks import classical


@pytest.fixture
def pairs(random):
    """Smooth images and the same with noise."""
    clean = ndimage.gaussian_filter(random.random((4, 32, 32, 1)), (0, 3, 3, 0))
    clean = ((clean - clean.min()) / np.ptp(clean)).astype(np.float32)
    return clean, (clean + 0.2 * random.standard_normal(clean.shape)).clip(0, 1).astype(np.float32)


def error(one, other):
    return float(np.mean((one - other) ** 2))


@pytest.mark.parametrize("name", classical.METHODS)
def test_every_method_removes_noise_at_its_best_setting(name, pairs):
    clean, noisy = pairs
    tried = classical.attempt(name, clean[:2], noisy[:2], noisy[2:])
    assert tried.cleaned.shape == clean[2:].shape and tried.cleaned.dtype == np.float32
    assert tried.cleaned.min() >= 0 and tried.cleaned.max() <= 1
    assert error(tried.cleaned, clean[2:]) < 0.7 * error(noisy[2:], clean[2:])


@pytest.mark.parametrize("name", classical.METHODS)
def test_every_method_takes_colours(name, pairs):
    noisy = np.repeat(pairs[1], 3, axis=-1)
    method = classical.METHODS[name]
    assert classical.run(method, method.settings()[0], noisy).shape == noisy.shape


@pytest.mark.parametrize("name", classical.METHODS)
def test_every_method_takes_arrays_that_are_read_only(name, pairs):
    """As large ones are that another process is lent."""
    given = pairs[0][:1], pairs[1][:1], pairs[1][1:2]
    expected = classical.attempt(name, *given)
    for array in given:
        array.flags.writeable = False
    np.testing.assert_array_equal(classical.attempt(name, *given).cleaned, expected.cleaned)


@pytest.mark.parametrize("name", classical.METHODS)
def test_flat_images_stay_finite(name):
    method = classical.METHODS[name]
    for setting in method.settings():
        assert np.isfinite(classical.run(method, setting, np.zeros((1, 16, 16, 1), np.float32))).all()


def test_the_best_setting_is_that_of_the_highest_psnr_on_the_images_to_tune_on(pairs):
    clean, noisy = pairs
    method = classical.METHODS["gaussian"]
    psnr = {
        setting["sigma"]: np.mean(
            [-10 * np.log10(error(*each)) for each in zip(classical.run(method, setting, noisy), clean)]
        )
        for setting in method.settings()
    }
    assert classical.best_setting(method, clean, noisy) == {"sigma": max(psnr, key=psnr.get)}


def test_columns_and_methods_come_back_in_their_order(pairs):
    clean, noisy = pairs
    columns = [classical.Column(clean[:1], each, other) for each, other in ((noisy[:1], noisy[1:2]), (clean[:1],) * 2)]
    first, second = classical.attempts(columns)
    assert [each.method for each in first] == [each.method for each in second] == list(classical.METHODS)
    assert error(first[0].cleaned, clean[1:2]) > error(second[0].cleaned, clean[:1])


def test_settings_that_are_known_are_taken_without_a_search(pairs, monkeypatch):
    clean, noisy = pairs
    worst = {name: method.settings()[-1] for name, method in classical.METHODS.items()}
    monkeypatch.setattr(classical, "best_setting", None)
    (made,) = classical.attempts([classical.Column(clean[:1], noisy[:1], noisy[1:2], worst)])
    assert {each.method: each.setting for each in made} == worst
    for each in made:
        cleaned = classical.run(classical.METHODS[each.method], worst[each.method], noisy[1:2])
        np.testing.assert_array_equal(each.cleaned, cleaned)
        assert each.seconds > 0
