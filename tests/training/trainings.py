"""Training of small models, each run as if in a process of its own: models are built and traced once for all of them.

A new process has new variables in memory. Here those of an earlier run are used again, reset to their initial values;
everything else is created anew.
"""

import contextlib
import dataclasses
import functools
import json
import signal
from unittest import mock

import numpy as np
import tensorflow as tf

from cae.data import datasets, noise, pipeline
from cae.data.splits import ArraySplit
from cae.training import metric_writer, phases, train_step, trainer
from cae.training.phases import get_objectives
from cae.training.train_state import TrainState, num_train_steps

IMAGE_SHAPE = (16, 16, 1)

TIMINGS = {"epoch_seconds", "images_per_second", "rss_mib"}
"""Scalars that differ between two identical runs."""

# Fields that decide how long a run takes, what it reads and what it writes, but not what its graph functions compute.
_FIELDS_OUTSIDE_OF_GRAPHS = ("epochs", "max_steps", "noise", "checkpoint_interval_minutes", "image_summary_epochs")


@dataclasses.dataclass(frozen=True)
class FinalState:
    """The values of all variables of a state at the end of a run, some of them by name."""

    step: int
    epoch: int
    rollbacks: int
    nonfinite_steps: int
    consecutive_skipped: int
    values: list[np.ndarray]
    weights: list[np.ndarray]
    optimizer: list[np.ndarray]
    loss_sums: np.ndarray

    @classmethod
    def of(cls, state):
        """Copies the values of a state, whose variables will be used again."""
        metrics = state.epoch_metrics
        counters = (state.step, state.epoch, state.rollbacks, metrics.nonfinite_steps, metrics.consecutive_skipped)
        return cls(
            *(int(each.numpy()) for each in counters),
            values=[variable.numpy() for variable in variables(state)],
            weights=state.model.get_weights(),
            optimizer=[variable.numpy() for variable in state.optimizer.variables],
            loss_sums=metrics.loss_sums.numpy(),
        )


@dataclasses.dataclass
class _CachedState:
    """A state, the initial values of its variables, and graph functions by what they were made of."""

    state: TrainState
    initial: list[np.ndarray]
    functions: dict


class StateCache:
    """States and graph functions by configuration, created when they are first used."""

    def __init__(self):
        self._states, self._train_data = {}, {}

    def train_data(self, dataset, config):
        """Returns the batches of a data set, whose pipelines are traced once as well."""
        key = (id(dataset), config.noise, config.batch_size, config.seed)
        if key not in self._train_data:
            train_data = make_train_data(dataset, config)
            # The data set is kept, so that no other gets its id.
            cached = dataclasses.replace(train_data, train=functools.cache(train_data.train))
            self._train_data[key] = dataset, cached
        return self._train_data[key][1]

    def state(self, strategy, config, total_steps=10, index=0, restart_step=None):
        """Returns `TrainState.create(...)`; the same variables again for the same configuration and index."""
        key = self._key(strategy, config, (total_steps, restart_step), index)
        if key in self._states:
            cached = self._states[key]
            for variable, value in zip(variables(cached.state), cached.initial, strict=True):
                variable.assign(value)
            return cached.state
        state = TrainState.create(strategy, config, IMAGE_SHAPE, total_steps, restart_step=restart_step)
        self._states[key] = _CachedState(state, [each.numpy() for each in variables(state)], {})
        return state

    def make_train_steps(self, strategy, state, objective, global_batch_size):
        """Returns `train_step.make_train_steps(...)`, traced once."""
        (functions,) = [each.functions for each in self._states.values() if each.state is state]
        key = ("train", type(objective), global_batch_size)
        if key not in functions:
            functions[key] = train_step.make_train_steps(strategy, state, objective, global_batch_size)
        return functions[key]

    def make_evaluate(self, strategy, model, objective):
        """Returns `train_step.make_evaluate(...)`, traced once."""
        (functions,) = [each.functions for each in self._states.values() if each.state.model is model]
        key = ("evaluate", type(objective))
        if key not in functions:
            functions[key] = train_step.make_evaluate(strategy, model, objective)
        return functions[key]

    @staticmethod
    def _key(strategy, config, schedule_steps, index):
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        has_schedule = config.lr_schedule != "constant"
        ignored = {name: defaults[name] for name in _FIELDS_OUTSIDE_OF_GRAPHS if name != "epochs" or not has_schedule}
        graph_config = dataclasses.replace(config, **ignored)
        # A schedule is a function of the number of steps.
        return (strategy.num_replicas_in_sync, graph_config, schedule_steps if has_schedule else None, index)

    @contextlib.contextmanager
    def patch_trainer(self):
        """A context in which `Trainer` takes its graph functions from here."""
        with (
            mock.patch.object(phases, "make_train_steps", self.make_train_steps),
            mock.patch.object(phases, "make_evaluate", self.make_evaluate),
        ):
            yield


def make_train_data(dataset, config):
    """Returns a data set's batches as configured."""
    return pipeline.make_train_data(dataset, noise.parse_noise(config.noise), config.batch_size, config.seed)


def train(
    state_cache,
    dataset,
    config,
    workdir,
    *,
    train_batches=None,
    poll_signal=lambda state: 0,
    strategy=None,
    image_summaries=False,
    profile_steps=None,
):
    """Trains as a new process does, and returns the `FinalState`.

    Args:
      state_cache: Where states and graph functions are taken from; None creates all of them anew.
      dataset: The images.
      config: The configuration.
      workdir: The run's folder, which it resumes from.
      train_batches: Replaces `TrainData.train`.
      poll_signal: Takes the state, and returns the number of a signal, or 0.
      strategy: Default: one replica.
      image_summaries: Whether images are drawn for TensorBoard.
      profile_steps: The first and the last step to profile.
    """
    strategy = strategy or tf.distribute.get_strategy()
    train_data = state_cache.train_data(dataset, config) if state_cache else make_train_data(dataset, config)
    if train_batches:
        train_data = dataclasses.replace(train_data, train=train_batches)
    total_steps, objectives = num_train_steps(config, train_data), get_objectives(config)
    restart_step = train_data.num_steps(max(objectives) - 1)
    run_config = {"config": dataclasses.asdict(config), "dataset": {"warning": None}}
    workdir.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        if state_cache:
            state = state_cache.state(strategy, config, total_steps, restart_step=restart_step)
            stack.enter_context(state_cache.patch_trainer())
        else:
            state = TrainState.create(strategy, config, dataset.image_shape, total_steps, restart_step=restart_step)
        if not image_summaries:
            stack.enter_context(mock.patch.object(metric_writer, "image_summaries", lambda *_: {}))
        trainer.Trainer(
            strategy, state, objectives, train_data, workdir, run_config, lambda: poll_signal(state), profile_steps
        ).train()
    return FinalState.of(state)


class PreemptAfter:
    """A signal that arrives when the run polls for the given time; it polls for two signals each time."""

    def __init__(self, polls):
        self.remaining = 2 * polls

    def __call__(self, state):
        self.remaining -= 1
        return signal.SIGTERM if self.remaining <= 0 else 0


def make_split(images):
    """Returns a split of unlabeled images."""
    return ArraySplit(len(images), "synthetic", lambda: [(images, np.zeros(len(images), np.int64))])


def make_dataset(images):
    """Returns a data set of 40 images, uint8 [40, height, width, channels], half of which are trained on."""
    slices = {"train": slice(0, 20), "validation": slice(20, 30), "calibration": slice(30, 35), "test": slice(35, 40)}
    return datasets.ImageDataset(
        name="synthetic",
        image_shape=images.shape[1:],
        class_names=(),
        splits={name: make_split(images[part]) for name, part in slices.items()},
    )


def variables(state):
    """Returns all variables of a state: weights, slots, the loss scale, counters and sums."""
    trained = [state, *([state.critic] if state.critic else [])]
    counters = [value for value in vars(state).values() if isinstance(value, tf.Variable)]
    counters += state.epoch_metrics.variables().values()
    return [each for one in trained for each in (*one.model.variables, *one.optimizer.variables)] + counters


def metrics_lines(workdir):
    """Returns the content of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same(one, other, *workdirs):
    """Asserts that two runs ended with the same bits, and wrote the same scalars except for timings."""
    for a, b in zip(one.values, other.values, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(*map(metrics_lines, workdirs), strict=True):
        assert {key: a[key] for key in a.keys() - TIMINGS} == {key: b[key] for key in b.keys() - TIMINGS}
