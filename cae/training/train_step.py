"""The training step, and the graph functions around it: many steps at once, and evaluation."""

import collections
from collections.abc import Callable, Iterator, Sequence

import keras
import tensorflow as tf

from cae.metrics import METRICS
from cae.training import distribution
from cae.training.distribution import Batch
from cae.training.objectives import MicrobatchRng, Objective
from cae.training.train_state import TrainState

STEP_RNG_STREAM = 2
"""Separates the random values of steps from those of corruptions, which are streams 0 and 1."""

MAX_CONSECUTIVE_NONFINITE_STEPS = 30
"""More cannot be overflows alone: a loss scale of 2^15 is at 1 after 15."""

Losses = dict[str, tf.Tensor]


def train_step(
    state: TrainState,
    objective: Objective,
    batch: Batch,
    seed: tf.Tensor,
    global_batch_size: int,
    num_microbatches: int = 1,
    progress: tf.Tensor | float = 0.0,
) -> tuple[Losses, tf.Tensor]:
    """Takes one step on a replica's slice of a global batch, in a replica context.

    Args:
      state: Updated in place; nothing but the loss scale changes where a gradient is not finite.
      objective: What is minimized.
      batch: The replica's slice.
      seed: The step's seed, int64 [2].
      global_batch_size: Number of images on all replicas.
      num_microbatches: Number of microbatches on all replicas.
      progress: The fraction of the run's steps that were taken before, by which weights of losses may change.

    Returns:
      The replica's share of the mean losses by name, float64 [], and whether the update was applied.
    """
    trained = [{"model": state, "critic": state.critic}[network] for network in objective.trains.values()]
    variables = [objective.trained_variables(each.model) for each in trained]
    critic = state.critic.model if state.critic else None
    weights = objective.loss_weights(progress)

    # All-reduces can't be compiled for CPUs, so that they stay outside.
    @tf.function(jit_compile=objective.jit_compile)
    def compute_gradients(microbatch: Batch, index: tf.Tensor) -> tuple[Losses, list[list[tf.Tensor]]]:
        rng = MicrobatchRng(seed, index, num_microbatches, global_batch_size)
        with tf.GradientTape(persistent=True) as tape:
            _, losses = objective.losses(state.model, microbatch, rng, critic)

            losses = {name: tf.reduce_sum(each) / global_batch_size for name, each in losses.items()}
            if weights:
                losses["loss"] = sum([weight * losses[name] for name, weight in weights.items()])
            scaled = [each.optimizer.scale_loss(losses[name]) for each, name in zip(trained, objective.trains)]

        return losses, [tape.gradient(loss, each) for each, loss in zip(variables, scaled)]

    losses, gradients = distribution.accumulate_microbatches(batch, num_microbatches, compute_gradients)
    # Summed over replicas, not averaged: a loss is a microbatch's share of the mean over the global batch.
    gradients, sums = distribution.all_reduce_sum([gradients, list(losses.values())])

    return losses, apply_gradients([each.optimizer for each in trained], variables, gradients, sums)


def apply_gradients(
    optimizers: Sequence[keras.optimizers.Optimizer],
    variables: Sequence[Sequence[keras.Variable]],
    gradients: Sequence[Sequence[tf.Tensor]],
    losses: Sequence[tf.Tensor],
) -> tf.Tensor:
    """Applies gradients of scaled losses if all of them and the losses are finite; returns whether they are.

    Args:
      optimizers: One for each network.
      variables: Of each network.
      gradients: Of each network, the same on all replicas.
      losses: The losses, the same on all replicas.
    """
    gradients = [
        [tf.cast(gradient, variable.dtype) for gradient, variable in zip(*each)] for each in zip(gradients, variables)
    ]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(each)) for each in tf.nest.flatten([gradients, losses])])
    for optimizer, *each in zip(optimizers, gradients, variables, strict=True):
        distribution.apply_if_finite(finite, optimizer, *each)
    return finite


def make_train_steps(
    strategy: tf.distribute.Strategy, state: TrainState, objective: Objective, global_batch_size: int
) -> Callable[[Iterator[Batch], tf.Tensor], tuple[Losses, tf.Tensor]]:
    """Returns a graph function `train_steps(batches, num_steps)`, with batches by `distribute_dataset`.

    It takes that many steps, or fewer after `MAX_CONSECUTIVE_NONFINITE_STEPS`, and returns the sums of their losses by
    name, and how many steps were applied, which are those in the sums. Random values are a function of the seed and the
    step, so that the state does not depend on how many steps are taken in a call.
    """
    num_microbatches = distribution.num_microbatches(strategy, global_batch_size)

    def step_fn(batch: Batch, seed: tf.Tensor, progress: tf.Tensor) -> tuple[Losses, tf.Tensor]:
        return train_step(state, objective, batch, seed, global_batch_size, num_microbatches, progress)

    @tf.function(reduce_retracing=True)
    def train_steps(batches: Iterator[Batch], num_steps: tf.Tensor) -> tuple[Losses, tf.Tensor]:
        metrics = state.epoch_metrics
        variables = [metrics.loss_sums, metrics.num_steps, metrics.nonfinite_steps, metrics.consecutive_skipped]
        sums, applied_steps, skipped, consecutive = [variable.read_value() for variable in variables]
        step = state.step.read_value()
        first_sums, first_applied_steps, last_step = sums, applied_steps, step + tf.cast(num_steps, tf.int64)
        while step < last_step and consecutive < MAX_CONSECUTIVE_NONFINITE_STEPS:
            seed = tf.random.experimental.stateless_fold_in([objective.seed, STEP_RNG_STREAM], step)
            progress = tf.cast(step / state.total_steps, tf.float32)
            losses, applied = distribution.run_and_reduce_sum(strategy, step_fn, next(batches), seed, progress)
            losses = tf.stack([losses[name] for name in objective.loss_names])
            finite = tf.reduce_all(tf.math.is_finite(losses)) & (applied == strategy.num_replicas_in_sync)
            sums += tf.where(finite, losses, tf.zeros_like(losses))
            applied_steps, skipped = applied_steps + tf.cast(finite, tf.int64), skipped + tf.cast(~finite, tf.int64)
            consecutive = tf.where(finite, tf.constant(0, tf.int64), consecutive + 1)
            step += 1
        state.step.assign(step)
        for variable, value in zip(variables, (sums, applied_steps, skipped, consecutive)):
            variable.assign(value)
        return dict(zip(objective.loss_names, tf.unstack(sums - first_sums))), applied_steps - first_applied_steps

    return train_steps


def _pad_to_one(values: tf.Tensor) -> tf.Tensor:
    """Returns a batch, or one of zeros instead of an empty one, for which convolutions fail on CPUs."""
    missing = tf.maximum(1 - tf.shape(values)[0], 0)
    return tf.pad(values, [[0, missing], *[[0, 0]] * (values.shape.rank - 1)])


def make_evaluate(
    strategy: tf.distribute.Strategy, model: keras.Model, objective: Objective
) -> Callable[..., dict[str, float]]:
    """Returns a function `evaluate(batches, after_each)`, which takes global batches.

    It returns the exact means of losses and metrics over all images by name, and calls `after_each()` after each batch.
    """

    def eval_step(batch: Batch) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        count = tf.shape(batch["image"])[0]
        if not batch["image"].shape[0]:  # 0, or not known yet.
            batch = {name: _pad_to_one(values) for name, values in batch.items()}
        output, values = objective.losses(model, batch)
        values |= {name: metric(batch["image"], output) for name, metric in METRICS.items()}
        sums = {name: tf.reduce_sum(tf.cast(each[:count], tf.float64)) for name, each in values.items()}
        return sums, count

    @tf.function(reduce_retracing=True)
    def sum_batch(batch: Batch) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        return distribution.run_and_reduce_sum(strategy, eval_step, batch)

    def evaluate(batches: tf.data.Dataset, after_each: Callable[[], object] = lambda: None) -> dict[str, float]:
        totals, num_images = collections.Counter(), 0.0
        for batch in distribution.distribute_dataset(strategy, batches):
            sums, count = tf.nest.map_structure(float, sum_batch(batch))
            totals.update(sums)
            num_images += count
            after_each()
        return {name: total / num_images for name, total in totals.items()}

    return evaluate
