"""A small data set, and models that are built and traced once for all tests of training."""

import numpy as np
import pytest
import trainings


@pytest.fixture(scope="session")
def state_cache():
    """States and graph functions that several runs use in turn, each from their initial values on."""
    return trainings.StateCache()


@pytest.fixture(scope="session")
def dataset():
    """A data set of 40 images, on which training takes no time."""
    return trainings.make_dataset(np.random.default_rng(0).integers(0, 256, (40, *trainings.IMAGE_SHAPE), np.uint8))
