"""Fits of small models, in each of which a process is made believe: models are built and traced once for all of them.

What a process that starts has in memory is fresh variables. Here those of an earlier one are given again, with all of
the values that they had when they were new; everything else of a fit is made anew.
"""

import contextlib
import dataclasses
import functools
import json
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from cae.data import noise, pipeline, sources
from cae.training import build, loop, objectives, reporting, steps

IMAGE_SHAPE = (16, 16, 1)

TIMINGS = {"seconds", "images_per_second", "memory_mib"}
"""What differs between two runs that are the same."""

# Settings that say how long a run takes, what it sees and what it writes, but not what its graph functions compute.
_OUTSIDE_OF_GRAPHS = ("epochs", "noise", "checkpoint_minutes", "pictures_every")


@dataclasses.dataclass(frozen=True)
class Ended:
    """What a fit ended with: the values of all variables of its state, some of them by name."""

    steps: int
    times_back: int
    skipped: int
    in_a_row: int
    values: list[np.ndarray]
    weights: list[np.ndarray]
    optimizer: list[np.ndarray]
    sums: np.ndarray

    @classmethod
    def of(cls, state):
        """Returns what a state holds now, to be kept when its variables are given again."""
        counts = (state.step, state.times_back, state.tally.skipped, state.tally.in_a_row)
        return cls(
            *(int(each.numpy()) for each in counts),
            values=[variable.numpy() for variable in variables(state)],
            weights=state.model.get_weights(),
            optimizer=[variable.numpy() for variable in state.optimizer.variables],
            sums=state.tally.sums.numpy(),
        )


@dataclasses.dataclass
class Built:
    """A state, the values of its variables when it was new, and graph functions by what they were made of."""

    state: object
    initial: list[np.ndarray]
    functions: dict


class Builds:
    """States and graph functions by settings, made when they are first asked for."""

    def __init__(self):
        self._built, self._feeds = {}, {}

    def feed(self, source, settings):
        """Returns what `pipeline.feed` does, whose data sets are traced once, too."""
        key = (id(source), settings.noise, settings.batch_size, settings.seed)
        if key not in self._feeds:
            made = make_feed(source, settings)
            # The source is kept, so that its number stays its own.
            self._feeds[key] = source, dataclasses.replace(made, training=functools.cache(made.training))
        return self._feeds[key][1]

    def state(self, strategy, settings, steps=10, number=0):
        """Returns a state as `build_state` does; the same variables again for the same settings and number."""
        key = self._key(strategy, settings, steps, number)
        if key in self._built:
            built = self._built[key]
            for variable, value in zip(variables(built.state), built.initial, strict=True):
                variable.assign(value)
            return built.state
        state = build.build_state(strategy, settings, IMAGE_SHAPE, steps)
        keras.config.set_dtype_policy("float32")
        self._built[key] = Built(state, [each.numpy() for each in variables(state)], {})
        return state

    def make_train_steps(self, strategy, state, objective, global_batch_size):
        """Returns what `steps.make_train_steps` does, traced once."""
        functions = self._functions(state)
        if ("train", global_batch_size) not in functions:
            made = steps.make_train_steps(strategy, state, objective, global_batch_size)
            functions["train", global_batch_size] = made
        return functions["train", global_batch_size]

    def make_measure(self, strategy, model, objective):
        """Returns what `steps.make_measure` does, traced once."""
        (built,) = [each for each in self._built.values() if each.state.model is model]
        if "measure" not in built.functions:
            built.functions["measure"] = steps.make_measure(strategy, model, objective)
        return built.functions["measure"]

    def _functions(self, state):
        (built,) = [each for each in self._built.values() if each.state is state]
        return built.functions

    @staticmethod
    def _key(strategy, settings, steps, number):
        defaults = {field.name: field.default for field in dataclasses.fields(settings)}
        has_schedule = settings.lr_schedule != "constant"
        outside = {name: defaults[name] for name in _OUTSIDE_OF_GRAPHS if name != "epochs" or not has_schedule}
        graph_settings = dataclasses.replace(settings, **outside)
        # A schedule is a function of how many steps there will be.
        return (strategy.num_replicas_in_sync, graph_settings, steps if has_schedule else None, number)

    @contextlib.contextmanager
    def in_place(self):
        """A context in which `loop.fit` takes graph functions from here."""
        with (
            mock.patch.object(loop, "make_train_steps", self.make_train_steps),
            mock.patch.object(loop, "make_measure", self.make_measure),
        ):
            yield


def make_feed(source, settings):
    """Returns a data set's batches as the settings say."""
    return pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)


def fit(builds, source, settings, workdir, *, batches=None, asked=lambda state: 0, strategy=None, pictures=False):
    """Fits a model as a process does that starts, and returns what it ended with.

    Args:
      builds: Where states and graph functions are taken from; None makes all of them anew.
      source: The data set.
      settings: The run's settings.
      workdir: Where it writes, and goes on from.
      batches: What takes the place of the training batches, if anything.
      asked: Takes the state, and returns the signal that asks for an end, or 0.
      strategy: One replica unless said.
      pictures: Whether those for TensorBoard are drawn.
    """
    strategy = strategy or tf.distribute.get_strategy()
    feed = builds.feed(source, settings) if builds else make_feed(source, settings)
    if batches:
        feed = dataclasses.replace(feed, training=batches)
    total = feed.steps(settings.epochs)
    record = {"settings": dataclasses.asdict(settings), "dataset": {"warning": None}}
    workdir.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        if builds:
            state = builds.state(strategy, settings, total)
            stack.enter_context(builds.in_place())
        else:
            state = build.build_state(strategy, settings, source.image_shape, total)
            stack.callback(keras.config.set_dtype_policy, "float32")
        if not pictures:
            stack.enter_context(mock.patch.object(reporting, "pictures", lambda *_: {}))
        loop.fit(strategy, state, objectives.find(settings), feed, workdir, record, lambda: asked(state))
    return Ended.of(state)


def made_up(images):
    """Returns a data set of 40 images, uint8 [40, height, width, channels], half of which are trained on."""
    cut = {"train": slice(0, 20), "validation": slice(20, 30), "calibration": slice(30, 35), "test": slice(35, 40)}
    return sources.Source(
        name="made up",
        image_shape=images.shape[1:],
        class_names=(),
        splits={name: sources.Split(len(images[part]), "made") for name, part in cut.items()},
        read=lambda split: (images[cut[split]], np.zeros(len(images[cut[split]]), np.int64)),
    )


def variables(state):
    """Returns all that a state holds: weights, slots, the loss scale, counts and sums."""
    players = [state, *([state.critic] if state.critic else [])]
    own = [value for value in [*vars(state).values(), *vars(state.tally).values()] if isinstance(value, tf.Variable)]
    return [each for player in players for each in (*player.model.variables, *player.optimizer.variables)] + own


def lines(workdir):
    """Returns the content of metrics.jsonl."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same(one, other, *workdirs):
    """The same to the last bit, and so is what was written, but for its timings."""
    for a, b in zip(one.values, other.values, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(*map(lines, workdirs), strict=True):
        assert {key: a[key] for key in a.keys() - TIMINGS} == {key: b[key] for key in b.keys() - TIMINGS}
