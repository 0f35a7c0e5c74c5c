"""Fitting a model: epochs of graph steps, and between them measurements, reports and checkpoints.

An epoch is three things, in each of which a run can be interrupted and gone on with: its steps, what the model is then
measured to be, and the checkpoint that says that both are done.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import tensorflow as tf

from cae.data.pipeline import Feed
from cae.errors import UserError, raised_in_graph
from cae.interrupts import SIGNALS, Interrupted
from cae.training import distribution
from cae.training.checkpoint import Checkpoints
from cae.training.objectives import Objective
from cae.training.reporting import Reporter
from cae.training.state import State
from cae.training.steps import MOST_IN_A_ROW, make_measure, make_train_steps

SECONDS_PER_CALL, MOST_STEPS_PER_CALL = 0.5, 500
"""Graph steps between two looks from Python take so long: enough to hide its cost, little enough to end at a signal."""

TIMES_BACK = 3
"""How often a run whose numbers are no longer finite goes back to a checkpoint, before it is given up."""


class NotFiniteError(Exception):
    """Numbers are no longer finite, and it is no accident; the text says which."""


def fit(
    strategy: tf.distribute.Strategy,
    state: State,
    objective: Objective,
    feed: Feed,
    workdir: Path,
    record: dict[str, Any],
    asked: Callable[[], int] = lambda: 0,
) -> None:
    """Fits the state's model as the run's record says, from the newest checkpoint in `workdir` or from the start.

    asked: returns the number of a signal that asks for an end, or 0; at the next step `Interrupted` is raised then,
    with all that was done saved. Raises `UserError` where numbers stay not finite, where nothing can be written, and
    where another machine is gone.
    """
    try:
        Fitting(strategy, state, objective, feed, workdir, record, asked).run()
    except OSError as error:
        raise UserError(
            f"{workdir} cannot be written, and what is there stays good: {error.strerror or error}"
        ) from error
    except tf.errors.OpError as error:
        if raised_in_graph(error) or not distribution.is_on_several_machines(strategy):
            raise
        raise UserError(
            "another machine ended or can't be reached any more; the same commands, started on all of them, go on from"
            " the last checkpoint"
        ) from error


class Fitting:
    """A run on its way from wherever it is to the end of its last epoch; one for each process that takes part."""

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        state: State,
        objective: Objective,
        feed: Feed,
        workdir: Path,
        record: dict[str, Any],
        asked: Callable[[], int],
    ):
        self._strategy, self._state, self._objective, self._feed = strategy, state, objective, feed
        self._workdir, self._asked = workdir, asked
        self._epochs = record["settings"]["epochs"]
        self._seconds_between_saves = 60 * record["settings"]["checkpoint_minutes"]
        self._is_chief = distribution.is_chief(strategy)
        self._checkpoints = Checkpoints(workdir / "checkpoints", state, writes=self._is_chief)
        self._reporter = Reporter(workdir, record, feed, state, speaks=self._is_chief)
        self._train_steps = make_train_steps(strategy, state, objective, feed.batch_size)
        self._measure = make_measure(strategy, state.model, objective)
        self._sum_over_workers = distribution.make_sum_over_workers(strategy)
        self._steps_per_call, self._is_traced, self._last_save = 1, False, time.monotonic()

    def run(self) -> None:
        """Fits the model; raises what `fit` does."""
        state = self._state
        self._reporter.damaged(self._checkpoints.restore_newest())
        self._refuse_what_is_lost()
        if state.epochs >= self._epochs:
            done = f"already trained for {state.epochs} epochs (step {state.steps})"
            return self._reporter.say(f"{done}; a larger --epochs goes on")
        if state.steps == 0:
            self._checkpoints.save_epoch()  # To go back to; and a disk that can't be written is found out now.
        try:
            with self._reporter:
                self._reporter.start(self._strategy.num_replicas_in_sync)
                self._run_epochs()
                self._look_up()
        except Interrupted:
            self._checkpoints.save()
            raise

    def _run_epochs(self) -> None:
        batches = self._batches()
        while self._state.epochs < self._epochs:
            try:
                self._run_epoch(self._state.epochs + 1, batches)
            except NotFiniteError as error:
                self._go_back(error)
                batches = self._batches()

    def _batches(self) -> Iterator:
        batches = self._feed.training(self._state.steps, self._feed.steps(self._epochs))
        return iter(distribution.shared_out(self._strategy, batches, endless=True))

    def _run_epoch(self, epoch: int, batches: Iterator) -> None:
        start, steps = time.monotonic(), self._train(epoch, batches)
        trained = time.monotonic() - start
        scalars = self._measured() | {
            "images_per_second": steps * self._feed.batch_size / trained,
            "memory_mib": psutil.Process().memory_info().rss / 2**20,
            "seconds": time.monotonic() - start,
        }
        best = scalars["validation/loss"] < float(self._state.best_loss.numpy())
        # Events first: what was written past a checkpoint is dropped by the run that goes on from there.
        self._reporter.write_epoch(epoch, scalars)
        self._state.end_epoch(epoch)
        if best:
            self._state.best_loss.assign(scalars["validation/loss"])
            self._checkpoints.save_best()
        self._checkpoints.save_epoch()
        self._last_save = time.monotonic()
        self._reporter.say_epoch(epoch, scalars, best)

    def _train(self, epoch: int, batches: Iterator) -> int:
        """Takes the steps that are left of an epoch and returns how many those were."""
        state, first = self._state, self._state.steps
        while (left := self._feed.steps(epoch) - state.steps) > 0:
            count = min(self._look_up(save=True), left)
            start, before = time.monotonic(), state.steps
            losses, good = self._train_steps(batches, tf.constant(count))
            taken = state.steps - before
            if int(state.tally.in_a_row.numpy()) >= MOST_IN_A_ROW:
                raise NotFiniteError(f"the loss or its gradients were not finite in {MOST_IN_A_ROW} steps in a row")
            self._reporter.advance(epoch, taken, float(losses["loss"]) / max(int(good), 1))
            if self._is_traced:  # Before, a call says nothing of how long a step takes.
                seconds = (time.monotonic() - start) / taken
                self._steps_per_call = max(1, min(MOST_STEPS_PER_CALL, int(SECONDS_PER_CALL / seconds)))
            self._is_traced = True
        return state.steps - first

    def _measured(self) -> dict[str, float]:
        """Returns what the epoch came to and what the model is measured to be; the same however often it is done."""
        state, shared_out = self._state, distribution.shared_out
        measured = self._measure(shared_out(self._strategy, self._feed.validation), self._look_up)
        sampled = self._measure(shared_out(self._strategy, self._feed.sample), self._look_up)
        if not -float("inf") < measured["loss"] < float("inf"):
            raise NotFiniteError("the validation loss is not finite")
        return {
            **{f"train/{name}": mean for name, mean in zip(self._objective.parts, state.tally.means(), strict=True)},
            "train/psnr": sampled["psnr"],
            "train/ssim": sampled["ssim"],
            **{f"validation/{name}": value for name, value in measured.items()},
            "learning_rate": float(state.optimizer.learning_rate.numpy()),  # `float` alone fails on a mirrored one.
            "skipped_steps": int(state.tally.skipped.numpy()),
            "times_back": int(state.times_back.numpy()),
        }

    def _look_up(self, save: bool = False) -> int:
        """Ends the run where a signal asks for it, saves where it is time to; returns how many steps to take at once.

        All machines do the same at the same step: each tells the others of its signals, and the first of its clock.
        """
        due = save and time.monotonic() - self._last_save > self._seconds_between_saves
        own = [float(self._asked() == number) for number in SIGNALS]
        chief_says = [float(due), self._steps_per_call] if self._is_chief else [0.0, 0.0]
        *signals, due, count = self._sum_over_workers([*own, *chief_says])
        for number, received in zip(SIGNALS, signals, strict=True):
            if received:
                raise Interrupted(number, f"interrupted at step {self._state.steps}, which is saved")
        if due:
            self._checkpoints.save()
            self._last_save = time.monotonic()
        return round(count)

    def _go_back(self, error: NotFiniteError) -> None:
        """Goes back to the end of the last epoch with half the learning rate, or gives up."""
        state, why = self._state, f"{error} up to step {self._state.steps}"
        times, skipped = int(state.times_back.numpy()) + 1, state.tally.skipped.numpy()
        if times > TIMES_BACK:
            raise UserError(
                f"{why}, although the run went back {TIMES_BACK} times; its checkpoints stay good. A lower"
                " --learning_rate, another --precision or another --seed, in another --workdir, may go further"
            ) from error
        self._reporter.damaged(self._checkpoints.go_back())
        state.slow_down(times)
        state.tally.skipped.assign(skipped)
        self._reporter.go_back(f"{why}; {0.5**times:g} of the learning rate from now on, {times} of {TIMES_BACK} times")

    def _refuse_what_is_lost(self) -> None:
        """Raises `UserError` where there was a run but no checkpoint of it is left, or machines see different ones."""
        steps, workers = self._sum_over_workers([self._state.steps, 1.0])
        if steps != self._state.steps * workers:
            raise UserError(f"--workdir={self._workdir} must be one folder for all machines: they see others")
        metrics = self._workdir / "metrics.jsonl"
        if not self._checkpoints.restored and metrics.exists() and metrics.stat().st_size:
            raise UserError(
                f"{self._workdir} has metrics of a run, but its checkpoints are gone: put them back, or name another"
                " --workdir to start afresh"
            )
