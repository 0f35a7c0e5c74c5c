"""False discovery rate over any number of images: by how many images have each p-value, of which there are few.

There are no more conformal p-values than calibration images, one added for each class, so that a count for each is all
that Benjamini and Hochberg's procedure needs of the images.
"""

import math
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np


def discovery_threshold(counts: Mapping[float, int], rate: float) -> float:
    """Returns the largest p-value of a discovery (Benjamini and Hochberg 1995), minus infinity if there is none.

    Args:
      counts: Number of images by p-value.
      rate: The maximum expected fraction of false discoveries.

    Returns:
      The threshold, whose discoveries are those of `cae.outliers.conformal.discoveries`, rounding included.
    """
    if not counts:
        return -math.inf
    p_values, sizes = (np.array(each) for each in zip(*sorted(counts.items())))
    ranks = np.cumsum(sizes)
    passing = p_values[p_values * (ranks[-1] / ranks) <= rate]
    return float(passing[-1]) if len(passing) else -math.inf


class MarkDiscoveries(beam.PTransform):
    """Completes the rows of `Detect` with `is_discovery`.

    Args:
      rate: The false discovery rate.
    """

    def __init__(self, rate: float):
        super().__init__()
        self._rate = rate

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        """Returns the completed rows."""
        threshold = (
            rows
            | beam.Map(lambda row: row["p_value"])
            | beam.combiners.Count.PerElement()
            | beam.combiners.ToList()
            | "Threshold" >> beam.Map(lambda counts: discovery_threshold(dict(counts), self._rate))
        )
        return rows | "Mark" >> beam.Map(_mark, beam.pvalue.AsSingleton(threshold))


def _mark(row: dict[str, Any], threshold: float) -> dict[str, Any]:
    return row | {"is_discovery": row["p_value"] <= threshold}
