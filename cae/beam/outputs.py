"""The folder of predictions: a table in shards, failed.jsonl and summary.json."""

import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import AsSingleton

from cae.beam.tasks import Task

SUMMARY = "summary.json"

_VERDICTS = ("is_inlier", "is_discovery")


class WriteOutput(beam.PTransform):
    """Writes rows, dead letters and a summary.

    Args:
      folder: The folder to write to.
      task: What the rows are of.
      settings: What summary.json says beside the numbers.
    """

    def __init__(self, folder: str, task: Task, settings: dict[str, Any]):
        super().__init__()
        self._folder, self._task, self._settings = folder, task, settings

    def expand(self, outputs: Any) -> None:  # Beam takes a tuple in a type hint for that of elements.
        """Takes rows and dead letters."""
        rows, failed = outputs
        table = FileSystems.join(self._folder, "predictions", "part")
        _ = rows | "Table" >> beam.io.WriteToParquet(table, self._task.schema, file_name_suffix=".parquet")
        _ = failed | "FailedLines" >> beam.Map(json.dumps) | "Failed" >> self._write_text("failed.jsonl")

        verdicts = (
            rows
            | "Verdicts" >> beam.Map(lambda row: tuple(row.get(name) for name in _VERDICTS))
            | "CountVerdicts" >> beam.combiners.Count.PerElement()
            | "ListVerdicts" >> beam.combiners.ToList()
        )
        num_failed = failed | "CountFailed" >> beam.combiners.Count.Globally()
        _ = (
            rows.pipeline
            | beam.Create([self._settings])
            | "Summarize" >> beam.Map(_summarize, AsSingleton(verdicts), AsSingleton(num_failed))
            | "Summary" >> self._write_text(SUMMARY)
        )

    def _write_text(self, name: str) -> beam.PTransform:
        return beam.io.WriteToText(FileSystems.join(self._folder, name), num_shards=1, shard_name_template="")


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
