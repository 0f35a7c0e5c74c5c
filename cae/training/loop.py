"""Fitting a model: epochs of graph steps, and between them measurements, events, pictures and checkpoints."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import psutil
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.data.pipeline import Feed
from cae.errors import UserError
from cae.metrics import PerImage
from cae.report import figures
from cae.training.checkpoint import Checkpoints, State
from cae.training.progress import Progress
from cae.training.step import Batch, make_measure, make_train_steps
from cae.training.summaries import Summaries, settings_table

STEPS_PER_CALL = 32
"""Graph steps between two looks from Python: enough to hide its cost, few enough for the bar to move."""

WARM_UP = 500

EXAMPLES = 8
"""Images in TensorBoard's pictures."""


def make_optimizer(settings: Config, steps: int) -> keras.optimizers.Optimizer:
    """Returns Adam for so many steps, with loss scaling for float16.

    A learning rate that goes along a cosine rises over the first twentieth of the steps, at most `WARM_UP`, and falls
    to 0 (Loshchilov and Hutter 2017).
    """
    learning_rate = settings.learning_rate
    if settings.lr_schedule == "cosine":
        rising = min(steps // 20, WARM_UP)
        learning_rate = keras.optimizers.schedules.CosineDecay(
            0.0 if rising else learning_rate, steps - rising, warmup_target=learning_rate, warmup_steps=rising
        )
    # A shorter memory than Keras' 0.999, since gradients shrink a hundredfold within the first epoch.
    optimizer = keras.optimizers.Adam(learning_rate, beta_2=0.99)
    return keras.optimizers.LossScaleOptimizer(optimizer) if settings.precision == "mixed_float16" else optimizer


def build_state(
    strategy: tf.distribute.Strategy, settings: Config, image_shape: tuple[int, int, int], steps: int
) -> State:
    """Returns a state with all its variables made, which a checkpoint needs to be restored into."""
    with strategy.scope():
        model, optimizer = models.build(settings, image_shape), make_optimizer(settings, steps)
        optimizer.build(model.trainable_variables)
        return State.new(model, optimizer)


def fit(
    strategy: tf.distribute.Strategy, state: State, loss_of: PerImage, feed: Feed, workdir: Path, record: dict[str, Any]
) -> None:
    """Fits the state's model as the run's record says, from the newest checkpoint in `workdir` or from the start.

    Raises `UserError`, naming the step, where the loss is no longer finite; that state is not saved.
    """
    epochs, pictures_every = record["settings"]["epochs"], record["settings"]["pictures_every"]
    checkpoints = Checkpoints(workdir / "checkpoints", state)
    for name in checkpoints.restore_newest():
        print(f"checkpoint {name} is damaged: passed over", flush=True)
    first_step = int(state.step.numpy())
    first_epoch = feed.epochs(first_step)
    _say_where_it_starts(first_epoch, epochs, first_step)
    if first_epoch >= epochs:
        return
    replicas = strategy.num_replicas_in_sync
    print(
        f"{state.model.count_params():,} weights, {feed.images:,} images in batches of {feed.batch_size}, "
        f"{replicas} replica{'s' * (replicas > 1)}; everything goes to {workdir}",
        flush=True,
    )
    summaries = Summaries(workdir, first_step)
    summaries.text("configuration", settings_table(record["settings"], record["dataset"]["warning"]))
    train_steps = make_train_steps(strategy, state.model, state.optimizer, loss_of, feed.batch_size)
    measure = make_measure(strategy, state.model, loss_of)
    last_step = feed.steps(epochs)
    batches = iter(strategy.experimental_distribute_dataset(feed.training(first_step, last_step)))
    validation, sample = map(strategy.experimental_distribute_dataset, (feed.validation, feed.sample))
    progress = Progress(last_step * feed.batch_size, first_step * feed.batch_size, epochs)
    try:
        for epoch in range(first_epoch + 1, epochs + 1):
            start = time.monotonic()
            steps = feed.steps(epoch) - int(state.step.numpy())
            scalars = _train_epoch(state, train_steps, batches, steps, epoch, feed.batch_size, progress)
            scalars |= {f"validation/{name}": value for name, value in measure(validation).items()}
            scalars |= {f"train/{name}": value for name, value in measure(sample).items() if name in ("psnr", "ssim")}
            _refuse_not_finite(scalars["validation/loss"], "validation loss", int(state.step.numpy()))
            scalars["memory_mib"] = psutil.Process().memory_info().rss / 2**20
            scalars["seconds"] = time.monotonic() - start
            step = int(state.step.numpy())
            best = scalars["validation/loss"] < float(state.best_loss.numpy())
            summaries.scalars(step, epoch, scalars)
            if epoch % pictures_every == 0 or epoch in (1, epochs):
                summaries.picture(step, "examples", examples_figure(state.model, feed.validation))
            summaries.flush()
            if best:
                state.best_loss.assign(scalars["validation/loss"])
                checkpoints.save_best()
            checkpoints.save()
            progress.report(epoch, step * feed.batch_size, scalars, best)
    finally:
        progress.close()


def examples_figure(model: keras.Model, batches: tf.data.Dataset) -> figures.Figure:
    """Returns the first images of a data set: input, noisy input, output and latent vector side by side."""
    batch = next(iter(batches))
    clean, noisy = batch["image"][:EXAMPLES], batch["noisy"][:EXAMPLES]
    latent = model.encode(noisy)
    columns = {"input": clean, "noisy input": noisy, "output": model.decode(latent)}
    return figures.display({title: images.numpy() for title, images in columns.items()}, latent.numpy())


def _train_epoch(
    state: State,
    train_steps: Callable,
    batches: Iterator[Batch],
    steps: int,
    epoch: int,
    batch_size: int,
    progress: Progress,
) -> dict[str, float]:
    """Takes an epoch's steps and returns their mean loss, the learning rate and the speed."""
    start, sum_of_losses, done = time.monotonic(), 0.0, 0
    while done < steps:
        count = min(STEPS_PER_CALL, steps - done)
        losses, good = (float(value) for value in train_steps(batches, tf.constant(count)))
        if good < count:
            _refuse_not_finite(float("nan"), "training loss", int(state.step.numpy()) + int(good))
        state.step.assign_add(count)
        done += count
        sum_of_losses += losses
        progress.advance(epoch, count * batch_size, losses / count)
    return {
        "train/loss": sum_of_losses / steps,
        "learning_rate": float(state.optimizer.learning_rate.numpy()),  # Mirrored, `float` would not do.
        "images_per_second": steps * batch_size / (time.monotonic() - start),
    }


def _refuse_not_finite(value: float, what: str, step: int) -> None:
    if not -float("inf") < value < float("inf"):
        raise UserError(
            f"the {what} is not finite at step {step}, and the run stops there; its last checkpoints stay good."
            " A lower --learning_rate, another --precision or another --seed may go further"
        )


def _say_where_it_starts(epoch: int, epochs: int, step: int) -> None:
    if epoch >= epochs:
        print(f"already trained for {epoch} epochs (step {step}); a larger --epochs goes on", flush=True)
    elif step:
        print(f"going on after epoch {epoch} (step {step})", flush=True)
