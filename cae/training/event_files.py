"""TensorBoard's event files: what a resume removes from them, and the table of hyperparameters."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as hparams

from cae.config import Config
from cae.io_utils import temporary_path
from cae.workdir import RESUME_MUTABLE_FIELDS

PATTERN = "events.out.tfevents.*"
"""The names of event files."""

HPARAMS_METRICS = {
    ("validation", "epoch/loss"): "validation loss",
    ("validation", "epoch/psnr"): "validation PSNR",
    ("validation", "epoch/ssim"): "validation SSIM",
    ("train", "epoch/loss"): "training loss",
    ("train", "epoch_rates/images_per_second"): "images per second",
    ("eval", "eval/denoise/psnr"): "test PSNR, denoised",
    ("eval", "eval/reconstruct/psnr"): "test PSNR, reconstructed",
    ("eval", "eval/latents/linear_probe_accuracy"): "linear probe accuracy",
    ("eval", "eval/outliers/auroc"): "AUROC, worst set",
    ("eval", "eval/outliers/fpr"): "FPR",
}
"""The metrics that the table of hyperparameters shows of each run, with their last values: names by (run, tag).

TensorBoard shows the first five until others are chosen, and in parallel coordinates no run that lacks one of them:
they are of the training.
"""

_FIRST_HPARAMS = ("latent_dim", "learning_rate", "model", "noise", "optimizer")
"""The table has room for five hyperparameters, and shows those first that are said to differ between runs."""

_TYPES = {bool: api_pb2.DATA_TYPE_BOOL, str: api_pb2.DATA_TYPE_STRING}


@contextlib.contextmanager
def os_errors() -> Iterator[None]:
    """A context in which TensorFlow's errors of files are raised as `OSError`, as are those of other files."""
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def purge_events_after(step: int, folder: Path) -> None:
    """Removes the events past a step, which a resumed run writes again; below 0 none are left but graphs.

    TensorFlow's writer has no `purge_step`. An event file that ends within an event, since its process was killed, is
    kept up to there.
    """
    for path in folder.glob(temporary_path(folder / PATTERN).name):
        path.unlink()
    for path in folder.glob(PATTERN):
        temporary = temporary_path(path)
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for serialized in RawEventFileLoader(str(path)).Load():
                event = tf.compat.v1.Event.FromString(serialized)
                if event.step <= step or event.HasField("graph_def"):
                    writer.write(serialized)
        temporary.replace(path)


def write_hparams(folder: Path, config: Mapping[str, Any]) -> None:
    """Writes a run's line in TensorBoard's table of hyperparameters, in place of an earlier one.

    Args:
      folder: The folder above the runs 'train', 'validation' and 'eval', of which the table shows the metrics.
      config: The configuration of the run.
    """
    for path in folder.glob(PATTERN):
        path.unlink()
    # The columns of the first run are those of the table: it declares fields that only other runs may set, too.
    columns = [
        api_pb2.HParamInfo(name=each.name, type=_hparam_type(each), differs=each.name in _FIRST_HPARAMS)
        for each in _hparam_fields()
    ]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(group=run, tag=tag), display_name=name)
        for (run, tag), name in HPARAMS_METRICS.items()
    ]
    values = {each.name: _hparam_value(each, config[each.name]) for each in _hparam_fields() if each.name in config}
    values = {name: value for name, value in values.items() if value is not None}
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        # Without the name of a group each run is a group: runs of the same configuration are not averaged.
        for message in (hparams.experiment_pb(columns, metrics), hparams.session_start_pb(values)):
            tf.summary.experimental.write_raw_pb(message.SerializeToString(), step=0)
    writer.close()


def _hparam_fields() -> list[dataclasses.Field]:
    """Returns the fields of `Config` that decide what a run learns."""
    not_hparams = RESUME_MUTABLE_FIELDS - {"epochs", "max_steps"}
    return [each for each in dataclasses.fields(Config) if each.name not in not_hparams]


def _hparam_value(field: dataclasses.Field, value: Any) -> Any:
    # TensorBoard draws no line through the parallel coordinates of a run that lacks one.
    return "none" if value is None and _hparam_type(field) == api_pb2.DATA_TYPE_STRING else value


def _hparam_type(field: dataclasses.Field) -> int:
    kinds = (kind for kind in _TYPES if field.type in (kind, kind | None))
    return _TYPES.get(next(kinds, None), api_pb2.DATA_TYPE_FLOAT64)
