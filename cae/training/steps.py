"""Graph functions over many batches: steps of training, and measurements."""

from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf

from cae.metrics import QUALITIES
from cae.training import distribution
from cae.training.objectives import Batch, Objective
from cae.training.state import State

# A stream of randomness of its own: corruptions have the first two.
_DRAWN_IN_STEPS = 2


def make_train_steps(
    strategy: tf.distribute.Strategy, state: State, objective: Objective, global_batch_size: int
) -> Callable[[Iterator[Batch], tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """Returns a graph function that takes so many steps on the batches of an iterator, and counts them in the state.

    It returns the sums of their losses by name, and the number of steps that went well before the first whose loss was
    not finite: all of them, where there was none. What a step draws is a function of the seed and of how many came
    before it.
    """

    def step(batch: Batch, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return objective.take(state, batch, seed, global_batch_size)

    @tf.function(reduce_retracing=True)
    def train_steps(iterator: Iterator[Batch], steps: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        totals = {name: tf.constant(0.0) for name in objective.parts}
        good, all_good = tf.constant(0), tf.constant(True)
        for _ in tf.range(steps):
            seed = tf.random.experimental.stateless_fold_in([objective.seed, _DRAWN_IN_STEPS], state.step)
            losses = distribution.summed(strategy, step, next(iterator), seed)
            state.step.assign_add(1)
            all_good &= tf.math.is_finite(losses["loss"])
            good += tf.cast(all_good, tf.int32)
            totals = {name: totals[name] + losses[name] for name in objective.parts}
        return totals, good

    return train_steps


def make_measure(
    strategy: tf.distribute.Strategy, model: keras.Model, objective: Objective
) -> Callable[[Iterable[Batch]], dict[str, float]]:
    """Returns a function that gives mean losses and qualities of the model over all images of batches, exactly.

    The batches are those that the strategy has distributed.
    """

    def step(batch: Batch) -> dict[str, tf.Tensor]:
        output = model(batch["noisy"])
        values = objective.errors(model, batch, output)
        values |= {name: quality(batch["image"], output) for name, quality in QUALITIES.items()}
        sums = {name: tf.reduce_sum(each) for name, each in values.items()}
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
