"""The only writer of TensorBoard events, and of metrics.jsonl."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from matplotlib.figure import Figure

from cae.report.figures import png

RUNS = ("train", "validation")
"""TensorBoard's runs, one folder each: the same quantity of both shares a chart."""


class Summaries:
    """A run's TensorBoard events and its metrics.jsonl, both from `step` on: what an earlier try wrote past it goes."""

    def __init__(self, workdir: Path, step: int):
        self._metrics = workdir / "metrics.jsonl"
        folders = {run: workdir / "tensorboard" / run for run in RUNS}
        _drop_lines_after(step, self._metrics)
        for folder in folders.values():
            _drop_events_after(step, folder)
        self._writers = {run: tf.summary.create_file_writer(str(folder)) for run, folder in folders.items()}

    def scalars(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Writes an epoch's scalars: 'train/loss' becomes 'loss' of the run 'train', and so does one without a run."""
        for name, value in values.items():
            run, _, tag = name.rpartition("/")
            with self._writers[run or "train"].as_default():
                tf.summary.scalar(tag, value, step)
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, "epoch": epoch} | values) + "\n")

    def picture(self, step: int, name: str, figure: Figure) -> None:
        """Writes a figure as a picture of the run 'validation'."""
        with self._writers["validation"].as_default():
            tf.summary.image(name, tf.io.decode_png(png(figure), channels=3)[None], step)

    def text(self, name: str, markdown: str) -> None:
        """Writes a text, in Markdown."""
        with self._writers["train"].as_default():
            tf.summary.text(name, markdown, step=0)

    def flush(self) -> None:
        """Makes what was written so far readable by others."""
        for writer in self._writers.values():
            writer.flush()


def settings_table(settings: dict[str, object], warning: str | None) -> str:
    """Returns settings as a Markdown table, under a warning where there is one."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items() if value is not None)
    return (f"**Warning: {warning}**\n\n" if warning else "") + f"| setting | value |\n|---|---|\n{rows}"


def _drop_lines_after(step: int, path: Path) -> None:
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(f"{line}\n" for line in kept))
    os.replace(partial, path)


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # A line that was cut off when the run was killed.


def _drop_events_after(step: int, folder: Path) -> None:
    """Rewrites event files without the events past `step`, which would be shown twice."""
    for path in folder.glob("events.out.tfevents.*"):
        partial = path.with_name("partial." + path.name)
        with tf.io.TFRecordWriter(str(partial)) as writer:
            for record in _readable_records(path):
                if tf.compat.v1.Event.FromString(record).step <= step:
                    writer.write(record)
        os.replace(partial, path)


def _readable_records(path: Path) -> Iterable[bytes]:
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            yield record.numpy()
    except tf.errors.DataLossError:
        return  # The rest was cut off when the run was killed.
