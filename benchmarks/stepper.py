"""Training step by step, as train.py does it, but without checkpoints, metrics and reports, and timed."""

import dataclasses
import functools
import time
from collections.abc import Callable

import keras
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.data import noise, pipeline
from cae.data.datasets import ImageDataset, open_dataset
from cae.training import distribution
from cae.training.objectives import get_objective
from cae.training.train import make_train_data
from cae.training.train_state import TrainState, num_train_steps
from cae.training.train_step import make_evaluate, make_train_steps

# Graph steps in a call from Python; train.py takes as many as fit in half a second.
STEPS_PER_LOOP = 32

# Batches in the input pipeline: more than any benchmark takes.
NUM_BATCHES = 10**9


class Stepper:
    """Trains a model and measures the time of its steps.

    Attributes:
      train_data: The training batches, with noise.
      state: The model, its optimizer, and the counters.
      num_steps: The steps that were taken.
      tracing_seconds: The time of the first step, in which the graph is traced.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        config: Config,
        dataset: ImageDataset,
        *,
        build_model: Callable[[Config, tuple[int, int, int]], keras.Model] = models.build_model,
        optimizer: keras.optimizers.Optimizer | None = None,
    ):
        """Builds the model and everything that its training needs.

        Args:
          strategy: Where the training runs.
          config: The configuration; a cosine schedule decays over its epochs.
          dataset: The data set.
          build_model: Builds the model.
          optimizer: The optimizer; by default the configuration's.
        """
        self.train_data = make_train_data(config, dataset)
        total_steps = num_train_steps(config, self.train_data)
        self.state = TrainState.create(strategy, config, dataset.image_shape, total_steps, build_model)
        if optimizer is not None:
            optimizer.build(self.state.model.trainable_variables)
            self.state = dataclasses.replace(self.state, optimizer=optimizer)
        self._train_steps = make_train_steps(strategy, self.state, get_objective(config), config.batch_size)
        batches = self.train_data.train(0, NUM_BATCHES)
        self._batches = iter(distribution.distribute_dataset(strategy, batches, infinite=True))
        self.num_steps, self.tracing_seconds, self._other_seconds = 0, 0.0, 0.0

    @classmethod
    def create(cls, config: Config) -> "Stepper":
        """Returns a stepper with the configuration's strategy and data set."""
        strategy = distribution.make_strategy(config.distribution_strategy, config.logical_cpus)
        return cls(strategy, config, open_dataset(config))

    def run(self, num_steps: int) -> None:
        """Takes `num_steps` steps, `STEPS_PER_LOOP` at a time."""
        if num_steps and not self.num_steps:
            self.tracing_seconds = self._run_loop(1)
            num_steps -= 1
        for first in range(0, num_steps, STEPS_PER_LOOP):
            self._other_seconds += self._run_loop(min(STEPS_PER_LOOP, num_steps - first))

    def _run_loop(self, num_steps: int) -> float:
        start = time.perf_counter()
        losses, _ = self._train_steps(self._batches, tf.constant(num_steps))
        float(losses["loss"])  # Waits for the last step.
        self.num_steps += num_steps
        return time.perf_counter() - start

    @property
    def seconds(self) -> float:
        """The seconds of all steps, the first of them, which was traced, at the mean of the others."""
        return self._other_seconds * self.num_steps / max(1, self.num_steps - 1)

    @property
    def epochs(self) -> float:
        """The passes over the training images."""
        return self.num_steps * self.train_data.batch_size / self.train_data.num_images

    @property
    def num_traces(self) -> int:
        """How many times the step was traced."""
        return self._train_steps.experimental_get_tracing_count()


def make_evaluator(
    strategy: tf.distribute.Strategy, config: Config, dataset: ImageDataset
) -> Callable[[keras.Model, str], dict[str, float]]:
    """Returns a function of a model and a split that returns the mean losses and metrics, with the training's noise."""
    batches = pipeline.make_eval_batches(dataset, config.seed)
    evaluate = functools.cache(lambda model: make_evaluate(strategy, model, get_objective(config)))
    return lambda model, split: evaluate(model)(batches(split, noise.parse_noise(config.noise)))
