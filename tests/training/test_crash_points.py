"""Runs that are killed before each kind of file operation, and how they end when they are resumed.

One run is watched that resumes another that was killed, rolls back from steps that are not finite, saves within epochs
and at their ends, and ends. Its folder is copied as it is just before each operation: that is what SIGKILL leaves. Each
of the copies is resumed, and has to end as a run does that was not killed: the bits of all variables, metrics.jsonl but
for its timings, the scalars in TensorBoard, each once, and no temporary files.

Operations are those that Python tells its audit hooks (opening to write, renaming, removing, making folders), and
those of TensorFlow (checkpoints, records of events, flushes). Of operations by the same functions of cae/ on files of
the same name but for its numbers, only the first is tried. Files that are half written are made from complete ones: a
line and a text that end in the middle, a checkpoint that is truncated, without its index, or still in temporary files.

What is not covered: a power cut, after which the disk has what was flushed last; that files are flushed is tested by
`test_checkpoints_are_flushed`. Nor events that TensorFlow had in memory: an event file may end anywhere, which is
tested in test_metric_writer.py.
"""

import dataclasses
import functools
import itertools
import re
import shutil
import signal
from pathlib import Path
from unittest import mock

import pytest
import tensorflow as tf
import trainings
from file_operations import HALF_SAVED, Watch, digest, temporary_files, truncate, truncate_last_line, watching
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import assert_same

from cae.config import Config
from cae.io_utils import temporary_path
from cae.preemption import Preempted
from cae.training import train_step, trainer
from cae.workdir import lock_workdir, write_run_config

NUM_BAD_STEPS = 3
"""Consecutive steps that are skipped, after which a run rolls back: the fifth to the seventh of eight."""


class Killed(BaseException):
    """Ends a run wherever it is; nothing catches it."""


@pytest.fixture(scope="module")
def process(dataset):
    """Trains as a process does, from the lock of its folder on.

    It takes the folder, `poll_signal` and the minutes between checkpoints, and returns what it ended with.
    """
    config = Config(
        dataset="digits", latent_dim=4, base_filters=4, batch_size=8, epochs=3, noise="gaussian:0.5", learning_rate=0.01
    )
    state_cache = trainings.StateCache()
    train_data = state_cache.train_data(dataset, config)
    state = state_cache.state(tf.distribute.get_strategy(), config, 8)

    def batches(first_step, last_step):
        """Bad ones until the run has rolled back."""
        return traced_batches(first_step, last_step, int(state.rollbacks.numpy()) == 0)

    @functools.cache
    def traced_batches(first_step, last_step, bad):
        numbers = tf.data.Dataset.range(first_step, last_step)
        nan = tf.constant(float("nan"))
        return tf.data.Dataset.zip(numbers, train_data.train(first_step, last_step)).map(
            lambda step, batch: (
                batch | {"input": tf.where(bad & (step >= 4) & (step < 4 + NUM_BAD_STEPS), nan, batch["input"])}
            )
        )

    def run(workdir, poll_signal=lambda state: 0, minutes=10.0):
        run_config = dataclasses.replace(config, checkpoint_interval_minutes=minutes)
        with lock_workdir(workdir):
            write_run_config(workdir, run_config, {"name": "made up", "warning": None})
            return trainings.train(
                state_cache, dataset, run_config, workdir, train_batches=batches, poll_signal=poll_signal
            )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_step, "MAX_CONSECUTIVE_NONFINITE_STEPS", NUM_BAD_STEPS)
        patch.setattr(trainer, "MAX_CONSECUTIVE_NONFINITE_STEPS", NUM_BAD_STEPS)
        patch.setattr(trainer, "TARGET_LOOP_SECONDS", 1e9)
        yield run


@pytest.fixture(scope="module")
def unbroken(process, tmp_path_factory):
    """A run that is not killed: what it ended with, and its folder."""
    workdir = tmp_path_factory.mktemp("unbroken") / "run"
    return process(workdir), workdir


@pytest.fixture(scope="module")
def killed(process, tmp_path_factory):
    """The folder of a run that was killed after it wrote the metrics of the second epoch, before it saved that."""
    workdir = tmp_path_factory.mktemp("killed") / "run"
    ends = []

    def end_epoch(state, epoch):
        ends.append(epoch)
        if epoch == 2:
            raise Killed
        original(state, epoch)

    original = trainer.TrainState.end_epoch
    with mock.patch.object(trainer.TrainState, "end_epoch", end_epoch), pytest.raises(Killed):
        process(workdir, minutes=0)
    return workdir


@pytest.fixture(scope="module")
def crashes(process, killed, tmp_path_factory):
    """Folders as they were before each kind of operation, and with that half done, by kind; and all kinds."""
    workdir = Path(shutil.copytree(killed, tmp_path_factory.mktemp("watched") / "run"))
    copies, numbers, contents = tmp_path_factory.mktemp("copies"), itertools.count(), set()

    def keep(kind, change=lambda copy: None):
        copy = copies / f"{next(numbers):03d}"
        shutil.copytree(workdir, copy)
        change(copy)
        # What is in temporary folders is tried once, and not for each kind of checkpoint.
        content = {digest(copy), (kind[0], *temporary_files(copy))}
        if content <= contents:
            shutil.rmtree(copy)
        else:
            folders[kind] = copy
        contents.update(content)

    def before(kind, path):
        keep(kind)
        inside, operation = path.relative_to(workdir), kind[0]
        half_written = ("half written", *kind)
        if operation == "rename" and temporary_path(path).exists():
            keep(half_written, lambda copy: truncate(temporary_path(copy / inside)))
        if operation == "fsync" and path.is_file():
            change = truncate_last_line if path.name == "metrics.jsonl" else truncate
            keep(half_written, lambda copy: change(copy / inside))
        if operation == "checkpoint":
            for how, change in HALF_SAVED.items():
                keep((how, *kind), lambda copy, change=change: change(copy / inside))

    folders, watch = {}, Watch(workdir, before)
    with watching(watch):
        process(workdir, minutes=0)
    return folders, watch.kinds


def scalars(workdir):
    """Returns what TensorBoard shows of a run but for timings: (run, tag, step, value), as often as each is there."""
    found = []
    for run in ("train", "validation"):
        events = EventAccumulator(str(workdir / "tensorboard" / run), size_guidance={"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            if tag.rpartition("/")[2] in trainings.TIMINGS | {"config"}:
                continue
            found += [(run, tag, each.step, float(tf.make_ndarray(each.tensor_proto))) for each in events.Tensors(tag)]
    return sorted(found)


def leftovers(workdir):
    return [path.name for path in workdir.rglob("*") if re.search(r"temp|\.tmp$", path.name)]


def assert_ends_as(unbroken, process, workdir):
    """Resumes a run to its end."""
    ended = process(workdir)
    assert ended.step == 8 and ended.rollbacks == 1
    assert_same(unbroken[0], ended, unbroken[1], workdir)
    assert scalars(workdir) == scalars(unbroken[1])
    assert leftovers(workdir) == []
    assert len(list((workdir / "tensorboard").glob("events*"))) == 1


def test_each_kind_of_operation_is_tried(crashes):
    """A save, a resume or a rollback that gets another one shows up here, to be looked at."""
    kinds = {(operation, name, functions.split(" < ")[0]) for operation, name, functions in crashes[1]}
    assert kinds == OPERATIONS


FILES = ("ckpt.data-N-of-N", "ckpt.index", "metadata.json")

CHECKPOINTS = ("step-N", "step-N-epoch-N", "best-N")

OPERATIONS = {
    # config.json.
    ("mkdir", ".", "lock_workdir"),
    ("mkdir", ".", ""),  # Of the tests.
    ("open", ".lock", "lock_workdir"),
    ("remove", ".config.json.tmp", "lock_workdir"),
    ("open", ".config.json.tmp", "write_run_config"),
    ("fsync", ".config.json.tmp", "write_run_config"),
    ("rename", "config.json", "write_run_config"),
    # What was written past the restored epoch is removed.
    ("remove", ".metrics.jsonl.tmp", "_purge_lines_after"),
    ("open", ".metrics.jsonl.tmp", "_purge_lines_after"),
    ("fsync", ".metrics.jsonl.tmp", "_purge_lines_after"),
    ("rename", "metrics.jsonl", "_purge_lines_after"),
    *(
        each
        for run in ("train", "validation")
        for each in (
            ("mkdir", f"tensorboard/{run}", "_open"),
            ("record", f"tensorboard/{run}/.events.out.tmp", "purge_events_after"),
            ("rename", f"tensorboard/{run}/events.out", "purge_events_after"),
            ("events", f"tensorboard/{run}", "_open"),
        )
    ),
    ("remove", "tensorboard/events.out", "write_hparams"),
    ("events", "tensorboard", "write_hparams"),
    # A line for each epoch.
    ("open", "metrics.jsonl", "write_epoch"),
    ("fsync", "metrics.jsonl", "write_epoch"),
    # Checkpoints.
    ("mkdir", "checkpoints", "__init__"),
    ("fsync", "checkpoints", "_fsync"),
    *(
        (operation, f"checkpoints/{checkpoint}{ending}", function)
        for checkpoint in CHECKPOINTS
        for operation, ending, function in (
            ("mkdir", ".tmp", "_write"),
            ("checkpoint", ".tmp/ckpt", "_write"),
            ("open", ".tmp/metadata.json", "commit"),
            *(("fsync", f".tmp/{file}", "_fsync") for file in FILES),
            ("fsync", ".tmp", "_fsync"),
            ("rename", "", "commit"),
            ("rename", ".removed.tmp", "remove"),
            *(("remove", f".removed.tmp/{file}", "remove") for file in FILES),
            ("rmdir", ".removed.tmp", "remove"),
        )
    ),
}
"""(operation, file, function of cae/ that does it): all that happens to a run's files."""


def test_a_run_that_is_killed_anywhere_ends_as_one_that_is_not(crashes, unbroken, process):
    folders, _ = crashes
    failed = []
    for kind, workdir in folders.items():
        try:
            assert_ends_as(unbroken, process, workdir)
        except Exception as error:  # noqa: BLE001
            failed.append(f"killed at {kind}: {type(error).__name__}: {str(error)[:300]}")
    assert not failed, "\n".join(failed)
    assert len(folders) >= len(HALF_SAVED) * len(CHECKPOINTS)


def test_checkpoints_are_flushed(crashes):
    """Files and their folder reach the disk before the rename, and that before older checkpoints are removed."""
    flushed = {name for operation, name, _ in crashes[1] if operation == "fsync"}
    temporary = {f"checkpoints/{name}.tmp" for name in CHECKPOINTS}
    assert temporary | {f"{folder}/{file}" for folder in temporary for file in FILES} <= flushed
    assert {"checkpoints", "metrics.jsonl"} <= flushed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["building", "saving"])
def test_a_signal_ends_a_run_once_it_is_saved(phase, number, process, unbroken, tmp_path):
    """A signal before the first step, and one within a save, which is completed."""
    received = [number] if phase == "building" else []

    def before(kind, _):
        if kind[:2] == ("checkpoint", "run/checkpoints/best-N.tmp/ckpt"):
            received.append(number)

    with watching(Watch(tmp_path, before)), pytest.raises(Preempted) as stop:
        process(tmp_path / "run", poll_signal=lambda _: received[0] if received else 0)
    assert stop.value.signal_number == number
    assert f"step {0 if phase == 'building' else 3}" in str(stop.value)
    assert leftovers(tmp_path / "run") == []
    assert_ends_as(unbroken, process, tmp_path / "run")
