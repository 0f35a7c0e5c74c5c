"""Which tasks and predictors `--tasks` selects, and what denoising is evaluated on."""

import pytest

from cae import tasks
from cae.config import Config
from cae.errors import UserError
from cae.predict import PREDICTORS


def test_names_select_tasks_in_the_order_of_the_report():
    assert tasks.get_tasks([], Config(model="conv")) == [*tasks.TASKS]
    assert tasks.get_tasks(["reconstruct", "denoise"], Config(model="conv")) == ["denoise", "reconstruct"]
    with pytest.raises(UserError, match=r"unknown --tasks 'denose'.*did you mean 'denoise'"):
        tasks.get_tasks(["denose"], Config(model="conv"))


def test_a_model_without_latent_vectors_has_fewer_tasks():
    assert tasks.get_tasks([], Config(model="unet")) == ["denoise", "outliers"]
    with pytest.raises(UserError, match="--tasks=reconstruct needs latent vectors, and --model=unet has none"):
        tasks.get_tasks(["reconstruct"], Config(model="unet"))


def test_a_single_test_image_leaves_out_interpolation_or_refuses_it():
    selected, lines = tasks.leave_out_tasks([*tasks.TASKS], [], 1)
    assert selected == ["denoise", "reconstruct", "latents", "outliers"]
    assert lines == ["left out interpolate: it needs at least 2 test images, and the data set has 1"]
    assert tasks.leave_out_tasks([*tasks.TASKS], [], 2) == ([*tasks.TASKS], [])
    with pytest.raises(UserError, match="--tasks=interpolate needs at least 2 test images, and the data set has 1"):
        tasks.leave_out_tasks(["interpolate"], ["interpolate"], 1)


def test_predictors_are_selected_alike():
    assert tasks.get_tasks([], Config(model="conv"), PREDICTORS) == [
        "denoise",
        "reconstruct",
        "interpolate",
        "outliers",
    ]
    assert tasks.get_tasks([], Config(model="unet"), PREDICTORS) == ["denoise", "outliers"]
    with pytest.raises(UserError, match="unknown --tasks 'latents'; available: denoise, interpolate, outliers, recons"):
        tasks.get_tasks(["latents"], Config(model="conv"), PREDICTORS)


def test_every_task_has_a_function_run():
    assert all(callable(task.run) for task in tasks.TASKS.values())


def test_the_noise_of_the_training_comes_first():
    assert tasks.get_noises(None, Config(noise="masking:0.3"))[0] == "masking:0.3"
    assert tasks.get_noises(None, Config(noise=None))[0] == tasks.DEFAULT_NOISE
    # The flagfile of the training repeats its noise, and means no less.
    config = Config(noise="masking:0.3")
    assert tasks.get_noises("masking:0.3", config) == tasks.get_noises(None, config)
    noises = tasks.get_noises(None, Config(noise="gaussian:0.5"))
    assert len(set(noises)) == len(noises) == len(tasks.BENCHMARK_NOISES)


CROPS = Config(dataset="folder:a", crop_size=16, model="unet", noise="awgn:5-50")
PAIRS = Config(dataset="pairs:a,b", crop_size=16, model="unet")


def test_runs_on_crops_denoise_whole_images_and_pairs_have_their_own_noise():
    assert tasks.get_tasks([], CROPS) == tasks.get_tasks(["denoise"], CROPS, PREDICTORS) == ["denoise"]
    with pytest.raises(UserError, match="--tasks=outliers needs images of one size, and the run was trained on crops"):
        tasks.get_tasks(["outliers"], CROPS)
    assert tasks.get_noises(None, CROPS) == ["awgn:5-50", "awgn:15", "awgn:25", "awgn:50", "none"]
    assert tasks.get_noises(None, PAIRS) == tasks.get_noises("awgn:5-50", CROPS, "pairs:c,d") == ["paired"]
    assert tasks.get_noises("awgn:25", PAIRS, "folder:c") == ["awgn:25"]
    with pytest.raises(UserError, match="--noise=awgn:25 does not go with pairs:a,b: pairs have noise of their own"):
        tasks.get_noises("awgn:25", PAIRS)


def test_explicit_noises_replace_the_default_ones():
    text = "blur:1,gaussian:0.1+masking:0.2,none"
    assert tasks.get_noises(text, Config(noise="gaussian:0.5")) == ["blur:1", "gaussian:0.1+masking:0.2", "none"]
    with pytest.raises(UserError, match=r"unknown --noise 'blurr'.*did you mean 'blur'"):
        tasks.get_noises("gaussian:0.1,blurr:1", Config(noise=None))
    with pytest.raises(UserError, match="'none', clean images, can follow a noise but not come first"):
        tasks.get_noises("none,blur:1", Config(noise=None))
