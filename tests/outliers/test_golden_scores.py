"""Scores of a fixed model on fixed images equal those in tests/golden/scores.json, which `make golden` renews.

With oneDNN off or limited to SSE4.1, AVX and AVX2, with two threads instead of one, and with NumPy and OpenBLAS limited
to older instructions, scores differed by a relative 3.2e-6 at most, those of `fisher`, a sum of logarithms, by 5.2e-6.
The relative distance of a test score from the nearest calibration score is 1.4e-4, so p-values did not differ.
"""

import golden_scores
import numpy as np
import pytest

from cae.outliers.scores import SCORES

TOLERANCE = 1e-4
"""Relative; some twenty times the largest difference observed."""


@pytest.fixture(scope="module")
def computed():
    return golden_scores.compute()


@pytest.fixture(scope="module")
def golden():
    return golden_scores.load()


def test_every_score_has_golden_values(computed, golden):
    assert golden.keys() == computed.keys() == SCORES.keys()


@pytest.mark.parametrize("name", SCORES)
def test_scores_equal_golden_values(name, computed, golden):
    np.testing.assert_allclose(computed[name]["scores"], golden[name]["scores"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", SCORES)
def test_p_values_equal_golden_values(name, computed, golden):
    np.testing.assert_allclose(computed[name]["p_values"], golden[name]["p_values"], rtol=1e-9)
