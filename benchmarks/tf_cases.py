"""The cases of TensorFlow and Keras: training step, forward pass, Keras' `fit`, and the input pipeline."""

import collections
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from benchmarks.stepper import NUM_BATCHES, STEPS_PER_LOOP, Stepper
from cae import models
from cae.config import Config
from cae.data import datasets
from cae.data.arrays import to_float
from cae.training import distribution
from cae.training.distribution import Batch
from cae.training.objectives import get_objective
from cae.training.train import make_train_data
from cae.training.train_state import TrainState
from cae.training.train_step import train_step


def train(config: Config, dataset: datasets.ImageDataset) -> Callable[[int], None]:
    """Returns a function that takes training steps, as many in a graph loop as train.py about does."""
    return Stepper.create(config).run


def measure_input_bound(config: Config, dataset: datasets.ImageDataset) -> Callable[[], float]:
    """Returns a function that takes `STEPS_PER_LOOP` steps and returns the fraction of time they wait for batches.

    Time is read within the graph: waiting is from the end of a step until the next batch is there.
    """
    strategy = distribution.make_strategy("one_device")
    state = TrainState.create(strategy, config, dataset.image_shape, NUM_BATCHES)
    objective, num_microbatches = get_objective(config), distribution.num_microbatches(strategy, config.batch_size)
    batches = iter(make_train_data(config, dataset).train(0, NUM_BATCHES))

    @tf.function
    def run_loop(iterator: Iterator[Batch], num_steps: tf.Tensor) -> tf.Tensor:
        start = step_end = tf.timestamp()
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(num_steps):
            batch = next(iterator)
            with tf.control_dependencies(tf.nest.flatten(batch)):
                batch_ready = tf.timestamp()
            waited += batch_ready - step_end
            # Otherwise the step's first operations may occupy all threads before the time is read.
            with tf.control_dependencies([batch_ready]):
                batch = tf.nest.map_structure(tf.identity, batch)
            train_step(state, objective, batch, tf.constant([0, 0]), config.batch_size, num_microbatches)
            # The time is read after the step's last write.
            with tf.control_dependencies([state.optimizer.iterations.value.read_value()]):
                step_end = tf.timestamp()
        return waited / (step_end - start)

    return lambda: float(run_loop(batches, tf.constant(STEPS_PER_LOOP)))


def forward(config: Config, dataset: datasets.ImageDataset) -> Callable[[int], None]:
    """Returns a function that passes a number of batches through the model."""
    model = tf.function(models.build_model(config, dataset.image_shape))
    images = tf.random.stateless_uniform([config.batch_size, *dataset.image_shape], [0, 0])

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            output = model(images)
        float(output[0, 0, 0, 0])

    return run


def fit(config: Config, dataset: datasets.ImageDataset, *, on_arrays: bool = True) -> Callable[[int], None]:
    """Returns a function that takes steps of Keras' `fit` with the same model and optimizer.

    Args:
      config: The configuration.
      dataset: The data set.
      on_arrays: Whether `fit` gets clean images in an array; else the batches of our training step.
    """
    state = TrainState.create(tf.distribute.get_strategy(), config, dataset.image_shape, NUM_BATCHES)
    state.model.compile(optimizer=state.optimizer, loss="mse")
    if not on_arrays:
        batches = make_train_data(config, dataset).train(0, NUM_BATCHES)
        pairs = batches.map(lambda batch: (batch["input"], batch["image"]))
        return lambda num_steps: state.model.fit(pairs, steps_per_epoch=num_steps, verbose=0)
    images = dataset.load("train")[0]

    def run(num_steps: int) -> None:
        clean = to_float(images[np.arange(num_steps * config.batch_size) % len(images)])
        state.model.fit(clean, clean, batch_size=config.batch_size, verbose=0)

    return run


def read_batches(config: Config, dataset: datasets.ImageDataset) -> Callable[[int], None]:
    """Returns a function that reads a number of batches from the input pipeline."""
    batches = iter(make_train_data(config, dataset).train(0, NUM_BATCHES))
    return lambda num_steps: collections.deque(itertools.islice(batches, num_steps), maxlen=0)
