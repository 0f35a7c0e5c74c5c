"""The folder of predictions: a table in shards, failed.jsonl and summary.json."""

import collections
import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsSingleton
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from cae.beam.tasks import Task

SUMMARY = "summary.json"

MAX_ROW_GROUP_BYTES = 2**22
"""Of a Parquet file, which a worker collects in memory: some eighty thousand verdicts."""

_VERDICTS = ("is_inlier", "is_discovery")


class WriteOutput(beam.PTransform):
    """Writes tables, dead letters and a summary.

    Args:
      folder: The folder to write to.
      task: What the tables are of.
      settings: What summary.json says beside the numbers.
    """

    def __init__(self, folder: str, task: Task, settings: dict[str, Any]):
        super().__init__()
        self._folder, self._task, self._settings = folder, task, settings

    def expand(self, outputs: Any) -> None:  # Beam takes a tuple in a type hint for that of elements.
        """Takes tables and dead letters."""
        tables, failed = outputs
        prefix, schema = FileSystems.join(self._folder, "predictions", "part"), self._task.schema
        row_groups = tables | "RowGroups" >> beam.ParDo(_Concatenate())
        _ = row_groups | "Table" >> beam.io.WriteToParquetBatched(prefix, schema, file_name_suffix=".parquet")
        _ = failed | "FailedLines" >> beam.Map(json.dumps) | "Failed" >> self._write_text("failed.jsonl")

        verdicts = (
            tables
            | "Verdicts" >> beam.FlatMap(_count_verdicts)
            | "CountVerdicts" >> beam.CombinePerKey(sum)
            | "ListVerdicts" >> beam.combiners.ToList()
        )
        num_failed = failed | "CountFailed" >> beam.combiners.Count.Globally()
        _ = (
            tables.pipeline
            | beam.Create([self._settings])
            | "Summarize" >> beam.Map(_summarize, AsSingleton(verdicts), AsSingleton(num_failed))
            | "Summary" >> self._write_text(SUMMARY)
        )

    def _write_text(self, name: str) -> beam.PTransform:
        return beam.io.WriteToText(FileSystems.join(self._folder, name), num_shards=1, shard_name_template="")


class _Concatenate(beam.DoFn):
    """Yields tables of about `MAX_ROW_GROUP_BYTES` from smaller ones."""

    def start_bundle(self) -> None:
        self._tables, self._num_bytes = [], 0

    def process(self, table: pa.Table) -> Iterator[pa.Table]:
        self._tables.append(table)
        self._num_bytes += table.nbytes
        if self._num_bytes >= MAX_ROW_GROUP_BYTES:
            yield self._concatenate()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._tables:
            yield GlobalWindows.windowed_value_at_end_of_window(self._concatenate())

    def _concatenate(self) -> pa.Table:
        tables = self._tables
        self.start_bundle()
        return pa.concat_tables(tables).combine_chunks()


def _count_verdicts(table: pa.Table) -> Iterable[tuple[tuple, int]]:
    nulls = [None] * table.num_rows
    columns = [table[name].to_pylist() if name in table.column_names else nulls for name in _VERDICTS]
    return collections.Counter(zip(*columns)).items()


def _summarize(settings: dict[str, Any], verdicts: Iterable[tuple[tuple, int]], num_failed: int) -> str:
    """Returns the content of summary.json."""
    verdicts = list(verdicts)
    num_rows = sum(count for _, count in verdicts)
    content = settings | {"images": num_rows + num_failed, "failed": num_failed}
    if settings["task"] == "detect":
        inliers, discoveries = (sum(count for row, count in verdicts if row[index]) for index in range(2))
        content |= {"inliers": inliers, "discoveries": discoveries}
    return json.dumps(content, indent=2)


def read_summary(folder: str) -> dict[str, Any]:
    """Returns the content of summary.json."""
    with FileSystems.open(FileSystems.join(folder, SUMMARY)) as file:
        return json.load(file)
