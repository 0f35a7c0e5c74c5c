"""TensorBoard's event files: what a resume removes from them, and the table of hyperparameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams

from cae.io_utils import temporary_path

PATTERN = "events.out.tfevents.*"
"""The names of event files."""

HPARAMS_METRICS = ("loss", "mse", "psnr")
"""The validation metrics that the table of hyperparameters shows of each run, with their last values."""

_TYPES = {type(None): api_pb2.DATA_TYPE_UNSET, bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}


def purge_events_after(step: int, folder: Path) -> None:
    """Removes the events past a step, which a resumed run writes again; below 0 none are left.

    TensorFlow's writer has no `purge_step`. An event file that ends within an event, since its process was killed, is
    kept up to there.
    """
    for path in folder.glob(temporary_path(folder / PATTERN).name):
        path.unlink()
    for path in folder.glob(PATTERN):
        temporary = temporary_path(path)
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for event in RawEventFileLoader(str(path)).Load():
                if tf.compat.v1.Event.FromString(event).step <= step:
                    writer.write(event)
        temporary.replace(path)


def write_hparams(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes a run's line in TensorBoard's table of hyperparameters, in place of an earlier one.

    Args:
      folder: The folder above the runs 'train' and 'validation', of which the table shows the metrics.
      config: The configuration of the run.
    """
    for path in folder.glob(PATTERN):
        path.unlink()
    # The columns of the first run are those of the table: it declares fields that only other runs may set, too.
    columns = [
        api_pb2.HParamInfo(name=name, type=_TYPES.get(type(value), api_pb2.DATA_TYPE_FLOAT64))
        for name, value in config.items()
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(group="validation", tag=tag), display_name=f"validation/{tag}")
        for tag in HPARAMS_METRICS
    ]
    values = {name: value for name, value in config.items() if value is not None}
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        # Without the name of a group each run is a group: runs of the same configuration are not averaged.
        for message in (hparams.experiment_pb(columns, metrics), hparams.session_start_pb(values)):
            tf.summary.experimental.write_raw_pb(message.SerializeToString(), step=0)
    writer.close()
