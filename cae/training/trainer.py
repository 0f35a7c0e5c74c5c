"""The training loop: epochs of graph steps, and between them evaluation, summaries and checkpoints.

A run can be preempted in an epoch's steps, in its evaluation and in its checkpoint, and resumes with the same bits.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import tensorflow as tf

from cae import progress
from cae.config import Config
from cae.data import pipeline
from cae.errors import UserError
from cae.preemption import SIGNALS, Preempted
from cae.training import distribution
from cae.training.checkpoints import CheckpointManager
from cae.training.metric_writer import MetricWriter
from cae.training.objectives import Objective
from cae.training.phases import Phases
from cae.training.profiler import StepProfiler
from cae.training.train_state import TrainState, num_train_epochs, num_train_steps
from cae.training.train_step import MAX_CONSECUTIVE_NONFINITE_STEPS

TARGET_LOOP_SECONDS, MAX_STEPS_PER_LOOP = 0.5, 500
"""Duration of a call of the graph loop: long compared to the return to Python, and short enough to poll for signals."""

MAX_ROLLBACKS = 3
"""How often a run that diverges is rolled back to a checkpoint before it fails."""


class NonFiniteError(Exception):
    """Losses or gradients are not finite, and skipping steps does not help; the message says which."""


class Trainer:
    """Trains the model of a state; each worker has one.

    Args:
      strategy: What the state was created under.
      state: Its initial values are replaced by those of the latest checkpoint.
      objectives: What is minimized, by the epoch, counted from 1, from which it is.
      train_data: Batches.
      workdir: The run's folder.
      run_config: The content of its config.json.
      poll_signal: Returns the number of the signal that was received, or 0.
      profile_steps: The first and the last step to profile, counted from 1, if any.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        state: TrainState,
        objectives: dict[int, Objective],
        train_data: pipeline.TrainData,
        workdir: Path,
        run_config: dict[str, Any],
        poll_signal: Callable[[], int] = lambda: 0,
        profile_steps: tuple[int, int] | None = None,
    ):
        config = Config.from_dict(run_config["config"])
        self._strategy, self._state, self._train_data, self._workdir = strategy, state, train_data, workdir
        self._total_steps, self._poll_signal = num_train_steps(config, train_data), poll_signal
        self._num_epochs = num_train_epochs(config, train_data)
        self._checkpoint_interval_seconds = 60 * config.checkpoint_interval_minutes
        self._is_chief = distribution.is_chief(strategy)
        self._checkpoints = CheckpointManager(workdir / "checkpoints", state, write=self._is_chief)
        self._writer = MetricWriter(workdir, run_config, train_data, state, self._is_chief)
        self._profiler = StepProfiler(
            workdir / "tensorboard" / "train",
            profile_steps if self._is_chief else None,
            self._writer.log,
            self._writer.write_graph,
        )
        self._phases = Phases(strategy, state, objectives, train_data)
        self._cross_worker_sum = distribution.make_cross_worker_sum(strategy)
        self._steps_per_loop, self._last_checkpoint = 1, time.monotonic()

    def train(self) -> None:
        """Trains from the latest checkpoint, or from the start, to the last step.

        Raises:
          Preempted: A signal was received; the state is saved.
          UserError: The run keeps diverging, or its files can't be written or read.
        """
        try:
            with contextlib.closing(self._profiler):
                self._train()
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"{self._workdir} can't be written; earlier checkpoints are intact: {why}") from error

    def _train(self) -> None:
        state = self._state
        self._writer.log_corrupt_checkpoints(self._checkpoints.restore_latest())
        self._check_resume_consistency()
        self._reopen_last_epoch()
        if state.completed_epochs >= self._num_epochs:
            done = f"training already complete ({state.completed_epochs} epochs, step {state.global_step})"
            return self._writer.log(f"{done}; increase --epochs/--max_steps to continue")
        if state.global_step == 0:
            self._checkpoints.save_epoch()  # To roll back to; a folder that can't be written is noticed now.
        try:
            with contextlib.closing(self._writer):
                self._writer.start(self._strategy.num_replicas_in_sync)
                self._train_epochs()
                self._sync_and_maybe_checkpoint()
        except Preempted:
            self._checkpoints.save()
            # A launcher may end all workers as soon as one has ended: the chief has written the checkpoint by then.
            self._cross_worker_sum([0.0])
            raise

    def _train_epochs(self) -> None:
        state = self._state
        while state.completed_epochs < self._num_epochs:
            batches = self._train_data.train(state.global_step, self._total_steps)
            batches = iter(distribution.distribute_dataset(self._strategy, batches, infinite=True))
            try:
                while state.completed_epochs < self._num_epochs:
                    self._train_epoch(state.completed_epochs + 1, batches)
            except NonFiniteError as error:
                self._roll_back(error)

    def _last_step(self, epoch: int) -> int:
        return min(self._train_data.num_steps(epoch), self._total_steps)

    def _train_epoch(self, epoch: int, batches: Iterator) -> None:
        state, start, first_step = self._state, time.monotonic(), self._state.global_step
        is_first_step = first_step == self._last_step(epoch - 1)
        phase = self._phases.start(epoch, is_first_step)
        if is_first_step:
            state.epoch_metrics.reset_state()
        self._take_steps(epoch, batches, phase.train_steps)
        train_seconds = time.monotonic() - start
        with progress.phase("validation", bar=False):
            scalars = self._evaluate(phase.evaluate) | {
                "images_per_second": (state.global_step - first_step) * self._train_data.batch_size / train_seconds,
                "rss_mib": psutil.Process().memory_info().rss / 2**20,
                "epoch_seconds": time.monotonic() - start,
            }
            is_best = scalars["validation/loss"] < float(state.best_loss.numpy())
            # Before the checkpoint: a run that resumes from an earlier one removes what was written after it.
            self._writer.write_epoch(epoch, scalars)
            state.end_epoch(epoch)
            if is_best:
                # In all but the last phase the newest model is the best.
                if epoch >= self._phases.last:
                    state.best_loss.assign(scalars["validation/loss"])
                self._checkpoints.save_best()
            self._checkpoints.save_epoch()
            self._last_checkpoint = time.monotonic()
        self._writer.log_epoch(epoch, scalars, is_best)

    def _take_steps(self, epoch: int, batches: Iterator, train_steps: Callable) -> None:
        """Takes the remaining steps of an epoch."""
        state = self._state
        while (remaining := self._last_step(epoch) - state.global_step) > 0:
            num_steps = min(self._sync_and_maybe_checkpoint(in_epoch=True), remaining)
            start, first_step = time.monotonic(), state.global_step
            losses, applied_steps = self._profiler.call(first_step, train_steps, batches, tf.constant(num_steps))
            taken = state.global_step - first_step
            if int(state.epoch_metrics.consecutive_skipped.numpy()) >= MAX_CONSECUTIVE_NONFINITE_STEPS:
                raise NonFiniteError(
                    f"the loss or its gradients were not finite in {MAX_CONSECUTIVE_NONFINITE_STEPS} consecutive steps"
                )
            self._writer.advance(epoch, taken, float(losses["loss"]) / max(int(applied_steps), 1))
            # The first call takes longer than its step, since it traces; the second corrects the number.
            steps_per_loop = int(TARGET_LOOP_SECONDS * taken / (time.monotonic() - start))
            self._steps_per_loop = max(1, min(MAX_STEPS_PER_LOOP, steps_per_loop))

    def _evaluate(self, evaluate: Callable[..., dict[str, float]]) -> dict[str, float]:
        """Returns the scalars of an epoch, which are the same however often it is evaluated."""
        state = self._state
        validation = evaluate(self._train_data.validation, self._sync_and_maybe_checkpoint)
        train_eval = evaluate(self._train_data.train_eval, self._sync_and_maybe_checkpoint)
        if not math.isfinite(validation["loss"]):
            raise NonFiniteError("the validation loss is not finite")
        return {
            **{f"train/{name}": mean for name, mean in state.epoch_metrics.means().items()},
            **{f"train/{name}": train_eval[name] for name in ("psnr", "ssim")},
            **{f"validation/{name}": mean for name, mean in validation.items()},
            "learning_rate": float(state.optimizer.learning_rate.numpy()),  # `float` alone fails on a mirrored one.
            "nonfinite_steps": int(state.epoch_metrics.nonfinite_steps.numpy()),
            "rollbacks": int(state.rollbacks.numpy()),
        }

    def _sync_and_maybe_checkpoint(self, in_epoch: bool = False) -> int:
        """Ends the run if a signal was received, and saves a checkpoint if one is due; returns the steps of a loop.

        A checkpoint is due only in an epoch. All workers do the same: signals are summed, and the chief's clock counts.
        """
        due = in_epoch and time.monotonic() - self._last_checkpoint > self._checkpoint_interval_seconds
        received = [float(self._poll_signal() == number) for number in SIGNALS]
        steps_per_loop = self._profiler.limit(self._state.global_step, self._steps_per_loop)
        of_chief = [float(due), steps_per_loop] if self._is_chief else [0.0, 0.0]
        *received, due, steps_per_loop = self._cross_worker_sum([*received, *of_chief])
        for number, count in zip(SIGNALS, received, strict=True):
            if count:
                raise Preempted(number, f"preempted at step {self._state.global_step}; checkpoint saved")
        if due:
            self._checkpoints.save()
            self._last_checkpoint = time.monotonic()
        return round(steps_per_loop)

    def _roll_back(self, error: NonFiniteError) -> None:
        """Restores the end of the last epoch and halves the learning rate; raises `UserError` after `MAX_ROLLBACKS`."""
        self._profiler.stop()
        state, reason = self._state, f"{error} up to step {self._state.global_step}"
        rollbacks, nonfinite_steps = int(state.rollbacks.numpy()) + 1, int(state.epoch_metrics.nonfinite_steps.numpy())
        if rollbacks > MAX_ROLLBACKS:
            raise UserError(
                f"{reason}; diverged again after {MAX_ROLLBACKS} rollbacks; earlier checkpoints are intact. Try a lower"
                " --learning_rate, another --precision or another --seed, in a new --workdir"
            ) from error
        self._writer.log_corrupt_checkpoints(self._checkpoints.restore_last_epoch())
        self._reopen_last_epoch()
        state.apply_rollback(rollbacks, nonfinite_steps)
        self._writer.roll_back(
            f"{reason}; learning rate scaled by {0.5**rollbacks:g}, rollback {rollbacks} of {MAX_ROLLBACKS}"
        )

    def _reopen_last_epoch(self) -> None:
        """Continues the last epoch, if a lower --max_steps ended it before its last image."""
        if self._state.global_step < self._last_step(self._state.completed_epochs):
            self._state.epoch.assign_sub(1)

    def _check_resume_consistency(self) -> None:
        """Raises `UserError` if the run's checkpoints are missing, or if workers see different ones."""
        steps, workers = self._cross_worker_sum([self._state.global_step, 1.0])
        if steps != self._state.global_step * workers:
            raise UserError(f"--workdir={self._workdir} must be on storage shared by all workers")
        metrics = self._workdir / "metrics.jsonl"
        if not self._checkpoints.restored and metrics.exists() and metrics.stat().st_size:
            raise UserError(
                f"{self._workdir} has metrics of a run, but its checkpoints are missing: restore them, or use another"
                " --workdir to start from scratch"
            )
