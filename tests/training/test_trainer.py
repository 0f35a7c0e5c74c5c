import dataclasses
import itertools
import re
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf
import trainings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import TIMINGS, assert_same, metrics_lines

from benchmarks import fault_injection
from cae.config import Config
from cae.data import datasets, noise, pipeline
from cae.errors import UserError
from cae.preemption import Preempted
from cae.training import train_step, trainer
from cae.training.checkpoints import CheckpointManager
from cae.training.train_state import TrainState

MAX_SKIPPED = 5
"""Consecutive skipped steps here, after which a run is rolled back; test_train_step.py has as many as real runs."""


@pytest.fixture(autouse=True)
def same_loops_on_any_machine(monkeypatch):
    """From the third call of the graph loop on, each takes all steps that remain of an epoch, on any machine."""
    monkeypatch.setattr(trainer, "TARGET_LOOP_SECONDS", 1e9)


@pytest.fixture(scope="module", autouse=True)
def few_skipped_steps():
    """For the module, since graph functions are traced with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_step, "MAX_CONSECUTIVE_NONFINITE_STEPS", MAX_SKIPPED)
        patch.setattr(trainer, "MAX_CONSECUTIVE_NONFINITE_STEPS", MAX_SKIPPED)
        yield


@pytest.fixture(scope="module")
def state_cache():
    """Graph functions with the module's `MAX_SKIPPED`."""
    return trainings.StateCache()


@pytest.fixture
def train(state_cache, dataset):
    """Trains as a new process does."""
    return lambda config, workdir, **options: trainings.train(state_cache, dataset, config, workdir, **options)


@pytest.fixture(scope="module")
def unbroken(state_cache, dataset, tmp_path_factory):
    """Runs that are never interrupted, by configuration: the final state and the folder."""
    runs = {}

    def get(config):
        if config not in runs:
            workdir = tmp_path_factory.mktemp("unbroken")
            runs[config] = trainings.train(state_cache, dataset, config, workdir), workdir
        return runs[config]

    return get


@pytest.fixture
def four_epochs(tiny):
    """20 images in batches of 8: epochs end after 20, 40, 60 and 80 images, in steps 3, 5, 8 and 10."""
    return dataclasses.replace(tiny, epochs=4)


def test_metrics_have_a_line_per_epoch(unbroken, four_epochs):
    _, workdir = unbroken(four_epochs)
    assert [(line["epoch"], line["step"]) for line in metrics_lines(workdir)] == [(1, 3), (2, 5), (3, 8), (4, 10)]
    expected = {"train/loss", "train/psnr", "train/ssim", "learning_rate", "rollbacks", "nonfinite_steps"} | TIMINGS
    expected |= {f"validation/{name}" for name in ("loss", "mse", "psnr", "ssim")}
    assert expected <= metrics_lines(workdir)[0].keys()


# --- Preemption and resume --------------------------------------------------------------------------------------------


class PreemptAfter:
    """A signal that arrives when the run polls for the given time; it polls for two signals each time."""

    def __init__(self, polls):
        self.remaining = 2 * polls

    def __call__(self, state):
        self.remaining -= 1
        return signal.SIGTERM if self.remaining <= 0 else 0


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
    """It polls before each call of the graph loop, and after each of five batches of an epoch's evaluation."""
    resumed, steps = train_with_preemptions(train, four_epochs, tmp_path, itertools.cycle([3, 9]))
    assert len(steps) > 3 and unbroken(four_epochs)[0].step == resumed.step == 10
    assert_same(unbroken(four_epochs)[0], resumed, unbroken(four_epochs)[1], tmp_path)


CHANGES = [
    {"lr_schedule": "cosine"},
    {"optimizer": "muon", "base_filters": 16, "model": "unet"},
    {"regularizer": "acai"},
    {"model": "vae"},
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


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["one to two replicas", "two to one"])
def test_run_resumes_with_another_number_of_replicas(tmp_path, train, unbroken, four_epochs, mirrored, order):
    strategies = [tf.distribute.get_strategy(), mirrored]
    one_replica, workdir = unbroken(four_epochs)
    train(dataclasses.replace(four_epochs, epochs=2), tmp_path, strategy=strategies[order[0]])
    resumed = train(four_epochs, tmp_path, strategy=strategies[order[1]])
    assert resumed.step == 10
    for one, other in zip(one_replica.weights, resumed.weights):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(metrics_lines(workdir), metrics_lines(tmp_path), strict=True):
        assert other["validation/mse"] == pytest.approx(one["validation/mse"], rel=1e-5)


def test_checkpoints_are_saved_within_an_epoch(tmp_path, train, tiny, monkeypatch):
    steps = []
    monkeypatch.setattr(trainer.CheckpointManager, "save", lambda self: steps.append(self._state.global_step))
    train(dataclasses.replace(tiny, epochs=2, checkpoint_interval_minutes=0), tmp_path / "short")
    assert steps and set(steps) < set(range(6))
    steps.clear()
    train(dataclasses.replace(tiny, epochs=2), tmp_path / "long")
    assert steps == []


def test_run_without_its_checkpoints_does_not_start_from_scratch(tmp_path, train, tiny):
    train(tiny, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(UserError, match="its checkpoints are missing"):
        train(tiny, tmp_path)


def test_complete_run_says_so_and_is_left_as_it_is(tmp_path, train, tiny, capsys):
    train(tiny, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    train(tiny, tmp_path)
    complete = "training already complete (1 epochs, step 3); increase --epochs/--max_steps to continue"
    assert complete in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_text() == before
    train(dataclasses.replace(tiny, epochs=2), tmp_path)
    assert len(metrics_lines(tmp_path)) == 2


def test_run_training_trains_a_configured_model(tmp_path):
    config = Config(dataset="digits", latent_dim=4, base_filters=4, batch_size=128, max_steps=2)
    trainer.run_training(tf.distribute.get_strategy(), config, datasets.open_dataset(config), tmp_path)
    assert [line["step"] for line in metrics_lines(tmp_path)] == [2]
    other = dataclasses.replace(config, latent_dim=5)
    with pytest.raises(UserError, match="different config: latent_dim=4"):
        trainer.run_training(tf.distribute.get_strategy(), other, datasets.open_dataset(other), tmp_path)


# --- A maximum number of steps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_steps", [2, 7, 8])
def test_run_ends_after_max_steps_with_an_evaluated_epoch(tmp_path, train, four_epochs, capsys, max_steps):
    """Steps 2 and 7 lie within the first and the third epoch; the third ends in step 8."""
    config = dataclasses.replace(four_epochs, max_steps=max_steps)
    state = train(config, tmp_path)
    epoch = 1 if max_steps == 2 else 3
    assert (state.step, state.epoch) == (max_steps, epoch)
    line = metrics_lines(tmp_path)[-1]
    assert (line["epoch"], line["step"]) == (epoch, max_steps) and np.isfinite(line["validation/loss"])
    train(config, tmp_path)
    assert f"training already complete ({epoch} epochs, step {max_steps})" in capsys.readouterr().out


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


def test_schedule_spans_max_steps(tmp_path, train, four_epochs):
    train(dataclasses.replace(four_epochs, lr_schedule="cosine", max_steps=7), tmp_path)
    # The learning rate after the last step is that of the end of the schedule.
    assert metrics_lines(tmp_path)[-1]["learning_rate"] == pytest.approx(0, abs=1e-9)


# --- Scalars of objectives --------------------------------------------------------------------------------------------


def test_loss_terms_and_prior_samples_are_in_tensorboard(tmp_path, train, unbroken, tiny, four_epochs):
    train(dataclasses.replace(tiny, model="vae", beta=2.0), tmp_path, image_summaries=True)
    (line,) = metrics_lines(tmp_path)
    num_pixels = 16 * 16
    for split in ("train", "validation"):
        loss = line[f"{split}/reconstruction_loss"] + 2 * line[f"{split}/kl_loss"] / num_pixels
        assert line[f"{split}/loss"] == pytest.approx(loss, rel=1e-4)
    events = EventAccumulator(str(tmp_path / "tensorboard/validation"), size_guidance={"tensors": 0}).Reload()
    assert {"reconstructions", "prior_samples", "kl_loss", "reconstruction_loss"} <= set(events.Tags()["tensors"])
    for line in metrics_lines(unbroken(dataclasses.replace(four_epochs, regularizer="acai"))[1]):
        expected = line["train/reconstruction_loss"] + 0.125 * line["train/adversarial_loss"]
        assert line["train/loss"] == pytest.approx(expected)


# --- Steps that are not finite, and rollbacks -------------------------------------------------------------------------


@pytest.fixture
def nan_between(dataset):
    """Makes batches of the data set, of which some steps' inputs are NaN."""

    def make(config, first, last):
        corruption = noise.parse_noise(config.noise)

        def train_batches(first_step, last_step):
            train_data = pipeline.make_train_data(dataset, corruption, config.batch_size, config.seed)
            steps, nan = tf.data.Dataset.range(first_step, last_step), tf.constant(float("nan"))
            return tf.data.Dataset.zip(steps, train_data.train(first_step, last_step)).map(
                lambda step, batch: batch | {"input": tf.where((step >= first) & (step < last), nan, batch["input"])}
            )

        return train_batches

    return make


def test_nonfinite_step_is_counted_and_the_run_continues(tmp_path, train, nan_between, tiny):
    config = dataclasses.replace(tiny, epochs=3)
    train(config, tmp_path, train_batches=nan_between(config, 4, 5))
    # Step 4 lies in the second epoch.
    assert [line["nonfinite_steps"] for line in metrics_lines(tmp_path)] == [0, 1, 1]
    assert all(np.isfinite(line["train/loss"]) for line in metrics_lines(tmp_path))
    events = EventAccumulator(str(tmp_path / "tensorboard/train"), size_guidance={"tensors": 0}).Reload()
    assert [float(tf.make_ndarray(each.tensor_proto)) for each in events.Tensors("nonfinite_steps")] == [0, 1, 1]


class TemporaryFault:
    """A fault that is gone after some tries, like one that a lower learning rate cures."""

    def __init__(self, good, bad, tries):
        self.good, self.bad, self.tries = good, bad, tries

    def __call__(self, first_step, last_step):
        self.tries -= 1
        return (self.bad if self.tries >= 0 else self.good)(first_step, last_step)


@pytest.fixture
def six_epochs(tiny):
    """15 steps, of which those from step 9 on may be NaN: a run is rolled back after step 14, to 8, the third epoch."""
    return dataclasses.replace(tiny, epochs=6)


@pytest.mark.parametrize("tries", [1, 3])
def test_diverged_run_is_rolled_back_with_a_lower_learning_rate(
    tmp_path, train, nan_between, six_epochs, capsys, tries
):
    bad, good = (nan_between(six_epochs, 9, last) for last in (15, 9))
    state = train(six_epochs, tmp_path, train_batches=TemporaryFault(good, bad, tries))
    assert state.step == 15 and state.rollbacks == tries
    assert f"learning rate scaled by {0.5**tries:g}, rollback {tries} of 3" in capsys.readouterr().out
    lines = metrics_lines(tmp_path)
    assert [line["epoch"] for line in lines] == list(range(1, 7))
    assert [line["learning_rate"] for line in lines[2:4]] == pytest.approx([1e-3, 0.5**tries * 1e-3])
    assert lines[3]["nonfinite_steps"] == tries * MAX_SKIPPED and lines[3]["rollbacks"] == tries


def test_run_that_keeps_diverging_fails_with_intact_checkpoints(tmp_path, train, state_cache, nan_between, six_epochs):
    with pytest.raises(UserError, match="diverged again after 3 rollbacks; earlier checkpoints are intact"):
        train(six_epochs, tmp_path, train_batches=nan_between(six_epochs, 9, 15))
    state = state_cache.state(tf.distribute.get_strategy(), six_epochs)
    assert CheckpointManager(tmp_path / "checkpoints", state).restore_latest() == []
    assert state.global_step > 0 and all(np.isfinite(weight).all() for weight in state.model.get_weights())


def test_rolled_back_run_that_is_preempted_equals_the_unbroken_run(tmp_path, train, nan_between, six_epochs):
    bad, good = (nan_between(six_epochs, 9, last) for last in (15, 9))
    expected = train(six_epochs, tmp_path / "unbroken", train_batches=TemporaryFault(good, bad, 1))
    # Preempted in the steps that are NaN, and again some steps after the rollback.
    with pytest.raises(Preempted, match="at step 13;"):
        train(six_epochs, tmp_path / "preempted", train_batches=bad, poll_signal=PreemptAfter(30))
    with pytest.raises(Preempted, match="at step 10;"):
        faults = TemporaryFault(good, bad, 1)
        train(six_epochs, tmp_path / "preempted", train_batches=faults, poll_signal=PreemptAfter(11))
    resumed = train(six_epochs, tmp_path / "preempted", train_batches=good)
    assert resumed.rollbacks == 1
    assert_same(expected, resumed, tmp_path / "unbroken", tmp_path / "preempted")
