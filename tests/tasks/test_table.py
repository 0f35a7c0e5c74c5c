import pytest

from cae import tasks
from cae.errors import UserError


def test_names_give_tasks_in_the_order_of_the_report():
    assert tasks.find([], "conv") == {name: task.module for name, task in tasks.TASKS.items()}
    assert [*tasks.find(["reconstruct", "denoise"], "conv")] == ["denoise", "reconstruct"]
    with pytest.raises(UserError, match=r"unknown --tasks 'denose'.*did you mean 'denoise'"):
        tasks.find(["denose"], "conv")


def test_a_model_without_latent_vectors_can_do_less():
    assert [*tasks.find([], "unet")] == ["denoise", "outliers"]
    with pytest.raises(UserError, match="--tasks=reconstruct needs latent vectors, and --model=unet has none"):
        tasks.find(["reconstruct"], "unet")


def test_not_every_task_takes_pictures_of_ones_own():
    able = "denoise, reconstruct, interpolate, outliers do"
    with pytest.raises(UserError, match=f"--tasks=latents does not take --images; {able}"):
        tasks.find(["latents"], "conv", images=True)
    assert [*tasks.find([], "conv", images=True)] == ["denoise", "reconstruct", "interpolate", "outliers"]
    assert [*tasks.find([], "unet", images=True)] == ["denoise", "outliers"]


def test_noises_begin_with_that_of_the_training():
    assert tasks.noises(None, "mask:0.3")[0] == "mask:0.3"
    assert tasks.noises(None, None)[0] == tasks.DEFAULT_NOISE
    # The training's flagfile says it again, and means no less.
    assert tasks.noises("mask:0.3", "mask:0.3") == tasks.noises(None, "mask:0.3")
    wanted = tasks.noises(None, "gaussian:0.5")
    assert len(set(wanted)) == len(wanted) == len(tasks.USUAL_NOISES)


def test_noises_that_are_said_are_those_that_are_tried():
    assert tasks.noises("blur:1,gaussian:0.1+mask:0.2,none", "gaussian:0.5") == [
        "blur:1",
        "gaussian:0.1+mask:0.2",
        "none",
    ]
    with pytest.raises(UserError, match=r"unknown --noise 'blurr'.*did you mean 'blur'"):
        tasks.noises("gaussian:0.1,blurr:1", None)
    with pytest.raises(UserError, match="'none', clean images, can follow a noise but not come first"):
        tasks.noises("none,blur:1", None)
