"""Fixtures of several modules of tests of scores and detectors: one thread, and all scores, fitted."""

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="module")
def one_thread():
    # For matrices as small as these, several threads only wait for each other.
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def fitted():
    """All scores, fitted on the model with latent vectors."""
    # Imports TensorFlow, which is configured before.
    from small_scores import fit

    from cae.outliers.scores import SCORES

    return {name: fit(name) for name in SCORES}
