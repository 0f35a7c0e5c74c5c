"""Fitting a model: epochs of graph steps, and between them measurements, events, pictures and checkpoints."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import psutil
import tensorflow as tf

from cae.data.pipeline import Feed
from cae.errors import UserError
from cae.report import figures
from cae.training.checkpoint import Checkpoints
from cae.training.objectives import Objective
from cae.training.progress import Progress
from cae.training.state import State
from cae.training.steps import make_measure, make_train_steps
from cae.training.summaries import Summaries, settings_table

STEPS_PER_CALL = 32
"""Graph steps between two looks from Python: enough to hide its cost, few enough for the bar to move."""

EXAMPLES, SAMPLES = 8, 64
"""Images in TensorBoard's pictures."""


def fit(
    strategy: tf.distribute.Strategy,
    state: State,
    objective: Objective,
    feed: Feed,
    workdir: Path,
    record: dict[str, Any],
) -> None:
    """Fits the state's model as the run's record says, from the newest checkpoint in `workdir` or from the start.

    Raises `UserError`, naming the step, where the loss is no longer finite; that state is not saved.
    """
    epochs, pictures_every = record["settings"]["epochs"], record["settings"]["pictures_every"]
    checkpoints = Checkpoints(workdir / "checkpoints", state)
    passed_over = checkpoints.restore_newest()
    done = feed.epochs(state.steps)
    _say_where_it_starts(state, feed, strategy, workdir, done, epochs, passed_over)
    if done >= epochs:
        return
    summaries = Summaries(workdir, state.steps)
    summaries.text("configuration", settings_table(record["settings"], record["dataset"]["warning"]))
    summaries.hyperparameters(record["settings"])
    with Progress(feed.images, done, epochs) as progress:
        run_epoch = make_run_epoch(strategy, state, objective, feed, epochs, progress)
        for epoch in range(done + 1, epochs + 1):
            scalars = run_epoch(epoch)
            best = scalars["validation/loss"] < float(state.best_loss.numpy())
            summaries.scalars(state.steps, epoch, scalars)
            if epoch % pictures_every == 0 or epoch in (1, epochs):
                for name, figure in pictures(state.model, feed.validation).items():
                    summaries.picture(state.steps, name, figure)
            summaries.flush()
            # Events first: what was written past a checkpoint is dropped by the run that goes on from there.
            if best:
                state.best_loss.assign(scalars["validation/loss"])
                checkpoints.save_best()
            checkpoints.save()
            progress.report(epoch, scalars, best)


def make_run_epoch(
    strategy: tf.distribute.Strategy, state: State, objective: Objective, feed: Feed, epochs: int, progress: Progress
) -> Callable[[int], dict[str, float]]:
    """Returns a function that takes the steps up to an epoch's end, and returns what they came to.

    Epochs are counted from 1 and have to be run in turn, from the one that follows the state's step.
    """
    train_steps = make_train_steps(strategy, state, objective, feed.batch_size)
    measure = make_measure(strategy, state.model, objective)
    distribute = strategy.experimental_distribute_dataset
    batches = iter(distribute(feed.training(state.steps, feed.steps(epochs))))
    validation, sample = distribute(feed.validation), distribute(feed.sample)

    def run_epoch(epoch: int) -> dict[str, float]:
        start, first, totals = time.monotonic(), state.steps, dict.fromkeys(objective.parts, 0.0)
        while (left := feed.steps(epoch) - (before := state.steps)) > 0:
            count = min(STEPS_PER_CALL, left)
            losses, good = train_steps(batches, tf.constant(count))
            _refuse_not_finite(float(losses["loss"]), "training loss", before + int(good))
            totals = {name: total + float(losses[name]) for name, total in totals.items()}
            progress.advance(epoch, count * feed.batch_size, float(losses["loss"]) / count)
        steps, seconds = state.steps - first, time.monotonic() - start
        measured, sampled = measure(validation), measure(sample)
        _refuse_not_finite(measured["loss"], "validation loss", state.steps)
        return {
            **{f"train/{name}": total / steps for name, total in totals.items()},
            "train/psnr": sampled["psnr"],
            "train/ssim": sampled["ssim"],
            **{f"validation/{name}": value for name, value in measured.items()},
            "learning_rate": float(state.optimizer.learning_rate.numpy()),  # `float` alone fails on a mirrored one.
            "images_per_second": steps * feed.batch_size / seconds,
            "memory_mib": psutil.Process().memory_info().rss / 2**20,
            "seconds": time.monotonic() - start,
        }

    return run_epoch


def pictures(model: keras.Model, batches: tf.data.Dataset) -> dict[str, figures.Figure]:
    """Returns what TensorBoard shows of a model, by name.

    examples: the first images of a data set, input, noisy input, output and latent vector, if any, side by side;
    samples: images decoded from what a model with a prior draws from it, the same vectors every time.
    """
    batch = next(iter(batches))
    clean, noisy = batch["image"][:EXAMPLES], batch["noisy"][:EXAMPLES]
    columns = {"input": clean, "noisy input": noisy, "output": model(noisy)}
    latents = model.encode(noisy).numpy() if hasattr(model, "encode") else None
    shown = {"examples": figures.display({title: images.numpy() for title, images in columns.items()}, latents)}
    if hasattr(model, "sample"):
        samples = model.sample(SAMPLES, seed=0).numpy()
        shown["samples"] = figures.mosaic(dict(enumerate(samples.reshape(-1, 8, *samples.shape[1:]))))
    return shown


def _refuse_not_finite(value: float, what: str, step: int) -> None:
    if not -float("inf") < value < float("inf"):
        raise UserError(
            f"the {what} is not finite at step {step}, and the run stops there; its last checkpoints stay good."
            " A lower --learning_rate, another --precision or another --seed may go further"
        )


def _say_where_it_starts(
    state: State,
    feed: Feed,
    strategy: tf.distribute.Strategy,
    workdir: Path,
    done: int,
    epochs: int,
    passed_over: list[str],
) -> None:
    lines = [f"checkpoint {name} is damaged: passed over" for name in passed_over]
    if done >= epochs:
        lines.append(f"already trained for {done} epochs (step {state.steps}); a larger --epochs goes on")
    else:
        replicas = strategy.num_replicas_in_sync
        lines.append(
            f"{state.model.count_params():,} weights, {feed.images:,} images in batches of {feed.batch_size}, "
            f"{replicas} replica{'s' * (replicas > 1)}; everything goes to {workdir}"
        )
        if done:
            lines.append(f"going on after epoch {done} (step {state.steps})")
    print("\n".join(lines), flush=True)
