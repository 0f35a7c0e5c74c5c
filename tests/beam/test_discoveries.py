import math

import numpy as np
import pyarrow as pa
import pytest

from cae.beam.discoveries import discovery_threshold
from cae.beam.model import Manifest
from cae.beam.spilling import SpillTables, read_tables
from cae.beam.tasks import Detect
from cae.outliers import conformal


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
            expected = conformal.discoveries(p_values, rate)
            np.testing.assert_array_equal(p_values <= discovery_threshold(count(p_values), rate), expected)


@pytest.mark.parametrize("sizes, two_sided", [({"a": 464, "b": 568, "c": 499}, False), (None, False), (None, True)])
def test_p_values_have_no_rounding_errors_of_float32(sizes, two_sided):
    detector = {"calibration_images": 4999, "calibration_images_by_class": sizes, "two_sided": two_sided}
    manifest = Manifest("export", (12, 12, 1), None, ("detect",), 0.0, detector)
    task = Detect(manifest, "never", alpha=0.05)
    for count in sizes.values() if sizes else [4999]:
        expected = np.minimum(1, np.arange(1, count + 2) * (1 + two_sided) / (count + 1))
        exact = task.exact_p_values(expected.astype(np.float32).astype(np.float64))
        np.testing.assert_allclose(exact, expected, rtol=1e-12)


def test_spilled_tables_are_read_again_one_by_one_without_those_of_a_bundle_that_failed(tmp_path):
    tables = [pa.table({"x": [index, None]}) for index in range(3)]
    spill = SpillTables(str(tmp_path), tables[0].schema)
    spill.start_bundle()
    assert not [*spill.finish_bundle()]
    spill.process(tables[2])
    paths = []
    for bundle in (tables[:2], tables[2:]):
        spill.start_bundle()
        for table in bundle:
            spill.process(table)
        paths += [each.value for each in spill.finish_bundle()]
    assert len(paths) == 2 and len([*tmp_path.iterdir()]) == 3
    read = [table.to_pydict() for path in paths for table in read_tables(path)]
    assert read == [table.to_pydict() for table in tables]
