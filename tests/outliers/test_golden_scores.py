"""The scores of a fixed model on fixed images are those that tests/golden/scores.json holds; `make golden` renews it.

With oneDNN off, oneDNN kept to SSE4.1, AVX and AVX2, with two threads instead of one, and with NumPy and OpenBLAS kept
to older instructions, scores differed by 3.2e-6 of their value at most, those of `combined`, a sum of logarithms, by
5.2e-6. The calibration score that is nearest to a tested one is 1.4e-4 of it away, so that p-values did not differ.
"""

import golden_scores
import numpy as np
import pytest

from cae.outliers.scores import SCORES

TOLERANCE = 1e-4
"""Relative; some twenty times what was seen to differ."""


@pytest.fixture(scope="module")
def computed():
    return golden_scores.computed()


@pytest.fixture(scope="module")
def stored():
    return golden_scores.stored()


def test_every_score_has_golden_values(computed, stored):
    assert stored.keys() == computed.keys() == SCORES.keys()


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_the_golden_ones(name, computed, stored):
    np.testing.assert_allclose(computed[name]["scores"], stored[name]["scores"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", SCORES)
def test_p_values_are_the_golden_ones(name, computed, stored):
    np.testing.assert_allclose(computed[name]["p_values"], stored[name]["p_values"], rtol=1e-9)
