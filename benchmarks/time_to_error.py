"""How long to the same error: python -m benchmarks.time_to_error --flagfile=configs/autoencoder.cfg --epochs=2.

The plain mirrored autoencoder by the usual recipe (Adam at 0.001), the same by our recipe (the settings'), both for
`--plain_epochs`, and the default model by ours for `--epochs`; clean to clean. The validation split says when a model
is as good; the test split is measured once, at the end. Ways take turns epoch by epoch, and tracing does not count.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf
from absl import flags

from benchmarks import STEPS_PER_CALL
from benchmarks.blocks import plain
from cae import config, memory, models, program
from cae.data import pipeline, sources
from cae.errors import UserError
from cae.training import distribution, objectives
from cae.training.optimizer import Adam, make_optimizer
from cae.training.state import State
from cae.training.steps import make_measure, make_train_steps

WAYS = {"plain": "plain, usual recipe", "plain_ours": "plain, our recipe", "conv": "conv, our recipe"}


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.DEFINE_list("ways", list(WAYS), "What is trained.")
    flags.DEFINE_integer("plain_epochs", 4, "Epochs of the plain model.", lower_bound=1)


def main() -> None:
    """Trains all and prints a line an epoch, then what the test images say."""
    memory.keep_freed()
    distribution.make_strategy("single")
    settings = dataclasses.replace(config.from_flags(), noise=None, model="conv")
    source = sources.open_source(settings)
    feed = pipeline.feed(source, None, settings.batch_size, settings.seed)
    test = pipeline.held_out(source, settings.seed)("test", None)
    running = {name: way(name, settings, source.image_shape, feed) for name in named(flags.FLAGS.ways)}
    print(f"{'':22}{'epochs':>8}{'seconds':>10}{'validation MSE':>16}", flush=True)
    ended: dict[str, tuple[float, keras.Model]] = {}
    while running:
        for name, epochs in list(running.items()):
            for epoch, seconds, mse, model in epochs:
                print(f"{WAYS[name]:22}{epoch:>8}{seconds:>10.1f}{mse:>16.5f}", flush=True)
                ended[name] = (seconds, model)
                break
            else:
                del running[name]
    for name, (seconds, model) in ended.items():
        mse = make_measure(tf.distribute.get_strategy(), model, objectives.find(settings))(test)["mse"]
        print(f"{WAYS[name]:22}  {seconds:.1f} s, test MSE {mse:.5f}, {model.count_params():,} weights")


def named(names: list[str]) -> list[str]:
    """Returns the ways that were named; raises `UserError` for an unknown one."""
    for name in names:
        if name not in WAYS:
            raise UserError(f"--ways: '{name}' is not known; known are {', '.join(WAYS)}")
    return names


def way(
    name: str, settings: config.Config, image_shape: tuple[int, int, int], feed: pipeline.Feed
) -> Iterator[tuple[int, float, float, keras.Model]]:
    """Yields epochs, seconds of training, validation error and the model, after each epoch."""
    epochs = settings.epochs if name == "conv" else flags.FLAGS.plain_epochs
    recipe = dataclasses.replace(settings, epochs=epochs)
    if name == "plain":
        optimizer = Adam(0.001)
    else:
        optimizer = make_optimizer(recipe, feed.steps(epochs), tf.Variable(1.0))
    model = models.build(settings, image_shape) if name == "conv" else plain(settings, image_shape)
    optimizer.build(model.trainable_variables)
    state, strategy = State.new(model, optimizer), tf.distribute.get_strategy()
    objective = objectives.find(settings)
    train_steps = make_train_steps(strategy, state, objective, feed.batch_size)
    measure = make_measure(strategy, model, objective)
    batches, seconds = iter(feed.training(0, feed.steps(epochs))), 0.0
    start, done = time.perf_counter(), take(train_steps, batches, 1)
    traced = time.perf_counter() - start
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        done += take(train_steps, batches, feed.steps(epoch) - done)
        seconds += time.perf_counter() - start
        if epoch == 1:
            seconds *= 1 + 1 / max(1, done - 1)  # The first step, too, as if it had been no slower than the others.
        yield epoch, seconds, measure(feed.validation)["mse"], model
    print(f"{WAYS[name]:22}  tracing and the first step took {traced:.1f} s besides", flush=True)


def take(train_steps: Callable, batches: Iterator, steps: int) -> int:
    """Takes so many steps, looked at as often as train.py does, and returns how many."""
    for first in range(0, steps, STEPS_PER_CALL):
        float(train_steps(batches, tf.constant(min(STEPS_PER_CALL, steps - first)))[0]["loss"])
    return steps


if __name__ == "__main__":
    define_flags()
    program.run(main)
