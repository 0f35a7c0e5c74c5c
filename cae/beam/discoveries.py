"""False discovery rate over any number of images: by how many images have each p-value, of which there are few.

There are no more conformal p-values than calibration images, one added for each class, so that a count for each is all
that Benjamini and Hochberg's procedure needs of the images.
"""

import math
from collections.abc import Iterator, Mapping

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsSingleton

from cae.beam.spilling import SpillTables, read_tables


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
    """Completes the tables of `Detect` with `is_discovery`.

    Args:
      rate: The false discovery rate.
      schema: That of the tables.
      folder: Where the tables wait until all p-values are counted; the caller removes it.
    """

    def __init__(self, rate: float, schema: pa.Schema, folder: str):
        super().__init__()
        self._rate, self._schema, self._folder = rate, schema, folder

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Returns the completed tables."""
        threshold = (
            tables
            | beam.FlatMap(_count_p_values)
            | beam.CombinePerKey(sum)
            | beam.combiners.ToList()
            | "Threshold" >> beam.Map(lambda counts: discovery_threshold(dict(counts), self._rate))
        )
        spilled = tables | "Spill" >> beam.ParDo(SpillTables(self._folder, self._schema))
        # One step: reading alone would be joined to spilling, and the runner would keep all tables.
        return spilled | "Mark" >> beam.FlatMap(_read_and_mark, AsSingleton(threshold))


def _count_p_values(table: pa.Table) -> Iterator[tuple[float, int]]:
    p_values, counts = np.unique(table["p_value"].to_numpy(), return_counts=True)
    return zip(p_values.tolist(), counts.tolist())


def _read_and_mark(path: str, threshold: float) -> Iterator[pa.Table]:
    name = "is_discovery"
    for table in read_tables(path):
        is_discovery = pc.less_equal(table["p_value"], threshold)
        yield table.set_column(table.column_names.index(name), table.schema.field(name), is_discovery)
