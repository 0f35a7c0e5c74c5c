"""The only writer of TensorBoard events, and of metrics.jsonl."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf
from matplotlib.figure import Figure
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams

from cae.report import projector
from cae.report.figures import png
from cae.report.page import Section

RUNS = ("train", "validation")
"""TensorBoard's runs, one folder each: the same quantity of both shares a chart."""

METRICS = ("loss", "mse", "psnr")
"""What TensorBoard's table of hyperparameters shows of each run's validation split, as it was last."""

_TYPES = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}


PROBE = 2**16
"""Bytes that have to find room on the disk, to know that events did: an epoch's scalars take less."""


class Summaries:
    """A run's TensorBoard events and its metrics.jsonl, both from the end of an epoch on.

    What an earlier try wrote past that epoch goes. step: that at which the epoch ended. Whoever uses it has to close
    it.
    """

    def __init__(self, workdir: Path, epoch: int, step: int):
        self._folder = workdir / "tensorboard"
        self._metrics = workdir / "metrics.jsonl"
        folders = {run: self._folder / run for run in RUNS}
        _drop_lines_after(epoch, self._metrics)
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            _drop_events_after(step if epoch else -1, folder)
        self._writers = {run: tf.summary.create_file_writer(str(folder)) for run, folder in folders.items()}

    def scalars(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Writes an epoch's scalars: 'train/loss' becomes 'loss' of the run 'train', and so does one without a run."""
        for name, value in values.items():
            run, _, tag = name.rpartition("/")
            with self._writers[run or "train"].as_default():
                tf.summary.scalar(tag, value, step)
        with self._metrics.open("a") as file:
            file.write(json.dumps({"step": step, "epoch": epoch} | values) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def picture(self, step: int, name: str, figure: Figure) -> None:
        """Writes a figure as a picture of the run 'validation'."""
        with self._writers["validation"].as_default():
            tf.summary.image(name, tf.io.decode_png(png(figure), channels=3)[None], step)

    def text(self, name: str, markdown: str) -> None:
        """Writes a text, in Markdown."""
        with self._writers["train"].as_default():
            tf.summary.text(name, markdown, step=0)

    def hyperparameters(self, settings: dict[str, bool | int | float | str | None]) -> None:
        """Writes a line of TensorBoard's table of hyperparameters, in place of the one of an earlier try.

        It stands a folder above the runs 'train' and 'validation', where the table looks for metrics from.
        """
        for path in self._folder.glob("events.out.tfevents.*"):
            path.unlink()
        said = {name: value for name, value in settings.items() if value is not None}
        # The first run's list of columns is that of all: it names settings that others alone may have, too.
        columns = [api_pb2.HParamInfo(name=name, type=_type_of(value)) for name, value in settings.items()]
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(group="validation", tag=tag), display_name=f"validation/{tag}")
            for tag in METRICS
        ]
        writer = tf.summary.create_file_writer(str(self._folder))
        with writer.as_default():
            # Without a group's name each run is a group of its own: runs of the same settings are not averaged.
            for message in (hparams.experiment_pb(columns, metrics), hparams.session_start_pb(said)):
                tf.summary.experimental.write_raw_pb(message.SerializeToString(), step=0)
        writer.close()

    def flush(self) -> None:
        """Makes what was written so far readable by others; raises `OSError` where the disk has no room for it.

        TensorFlow's writer says nothing of a full disk, so that it is asked in another way.
        """
        for writer in self._writers.values():
            writer.flush()
        with tempfile.TemporaryFile(dir=self._folder) as file:
            file.write(bytes(PROBE))
            file.flush()

    def close(self) -> None:
        """Ends the events."""
        for writer in self._writers.values():
            writer.close()


def write_evaluation(workdir: Path, step: int, section: Section) -> Path:
    """Writes what a task found out as TensorBoard's run 'evaluation/<its name>', in place of the earlier one.

    Its figures are pictures, the numbers at the top of its results and its own scalars are scalars, 'latents/mse', and
    its latent vectors are for the projector. step: that of the model. Returns the run's folder.
    """
    folder = workdir / "tensorboard" / "evaluation" / section.name
    if folder.exists():
        shutil.rmtree(folder)
    writer = tf.summary.create_file_writer(str(folder))
    results = section.results if isinstance(section.results, dict) else {}
    with writer.as_default(step):
        for name, value in (results | section.scalars).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                tf.summary.scalar(f"{section.name}/{name}", value)
        for name, (caption, figure) in section.figures.items():
            tf.summary.image(name, tf.io.decode_png(png(figure), channels=3)[None], description=caption)
    writer.close()
    if section.projection is not None:
        projector.write(folder, section.projection)
    return folder


def settings_table(settings: dict[str, object], warning: str | None) -> str:
    """Returns settings as a Markdown table, under a warning where there is one."""
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items() if value is not None)
    return (f"**Warning: {warning}**\n\n" if warning else "") + f"| setting | value |\n|---|---|\n{rows}"


def _type_of(value: bool | int | float | str | None) -> int:
    """Returns what TensorBoard's table of hyperparameters calls a value's type; nobody knows that of nothing."""
    return api_pb2.DATA_TYPE_UNSET if value is None else _TYPES.get(type(value), api_pb2.DATA_TYPE_FLOAT64)


def _drop_lines_after(epoch: int, path: Path) -> None:
    path.with_suffix(".tmp").unlink(missing_ok=True)
    if not path.exists():
        return
    kept = [line for line in path.read_text(errors="replace").splitlines() if _epoch_of(line) <= epoch]
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(f"{line}\n" for line in kept))
    os.replace(partial, path)


def _epoch_of(line: str) -> float:
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):
        return float("inf")  # A line that was cut off when the run was killed.


def _drop_events_after(step: int, folder: Path) -> None:
    """Rewrites event files without the events past `step`, which would be shown twice; below 0 there are none left."""
    for leftover in folder.glob("partial.*"):
        leftover.unlink()
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
