"""The scores of a fixed model on fixed images are those that tests/golden/scores.json holds.

`python -m tests.golden_scores` writes the file anew: where a score is meant to change.

With oneDNN off, oneDNN kept to SSE4.1, AVX and AVX2, oneDNN as it chooses by itself, each with one thread and with two,
and with OpenBLAS, FAISS and NumPy kept to older instructions, scores differed by 3e-6 of their value at most, those of
`combined`, a sum of logarithms, by 2.4e-5. The calibration score that is nearest to a tested one is 4e-5 of it away, so
that p-values did not differ.
"""

import golden_scores
import numpy as np
import pytest

from cae.outliers.scores import SCORES

TOLERANCE = 2e-4
"""Relative; eight times what was seen to differ."""


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
