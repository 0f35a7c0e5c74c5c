"""What tests of training share: a small data set, and models that are built and traced once."""

import fits
import numpy as np
import pytest


@pytest.fixture(scope="session")
def builds():
    """States and graph functions that several runs take in turn; each begins with their initial values."""
    return fits.Builds()


@pytest.fixture(scope="session")
def source():
    """A data set of 40 images, in which fitting takes no time."""
    return fits.made_up(np.random.default_rng(0).integers(0, 256, (40, *fits.IMAGE_SHAPE), np.uint8))
