import math

import numpy as np
import pytest

from cae.beam.discoveries import discovery_threshold
from cae.outliers import thresholds


def count(p_values):
    return dict(zip(*np.unique(p_values, return_counts=True)))


def test_threshold_by_hand():
    """Of 10 images the k smallest are discoveries if the k-th p-value is at most 0.2 k / 10: 0.06 for k = 3 at most."""
    counts = {0.01: 1, 0.05: 2, 0.09: 1, 0.5: 6}
    assert discovery_threshold(counts, 0.2) == 0.05
    assert discovery_threshold(counts, 0.25) == 0.09, "0.25 * 4 / 10 is 0.1"
    assert discovery_threshold(counts, 0.05) == -math.inf
    assert discovery_threshold({}, 0.5) == -math.inf


@pytest.mark.parametrize("num_calibration", [9, 199, 5000])
def test_discoveries_are_those_of_all_p_values(num_calibration, random):
    """With ties, which p-values of few calibration images have, and at rates that are reached exactly."""
    for rate in (0.05, 0.1, 0.2, 0.5):
        for num_outliers in (0, 3, 40):
            numerators = random.integers(1, num_calibration + 2, 300)
            numerators[:num_outliers] = random.integers(1, 3, num_outliers)
            p_values = numerators / (num_calibration + 1)
            expected = thresholds.discoveries(p_values, rate)
            np.testing.assert_array_equal(p_values <= discovery_threshold(count(p_values), rate), expected)
