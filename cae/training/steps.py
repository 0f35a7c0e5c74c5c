"""Graph functions over many batches: steps of training, and measurements."""

from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from cae.metrics import QUALITIES
from cae.training import distribution
from cae.training.objectives import Objective
from cae.training.state import State
from cae.training.step import Batch, Gradients, Losses, Part, train_step

# A stream of randomness of its own: corruptions have the first two.
_DRAWN_IN_STEPS = 2

MOST_IN_A_ROW = 30
"""So many steps that change nothing, one after the other, are no accident: a loss scale of 2^15 is at 1 after 15."""


def make_step(
    strategy: tf.distribute.Strategy, state: State, objective: Objective, global_batch_size: int
) -> Callable[[Batch, tf.Tensor], tuple[Losses, tf.Tensor]]:
    """Returns what takes a step on a replica's share of a batch, given a seed, as `step.train_step` does."""
    parts = distribution.parts_of_batch(strategy, global_batch_size)

    # What sums over replicas can't be compiled for processors, so that it stays outside.
    @tf.function(jit_compile=objective.compiled)
    def compiled(batch: Batch, seed: tf.Tensor, number: tf.Tensor) -> tuple[Losses, list[Gradients]]:
        return objective.differentiate(state, batch, seed, Part(number, parts, global_batch_size))

    def differentiate(_: State, batch: Batch, seed: tf.Tensor, part: Part) -> tuple[Losses, list[Gradients]]:
        return compiled(batch, seed, part.number)

    def step(batch: Batch, seed: tf.Tensor) -> tuple[Losses, tf.Tensor]:
        return train_step(state, batch, seed, global_batch_size, differentiate, parts)

    return step


def make_train_steps(
    strategy: tf.distribute.Strategy, state: State, objective: Objective, global_batch_size: int
) -> Callable[[Iterator[Batch], tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """Returns a graph function that takes so many steps on the batches of an iterator, and counts them in the state.

    It returns the sums of their losses by name, and of how many steps those are: all, but for those in which something
    was not finite. After `MOST_IN_A_ROW` such steps it takes no more. What a step draws is a function of the seed and
    of how many came before it, and how many are taken at once makes no difference to anything in the state.
    """
    tally, take = state.tally, make_step(strategy, state, objective, global_batch_size)

    def step(batch: Batch, seed: tf.Tensor) -> tf.Tensor:
        losses, learned = take(batch, seed)
        return tf.stack([*(losses[name] for name in objective.parts), tf.cast(~learned, tf.float64)])

    @tf.function(reduce_retracing=True)
    def train_steps(iterator: Iterator[Batch], steps: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        number, sums, counted = state.step.read_value(), tally.sums.read_value(), tally.counted.read_value()
        skipped, in_a_row = tally.skipped.read_value(), tally.in_a_row.read_value()
        before, counted_before, last = sums, counted, number + tf.cast(steps, tf.int64)
        while number < last and in_a_row < MOST_IN_A_ROW:
            seed = tf.random.experimental.stateless_fold_in([objective.seed, _DRAWN_IN_STEPS], number)
            # One sum over the replicas has it all: each costs the machines a round trip.
            results = distribution.summed(strategy, step, next(iterator), seed)
            good = tf.reduce_all(tf.math.is_finite(results)) & (results[-1] == 0)
            sums += tf.where(good, results[:-1], tf.zeros_like(sums))
            counted, skipped = counted + tf.cast(good, tf.int64), skipped + tf.cast(~good, tf.int64)
            in_a_row = tf.where(good, tf.constant(0, tf.int64), in_a_row + 1)
            number += 1
        state.step.assign(number)
        for variable, value in zip(vars(tally).values(), (sums, counted, skipped, in_a_row), strict=True):
            variable.assign(value)
        return dict(zip(objective.parts, tf.unstack(sums - before))), counted - counted_before

    return train_steps


def make_measure(
    strategy: tf.distribute.Strategy, model: keras.Model, objective: Objective
) -> Callable[..., dict[str, float]]:
    """Returns a function that gives mean losses and qualities of the model over all images of batches, exactly.

    It takes batches as `distribution.shared_out` gives them, and what is called after each of them.
    """

    def step(batch: Batch) -> tf.Tensor:
        output = model(batch["noisy"])
        values = objective.errors(model, batch, output)
        values |= {name: quality(batch["image"], output) for name, quality in QUALITIES.items()}
        names[:] = values
        images = tf.cast(tf.shape(output)[0], tf.float64)
        return tf.stack([*(tf.reduce_sum(tf.cast(each, tf.float64)) for each in values.values()), images])

    names = []

    @tf.function(reduce_retracing=True)
    def sums_of(batch: Batch) -> tf.Tensor:
        return distribution.summed(strategy, step, batch)

    def measure(batches: Iterable[Batch], after_each: Callable[[], None] = lambda: None) -> dict[str, float]:
        totals = 0.0
        for batch in batches:
            totals = totals + sums_of(batch).numpy()
            after_each()
        *sums, images = totals.tolist()
        return {name: total / images for name, total in zip(names, sums, strict=True)}

    return measure
