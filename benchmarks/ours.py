"""What TensorFlow and Keras do in a round: our training step and forward pass, Keras' `fit`, the input pipeline."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from benchmarks import STEPS_PER_CALL
from cae import config, models
from cae.data import noise, pipeline, sources
from cae.training import distribution, objectives
from cae.training.build import build_state
from cae.training.state import State
from cae.training.step import Batch
from cae.training.steps import make_step, make_train_steps

ENDLESS = 10**9


def training(settings: config.Config, source: sources.Source) -> Callable[[int], None]:
    """Returns what takes so many training steps, looked at as often as train.py does."""
    strategy = distribution.make_strategy(settings.strategy, settings.logical_cpus)
    state = build_state(strategy, settings, source.image_shape, ENDLESS)
    train_steps = make_train_steps(strategy, state, objectives.find(settings), settings.batch_size)
    batches = iter(distribution.shared_out(strategy, batches_of(settings, source), endless=True))

    def run(steps: int) -> None:
        for first in range(0, steps, STEPS_PER_CALL):
            losses, _ = train_steps(batches, tf.constant(min(STEPS_PER_CALL, steps - first)))
            float(losses["loss"])

    return run


def waiting(settings: config.Config, source: sources.Source) -> Callable[[], tuple[float, float]]:
    """Returns what takes `STEPS_PER_CALL` steps: seconds from the end of one to the next one's batch, and in all."""
    strategy = distribution.make_strategy("single")
    state = build_state(strategy, settings, source.image_shape, ENDLESS)
    take = make_step(strategy, state, objectives.find(settings), settings.batch_size)
    batches = iter(batches_of(settings, source))

    @tf.function
    def steps(iterator: Iterator[Batch], count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        start = done = tf.timestamp()
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(count):
            batch = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(batch)):
                ready = tf.timestamp()
            waited += ready - done
            # Or else the step's first operations may keep all threads from looking at the clock.
            with tf.control_dependencies([ready]):
                batch = tf.nest.map_structure(tf.identity, batch)
            take(batch, tf.constant([0, 0]))
            # Read after whatever the step writes.
            with tf.control_dependencies([state.optimizer.iterations.value.read_value()]):
                done = tf.timestamp()
        return waited, done - start

    def run() -> tuple[float, float]:
        waited, seconds = steps(batches, tf.constant(STEPS_PER_CALL))
        return float(waited), float(seconds)

    run()
    return run


def forward(settings: config.Config, source: sources.Source) -> Callable[[int], None]:
    """Returns what passes so many batches through the model, and no more."""
    model = models.build(settings, source.image_shape)
    graph = tf.function(model)
    images = tf.random.stateless_uniform([settings.batch_size, *source.image_shape], [0, 0])

    def run(steps: int) -> None:
        for _ in range(steps):
            output = graph(images)
        float(output[0, 0, 0, 0])

    return run


def fit(settings: config.Config, source: sources.Source) -> Callable[[int], None]:
    """Returns what fits the same model by Keras for so many steps, on clean images in an array."""
    state = compiled(settings, source)
    images = source.read("train")[0]

    def run(steps: int) -> None:
        wanted = np.arange(steps * settings.batch_size) % len(images)
        clean = images[wanted].astype(np.float32) / 255
        state.model.fit(clean, clean, batch_size=settings.batch_size, epochs=1, verbose=0)

    return run


def fit_with_noise(settings: config.Config, source: sources.Source) -> Callable[[int], None]:
    """Returns what fits the same model by Keras for so many steps, on the batches that our step sees."""
    state, batches = compiled(settings, source), batches_of(settings, source)
    pairs = batches.map(lambda batch: (batch["noisy"], batch["image"]))

    def run(steps: int) -> None:
        state.model.fit(pairs, steps_per_epoch=steps, epochs=1, verbose=0)

    return run


def reading(settings: config.Config, source: sources.Source) -> Callable[[int], None]:
    """Returns what draws so many batches from the pipeline, noise and all, and drops them."""
    batches = iter(batches_of(settings, source))

    def run(steps: int) -> None:
        for _ in range(steps):
            next(batches)

    return run


def batches_of(settings: config.Config, source: sources.Source) -> tf.data.Dataset:
    """Returns more batches than anyone takes."""
    corrupt = noise.parse(settings.noise)
    return pipeline.feed(source, corrupt, settings.batch_size, settings.seed).training(0, ENDLESS)


def compiled(settings: config.Config, source: sources.Source) -> State:
    """Returns a model that Keras can fit, with our optimizer."""
    state = build_state(tf.distribute.get_strategy(), settings, source.image_shape, ENDLESS)
    state.model.compile(optimizer=state.optimizer, loss="mse")
    return state
