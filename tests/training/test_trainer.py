"""Whole runs: their length and scalars, steps that are not finite, and rollbacks."""

import dataclasses
import signal

import numpy as np
import pytest
import tensorflow as tf
import trainings
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import TIMINGS, assert_same, metrics_lines

from cae.config import Config
from cae.data import datasets, noise, pipeline
from cae.errors import UserError
from cae.preemption import Preempted
from cae.training import distribution, train_step, trainer
from cae.training import train as training
from cae.training.checkpoints import CheckpointManager
from cae.training.train import run_training

pytestmark = pytest.mark.usefixtures("same_loops_on_any_machine")

MAX_SKIPPED = 5
"""Consecutive skipped steps here, after which a run is rolled back; test_train_step.py has as many as real runs."""


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


def test_metrics_have_a_line_per_epoch(unbroken, four_epochs):
    _, workdir = unbroken(four_epochs)
    assert [(line["epoch"], line["step"]) for line in metrics_lines(workdir)] == [(1, 3), (2, 5), (3, 8), (4, 10)]
    expected = {"train/loss", "train/psnr", "train/ssim", "learning_rate", "rollbacks", "nonfinite_steps"} | TIMINGS
    expected |= {f"validation/{name}" for name in ("loss", "mse", "psnr", "ssim")}
    assert expected <= metrics_lines(workdir)[0].keys()


def test_checkpoints_are_saved_within_an_epoch(tmp_path, train, tiny, monkeypatch):
    steps = []
    monkeypatch.setattr(trainer.CheckpointManager, "save", lambda self: steps.append(self._state.global_step))
    train(dataclasses.replace(tiny, epochs=2, checkpoint_interval_minutes=0), tmp_path / "short")
    assert steps and set(steps) < set(range(6))
    steps.clear()
    train(dataclasses.replace(tiny, epochs=2), tmp_path / "long")
    assert steps == []


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
    run_training(tf.distribute.get_strategy(), config, datasets.open_dataset(config), tmp_path)
    assert [line["step"] for line in metrics_lines(tmp_path)] == [2]
    other = dataclasses.replace(config, latent_dim=5)
    with pytest.raises(UserError, match="different config: latent_dim=4"):
        run_training(tf.distribute.get_strategy(), other, datasets.open_dataset(other), tmp_path)


@pytest.mark.parametrize(
    "error, raised, message",
    [
        (tf.errors.UnavailableError, UserError, "lost connection to another worker"),
        (tf.errors.ResourceExhaustedError, tf.errors.ResourceExhaustedError, "the reason"),
        (tf.errors.InvalidArgumentError, tf.errors.InvalidArgumentError, "the reason"),
    ],
)
def test_only_errors_of_connections_are_ascribed_to_other_workers(tmp_path, tiny, monkeypatch, error, raised, message):
    def fail(*_):
        raise error(None, None, "the reason")

    monkeypatch.setattr(distribution, "is_multi_worker", lambda strategy: True)
    monkeypatch.setattr(training, "_make_trainer", fail)  # The first variables are those of the chief.
    with pytest.raises(raised, match=message):
        run_training(tf.distribute.get_strategy(), tiny, None, tmp_path)


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
    assert {f"images/epoch/{name}" for name in ("reconstructions", "prior_samples")} <= set(events.Tags()["tensors"])
    assert {"epoch/kl_loss", "epoch/reconstruction_loss"} <= set(events.Tags()["tensors"])
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
    assert [float(tf.make_ndarray(each.tensor_proto)) for each in events.Tensors("system/nonfinite_steps")] == [0, 1, 1]


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


def preempt_at(step):
    """Returns a signal that arrives when the run polls at a step."""
    return lambda state: signal.SIGTERM * (state.global_step == step)


def test_no_worker_ends_before_the_chief_has_saved_the_checkpoint(tmp_path, train, four_epochs, monkeypatch):
    calls = []

    def record(name, function):
        return lambda *arguments: (calls.append(name), function(*arguments))[1]

    make_sum, save = distribution.make_cross_worker_sum, CheckpointManager.save
    monkeypatch.setattr(distribution, "make_cross_worker_sum", lambda strategy: record("sum", make_sum(strategy)))
    monkeypatch.setattr(CheckpointManager, "save", record("save", save))
    with pytest.raises(Preempted):
        train(four_epochs, tmp_path, poll_signal=preempt_at(5))
    assert calls[-3:] == ["sum", "save", "sum"]


def test_event_files_that_cannot_be_written_are_named_as_other_files_are(tmp_path, train, four_epochs, monkeypatch):
    def fail(path):
        raise tf.errors.ResourceExhaustedError(None, None, f"{path}; No space left on device")

    monkeypatch.setattr(tf.io, "TFRecordWriter", fail)
    with pytest.raises(Preempted):
        train(four_epochs, tmp_path, poll_signal=preempt_at(5))
    with pytest.raises(UserError, match="can't be written; earlier checkpoints are intact"):
        train(four_epochs, tmp_path)


def test_rolled_back_run_that_is_preempted_equals_the_unbroken_run(tmp_path, train, nan_between, six_epochs):
    bad, good = (nan_between(six_epochs, 9, last) for last in (15, 9))
    expected = train(six_epochs, tmp_path / "unbroken", train_batches=TemporaryFault(good, bad, 1))
    # Preempted in the steps that are NaN, and again some steps after the rollback.
    with pytest.raises(Preempted, match="at step 13;"):
        train(six_epochs, tmp_path / "preempted", train_batches=bad, poll_signal=preempt_at(13))
    with pytest.raises(Preempted, match="at step 10;"):
        faults = TemporaryFault(good, bad, 1)
        train(six_epochs, tmp_path / "preempted", train_batches=faults, poll_signal=preempt_at(10))
    resumed = train(six_epochs, tmp_path / "preempted", train_batches=good)
    assert resumed.rollbacks == 1
    assert_same(expected, resumed, tmp_path / "unbroken", tmp_path / "preempted")
