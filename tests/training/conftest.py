"""A small data set, models that are built and traced once for all tests of training, and runs of them."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
import trainings

from cae.training import trainer


@pytest.fixture(scope="session")
def state_cache():
    """States and graph functions that several runs use in turn, each from their initial values on."""
    return trainings.StateCache()


@pytest.fixture(scope="session")
def dataset():
    """A data set of 40 images, on which training takes no time."""
    return trainings.make_dataset(np.random.default_rng(0).integers(0, 256, (40, *trainings.IMAGE_SHAPE), np.uint8))


@pytest.fixture
def new_state(state_cache, tiny):
    """Makes states, each with variables of its own in a test; the next test has them again, with initial values."""
    numbers = itertools.count()
    return lambda: state_cache.state(tf.distribute.get_strategy(), tiny, index=next(numbers))


@pytest.fixture
def same_loops_on_any_machine(monkeypatch):
    """From the third call of the graph loop on, each takes all steps that remain of an epoch, on any machine."""
    monkeypatch.setattr(trainer, "TARGET_LOOP_SECONDS", 1e9)


@pytest.fixture
def train(state_cache, dataset):
    """Trains as a new process does."""
    return lambda config, workdir, **options: trainings.train(state_cache, dataset, config, workdir, **options)


@pytest.fixture(scope="module")
def unbroken(state_cache, dataset, tmp_path_factory):
    """Runs that are never interrupted, by configuration: the final state and the folder."""
    runs = {}

    def get(config):
        if config not in runs:
            workdir = tmp_path_factory.mktemp("unbroken")
            runs[config] = trainings.train(state_cache, dataset, config, workdir), workdir
        return runs[config]

    return get


@pytest.fixture
def four_epochs(tiny):
    """20 images in batches of 8: epochs end after 20, 40, 60 and 80 images, in steps 3, 5, 8 and 10."""
    return dataclasses.replace(tiny, epochs=4)
