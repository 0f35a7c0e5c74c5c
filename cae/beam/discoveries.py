"""False discovery rate over any number of images: by how many images have each p-value, of which there are few.

A conformal p-value is a whole number of n + 1 calibration images, so that a count for each is all that Benjamini and
Hochberg's procedure needs of the images.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import apache_beam as beam
import numpy as np

from cae.beam.tasks import Detect


def discovery_threshold(counts: Mapping[float, int], rate: float) -> float:
    """Returns the largest p-value of a discovery (Benjamini and Hochberg 1995), minus infinity if there is none.

    Args:
      counts: Number of images by p-value.
      rate: The maximum expected fraction of false discoveries.

    Returns:
      The threshold, whose discoveries are those of `cae.outliers.thresholds.discoveries`, rounding included.
    """
    if not counts:
        return -math.inf
    p_values, sizes = (np.array(each) for each in zip(*sorted(counts.items())))
    ranks = np.cumsum(sizes)
    passing = p_values[p_values * (ranks[-1] / ranks) <= rate]
    return float(passing[-1]) if len(passing) else -math.inf


class MarkDiscoveries(beam.PTransform):
    """Completes the rows of `Detect` with `p_value` and `is_discovery`.

    Args:
      task: The task.
      rate: The false discovery rate.
    """

    def __init__(self, task: Detect, rate: float):
        super().__init__()
        self._task, self._rate = task, rate

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        """Returns the completed rows."""
        threshold = (
            rows
            | beam.Map(lambda row: row["numerator"])
            | beam.combiners.Count.PerElement()
            | beam.combiners.ToList()
            | "Threshold" >> beam.Map(self._threshold)
        )
        return rows | "Mark" >> beam.Map(self._complete, beam.pvalue.AsSingleton(threshold))

    def _threshold(self, counts: Iterable[tuple[int, int]]) -> float:
        by_p_value: dict[float, int] = {}
        for numerator, count in counts:
            p_value = self._task.p_value(numerator)
            by_p_value[p_value] = by_p_value.get(p_value, 0) + count
        return discovery_threshold(by_p_value, self._rate)

    def _complete(self, row: dict[str, Any], threshold: float) -> dict[str, Any]:
        p_value = self._task.p_value(row["numerator"])
        completed = {name: value for name, value in row.items() if name != "numerator"}
        return completed | {"p_value": p_value, "is_discovery": p_value <= threshold}
