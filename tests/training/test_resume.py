"""Runs that are interrupted and resumed end as runs that are not."""

import dataclasses
import functools
import itertools
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
import trainings
from PIL import Image
from trainings import PreemptAfter, assert_same, metrics_lines

from benchmarks import fault_injection
from cae.data import datasets
from cae.errors import UserError
from cae.preemption import Preempted
from cae.training import trainer
from cae.training.train_state import TrainState

pytestmark = pytest.mark.usefixtures("same_loops_on_any_machine")


def train_with_preemptions(train, config, workdir, polls):
    """Trains and resumes after each of `polls` preemptions; returns the final state, and the steps of preemptions."""
    steps = []
    for number in polls:
        try:
            return train(config, workdir, poll_signal=PreemptAfter(number)), steps
        except Preempted as error:
            assert error.signal_number == signal.SIGTERM
            steps.append(int(re.search(r"preempted at step (\d+); checkpoint saved", str(error))[1]))


def test_run_that_is_preempted_repeatedly_equals_the_unbroken_run(tmp_path, train, unbroken, four_epochs):
    """It polls before each call of the graph loop, and after each of four batches of an epoch's evaluation."""
    resumed, steps = train_with_preemptions(train, four_epochs, tmp_path, itertools.cycle([3, 9]))
    assert len(steps) > 3 and unbroken(four_epochs)[0].step == resumed.step == 10
    assert_same(unbroken(four_epochs)[0], resumed, unbroken(four_epochs)[1], tmp_path)


# The clusters are computed at step 5.
DEEP_CLUSTER = {"model": "deep_cluster", "num_clusters": "2,3", "classifier_epochs": 2, "lr_schedule": "cosine"}

CHANGES = [
    {"lr_schedule": "cosine"},
    {"optimizer": "muon", "base_filters": 16, "model": "unet"},
    {"regularizer": "acai"},
    {"model": "vae"},
    DEEP_CLUSTER,
    {"precision": "mixed_float16"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_every_kind_of_run_resumes_exactly(tmp_path, train, unbroken, four_epochs, changes):
    config = dataclasses.replace(four_epochs, **changes)
    resumed, steps = train_with_preemptions(train, config, tmp_path, [8, 1000])
    assert len(steps) == 1 and 1 < steps[0] < 10
    assert_same(unbroken(config)[0], resumed, unbroken(config)[1], tmp_path)


def test_run_resumes_exactly_with_a_model_that_is_built_anew(tmp_path, dataset, unbroken, four_epochs):
    """Nothing is reused of what was built and traced before, as in a real process."""
    train_anew = lambda config, workdir, **options: trainings.train(None, dataset, config, workdir, **options)  # noqa: E731
    resumed, steps = train_with_preemptions(train_anew, four_epochs, tmp_path, [8, 1000])
    assert len(steps) == 1
    assert_same(unbroken(four_epochs)[0], resumed, unbroken(four_epochs)[1], tmp_path)


def test_training_on_crops_resumes_exactly_from_images_in_memory_or_not_and_with_other_replicas(
    tmp_path, state_cache, four_epochs, mirrored, random
):
    """17 images, a crop of each in an epoch: epochs end in steps 3, 5, 7 and 9."""
    (tmp_path / "images").mkdir()
    for index, (height, width) in enumerate(random.integers(16, 40, (20, 2))):
        Image.fromarray(random.integers(0, 256, (height, width), np.uint8)).save(tmp_path / f"images/{index}.png")
    crops = {"dataset": f"folder:{tmp_path / 'images'}", "crop_size": 16, "crops_per_image": 1, "augment": True}
    config = dataclasses.replace(four_epochs, model="unet", noise="awgn:5-50", cache_dir=str(tmp_path), **crops)
    stored, streamed = (
        datasets.open_dataset(dataclasses.replace(config, streaming=each)) for each in ("auto", "always")
    )
    unbroken = trainings.train(state_cache, stored, config, tmp_path / "unbroken")
    assert unbroken.step == 9
    train = functools.partial(trainings.train, state_cache, streamed)
    resumed, steps = train_with_preemptions(train, config, tmp_path / "resumed", itertools.cycle([3, 5]))
    assert len(steps) > 2 and {*steps} - {3, 5, 7}
    assert_same(unbroken, resumed, tmp_path / "unbroken", tmp_path / "resumed")
    train(dataclasses.replace(config, max_steps=4), tmp_path / "replicas")
    for one, other in zip(unbroken.weights, train(config, tmp_path / "replicas", strategy=mirrored).weights):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"regularizer": "acai", "precision": "mixed_float16"}], ids=str)
def test_cached_states_are_like_new(tmp_path, state_cache, tiny, changes):
    """Of the other tests: no variable is left out when a new process is simulated, nor by a checkpoint."""
    config, strategy = dataclasses.replace(tiny, **changes), tf.distribute.get_strategy()
    for variable in trainings.variables(state_cache.state(strategy, config)):
        variable.assign(tf.ones_like(variable))
    cached = state_cache.state(strategy, config)
    new = TrainState.create(strategy, config, trainings.IMAGE_SHAPE, 10)
    for one, other in zip(trainings.variables(cached), trainings.variables(new), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    tf.train.Checkpoint(**new.checkpoint_items()).write(str(tmp_path / "all"))
    saved = [name for name, _ in tf.train.list_variables(str(tmp_path / "all")) if name.endswith("VARIABLE_VALUE")]
    assert len(trainings.variables(new)) == len(saved)


@pytest.mark.parametrize("step", [1, 4, 5, 10])
def test_run_resumes_exactly_from_any_step(tmp_path, train, unbroken, four_epochs, monkeypatch, step):
    """Epochs end in steps 3, 5, 8 and 10; a call of the graph loop takes one step at least."""
    monkeypatch.setattr(trainer, "MAX_STEPS_PER_LOOP", 1)
    with pytest.raises(Preempted, match=f"at step {step};"):
        train(four_epochs, tmp_path, poll_signal=lambda state: signal.SIGINT if state.global_step >= step else 0)
    assert_same(unbroken(four_epochs)[0], train(four_epochs, tmp_path), unbroken(four_epochs)[1], tmp_path)


def test_another_seed_gives_another_run(tmp_path, train, unbroken, four_epochs):
    """And `fault_injection.compare`, which compares the folders of killed runs, notices."""
    one, workdir = unbroken(four_epochs)
    other = train(dataclasses.replace(four_epochs, seed=1), tmp_path)
    assert any(not np.array_equal(a, b) for a, b in zip(one.weights, other.weights))
    assert fault_injection.compare(workdir, workdir) == []
    assert any("weights" in each for each in fault_injection.compare(workdir, tmp_path))


@pytest.mark.parametrize(
    "order, changes",
    [((0, 1), {}), ((1, 0), {}), ((1, 0), DEEP_CLUSTER | {"lr_schedule": "constant"})],
    ids=["one to two replicas", "two to one", "two to one, with clusters"],
)
def test_run_resumes_with_another_number_of_replicas(tmp_path, train, unbroken, four_epochs, mirrored, order, changes):
    strategies = [tf.distribute.get_strategy(), mirrored]
    config = dataclasses.replace(four_epochs, **changes)
    one_replica, workdir = unbroken(config)
    train(dataclasses.replace(config, max_steps=7), tmp_path, strategy=strategies[order[0]])
    resumed = train(config, tmp_path, strategy=strategies[order[1]])
    assert resumed.step == 10
    for one, other in zip(one_replica.weights, resumed.weights):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(metrics_lines(workdir), metrics_lines(tmp_path), strict=True):
        assert other["validation/mse"] == pytest.approx(one["validation/mse"], rel=1e-5)


def test_run_without_its_checkpoints_does_not_start_from_scratch(tmp_path, train, tiny):
    train(tiny, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="its checkpoints are missing"):
        train(tiny, tmp_path)


def test_run_with_max_steps_resumes_exactly(tmp_path, train, unbroken, four_epochs):
    config = dataclasses.replace(four_epochs, max_steps=7)
    resumed, steps = train_with_preemptions(train, config, tmp_path, itertools.cycle([3, 9]))
    assert len(steps) > 2 and resumed.step == 7
    assert_same(unbroken(config)[0], resumed, unbroken(config)[1], tmp_path)


def test_run_continues_exactly_with_more_steps(tmp_path, train, unbroken, four_epochs):
    """The epoch that was cut short continues, as if it had never been evaluated in between."""
    for max_steps in (2, 4, 7):
        train(dataclasses.replace(four_epochs, max_steps=max_steps), tmp_path)
    resumed = train(four_epochs, tmp_path)
    # The best loss may be that of one of the evaluations in between.
    resumed = dataclasses.replace(resumed, values=[*resumed.weights, *resumed.optimizer, resumed.loss_sums])
    state, workdir = unbroken(four_epochs)
    state = dataclasses.replace(state, values=[*state.weights, *state.optimizer, state.loss_sums])
    assert_same(state, resumed, workdir, tmp_path)


def test_classifier_learns_clusters_where_the_autoencoder_was_to_be_trained_longer(
    tmp_path, train, four_epochs, monkeypatch
):
    """With --epochs=30 no clusters are due yet at step 4 in the second epoch; with two epochs they are due before."""
    monkeypatch.setattr(trainer, "MAX_STEPS_PER_LOOP", 1)
    config = dataclasses.replace(four_epochs, **DEEP_CLUSTER | {"classifier_epochs": 1, "lr_schedule": "constant"})
    with pytest.raises(Preempted, match="at step 4;"):
        stop = lambda state: signal.SIGINT if state.global_step >= 4 else 0  # noqa: E731
        train(dataclasses.replace(config, epochs=30), tmp_path, poll_signal=stop)
    state = train(dataclasses.replace(config, epochs=2), tmp_path)
    assert state.step == 5
    (centroids,) = [each for each in state.weights if each.shape == (5, config.latent_dim)]
    assert centroids.any()
