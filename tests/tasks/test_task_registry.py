"""Which tasks and predictors `--tasks` selects, and what denoising is evaluated on."""

import pytest

from cae import tasks
from cae.errors import UserError
from cae.predict import PREDICTORS


def test_names_select_tasks_in_the_order_of_the_report():
    assert tasks.get_tasks([], "conv") == [*tasks.TASKS]
    assert tasks.get_tasks(["reconstruct", "denoise"], "conv") == ["denoise", "reconstruct"]
    with pytest.raises(UserError, match=r"unknown --tasks 'denose'.*did you mean 'denoise'"):
        tasks.get_tasks(["denose"], "conv")


def test_a_model_without_latent_vectors_has_fewer_tasks():
    assert tasks.get_tasks([], "unet") == ["denoise", "outliers"]
    with pytest.raises(UserError, match="--tasks=reconstruct needs latent vectors, and --model=unet has none"):
        tasks.get_tasks(["reconstruct"], "unet")


def test_predictors_are_selected_alike():
    assert tasks.get_tasks([], "conv", PREDICTORS) == ["denoise", "reconstruct", "interpolate", "outliers"]
    assert tasks.get_tasks([], "unet", PREDICTORS) == ["denoise", "outliers"]
    with pytest.raises(UserError, match="unknown --tasks 'latents'; available: denoise, interpolate, outliers, recons"):
        tasks.get_tasks(["latents"], "conv", PREDICTORS)


def test_every_task_has_a_function_run():
    assert all(callable(task.run) for task in tasks.TASKS.values())


def test_the_noise_of_the_training_comes_first():
    assert tasks.get_noises(None, "masking:0.3")[0] == "masking:0.3"
    assert tasks.get_noises(None, None)[0] == tasks.DEFAULT_NOISE
    # The flagfile of the training repeats its noise, and means no less.
    assert tasks.get_noises("masking:0.3", "masking:0.3") == tasks.get_noises(None, "masking:0.3")
    noises = tasks.get_noises(None, "gaussian:0.5")
    assert len(set(noises)) == len(noises) == len(tasks.BENCHMARK_NOISES)


def test_explicit_noises_replace_the_default_ones():
    text = "blur:1,gaussian:0.1+masking:0.2,none"
    assert tasks.get_noises(text, "gaussian:0.5") == ["blur:1", "gaussian:0.1+masking:0.2", "none"]
    with pytest.raises(UserError, match=r"unknown --noise 'blurr'.*did you mean 'blur'"):
        tasks.get_noises("gaussian:0.1,blurr:1", None)
    with pytest.raises(UserError, match="'none', clean images, can follow a noise but not come first"):
        tasks.get_noises("none,blur:1", None)
