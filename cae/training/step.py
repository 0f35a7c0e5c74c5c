"""The training step: forward, loss, gradient, update; and what is made of it: many steps, or a measurement."""

from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from cae.metrics import QUALITIES, PerImage
from cae.training import distribution

Batch = dict[str, tf.Tensor]


def train_step(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, loss_of: PerImage, batch: Batch, global_batch_size: int
) -> tf.Tensor:
    """Takes one step on a replica's share of a batch and returns its part of the mean loss."""
    with tf.GradientTape() as tape:
        output = model(batch["noisy"], training=True)

        loss = tf.reduce_sum(loss_of(batch["image"], output)) / global_batch_size
        scaled_loss = optimizer.scale_loss(loss)

    gradients = tape.gradient(scaled_loss, model.trainable_variables)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        gradients = distribution.overflow_everywhere(gradients)

    optimizer.apply(gradients, model.trainable_variables)  # Gradients are summed over replicas.
    return loss


def make_train_steps(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss_of: PerImage,
    global_batch_size: int,
) -> Callable[[Iterator[Batch], tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a graph function that takes so many steps on the batches of an iterator.

    It returns the sum of their losses, and the number of steps that went well before the first whose loss was not
    finite: all of them, where there was none.
    """

    def step(batch: Batch) -> tf.Tensor:
        return train_step(model, optimizer, loss_of, batch, global_batch_size)

    @tf.function(reduce_retracing=True)
    def train_steps(iterator: Iterator[Batch], steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        total, good, all_good = tf.constant(0.0), tf.constant(0), tf.constant(True)
        for _ in tf.range(steps):
            loss = distribution.summed(strategy, step, next(iterator))
            all_good &= tf.math.is_finite(loss)
            good += tf.cast(all_good, tf.int32)
            total += loss
        return total, good

    return train_steps


def make_measure(
    strategy: tf.distribute.Strategy, model: keras.Model, loss_of: PerImage
) -> Callable[[Iterable[Batch]], dict[str, float]]:
    """Returns a function that gives the mean loss and qualities of the model over all images of batches, exactly.

    The batches are those that the strategy has distributed.
    """

    def step(batch: Batch) -> dict[str, tf.Tensor]:
        output = model(batch["noisy"])
        errors = {"loss": loss_of} | QUALITIES
        sums = {name: tf.reduce_sum(error(batch["image"], output)) for name, error in errors.items()}
        return sums | {"images": tf.cast(tf.shape(output)[0], tf.float32)}

    @tf.function(reduce_retracing=True)
    def sums_of(batch: Batch) -> dict[str, tf.Tensor]:
        return distribution.summed(strategy, step, batch)

    def measure(batches: Iterable[Batch]) -> dict[str, float]:
        sums = [sums_of(batch) for batch in batches]
        totals = {name: sum(float(each[name]) for each in sums) for name in sums[0]}
        images = totals.pop("images")
        return {name: total / images for name, total in totals.items()}

    return measure
