"""Runs that are killed before each kind of operation on their files, and what became of them when they went on.

One run is watched that goes on from where another was killed, goes back from steps that are no numbers, saves within
epochs and at their ends, and ends. Its folder is copied as it is just before each operation: that is what SIGKILL
leaves. A run goes on from each of the copies, and has to end as one does that nobody killed: the bits of all variables,
metrics.jsonl but for its timings, the scalars in TensorBoard, each once, and no temporary files.

Operations are those that Python tells its audit hooks (opening to write, renaming, removing, making folders), and
writes of TensorFlow's: checkpoints, records of events, flushes. Of operations by the same functions of cae/ on files
of the same name but for its numbers, only the first is tried. Writes that are half done are made: a line and a text
that end in the middle, a checkpoint that is cut off, its index missing, or still in temporary pieces.

What is not covered: a loss of power, after which the disk holds what was flushed last; that files are flushed is seen
in `test_checkpoints_are_flushed`. Nor events that TensorFlow had in memory: an event file can end anywhere, which is
tried in test_summaries.py.
"""

import dataclasses
import functools
import re
import shutil
import signal
from pathlib import Path
from unittest import mock

import fits
import pytest
import tensorflow as tf
from file_operations import HALF_SAVED, Watch, cut, cut_last_line, digest, watching
from fits import assert_same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cae import config
from cae.interrupts import Interrupted
from cae.training import loop, steps

BAD_STEPS = 3
"""Steps in a row that change nothing, after which a run goes back: the fifth to the seventh of eight."""


class Killed(BaseException):
    """Ends a run wherever it is; nothing catches it."""


@pytest.fixture(scope="module")
def process(source):
    """A program, from the lock of its folder on: (folder, asked, minutes between checkpoints) to what it ended with."""
    settings = config.Config(
        dataset="digits", latent_dim=4, width=4, batch_size=8, epochs=3, noise="gaussian:0.5", learning_rate=0.01
    )
    builds = fits.Builds()
    feed = builds.feed(source, settings)
    state = builds.state(tf.distribute.get_strategy(), settings, 8)

    def batches(first_step, last_step):
        """Bad ones until the run has gone back, which is all that a process knows of it."""
        return traced_batches(first_step, last_step, int(state.times_back.numpy()) == 0)

    @functools.cache
    def traced_batches(first_step, last_step, bad):
        numbers = tf.data.Dataset.range(first_step, last_step)
        nothing = tf.constant(float("nan"))
        return tf.data.Dataset.zip(numbers, feed.training(first_step, last_step)).map(
            lambda step, batch: (
                batch | {"noisy": tf.where(bad & (step >= 4) & (step < 4 + BAD_STEPS), nothing, batch["noisy"])}
            )
        )

    def run(workdir, asked=lambda state: 0, minutes=10.0):
        ours = dataclasses.replace(settings, checkpoint_minutes=minutes)
        with config.open_workdir(workdir):
            config.claim(workdir, ours, {"name": "made up", "warning": None})
            return fits.fit(builds, source, ours, workdir, batches=batches, asked=asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MOST_IN_A_ROW", BAD_STEPS)
        patch.setattr(loop, "MOST_IN_A_ROW", BAD_STEPS)
        patch.setattr(loop, "SECONDS_PER_CALL", 1e9)
        yield run


@pytest.fixture(scope="module")
def whole(process, tmp_path_factory):
    """A run that nobody kills."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return process(workdir), workdir


@pytest.fixture(scope="module")
def killed(process, tmp_path_factory):
    """The folder of a run that was killed after it wrote what the second epoch came to, before it saved that."""
    workdir = tmp_path_factory.mktemp("killed") / "run"
    ends = []

    def end_epoch(state, epoch):
        ends.append(epoch)
        if epoch == 2:
            raise Killed
        original(state, epoch)

    original = loop.State.end_epoch
    with mock.patch.object(loop.State, "end_epoch", end_epoch), pytest.raises(Killed):
        process(workdir, minutes=0)
    return workdir


@pytest.fixture(scope="module")
def crashes(process, killed, tmp_path_factory):
    """Folders as they were before each kind of operation, and with that half done, by kind; and the kinds seen."""
    workdir = Path(shutil.copytree(killed, tmp_path_factory.mktemp("watched") / "run"))
    copies, last = tmp_path_factory.mktemp("copies"), []

    def keep(name, spoil=lambda copy: None):
        copy = copies / f"{len(found):03d}"
        shutil.copytree(workdir, copy)
        spoil(copy)
        if (content := digest(copy)) in last:
            shutil.rmtree(copy)
        else:
            last.append(content)
            found[name] = copy

    def before(kind, path):
        keep(kind)
        inside = path.relative_to(workdir)
        if kind[0] == "rename":
            # What is renamed was written just now.
            partial = max(path.parent.glob("*"), key=lambda each: each.stat().st_mtime_ns)
            if re.search(r"te?mp$|^partial", partial.name):
                keep(("half written", *kind[1:]), lambda copy: cut(copy / inside.parent / partial.name))
        if kind[:2] == ("fsync", "metrics.jsonl"):
            keep(("half written", *kind[1:]), lambda copy: cut_last_line(copy / inside))
        if kind[0] == "checkpoint":
            for how, spoil in HALF_SAVED.items():
                keep((how, *kind[1:]), lambda copy, spoil=spoil: spoil(copy / inside))

    found, watch = {}, Watch(workdir, before)
    with watching(watch):
        process(workdir, minutes=0)
    return found, watch.seen


def scalars(workdir):
    """Returns what TensorBoard shows of a run but for timings: (run, tag, step, value), as often as each is there."""
    found = []
    for run in ("train", "validation"):
        events = EventAccumulator(str(workdir / "tensorboard" / run), size_guidance={"tensors": 0}).Reload()
        for tag in set(events.Tags()["tensors"]) - fits.TIMINGS - {"configuration"}:
            found += [(run, tag, each.step, float(tf.make_ndarray(each.tensor_proto))) for each in events.Tensors(tag)]
    return sorted(found)


def leftovers(workdir):
    return [path.name for path in workdir.rglob("*") if re.search(r"temp|\.tmp$|^partial", path.name)]


def assert_ends_as(whole, process, workdir):
    ended, unbroken = process(workdir), whole[0]
    assert ended.steps == 8 and ended.times_back == 1
    assert_same(unbroken, ended, whole[1], workdir)
    assert scalars(workdir) == scalars(whole[1])
    assert leftovers(workdir) == []
    assert len(list((workdir / "tensorboard").glob("events*"))) == 1


def test_each_kind_of_operation_is_tried(crashes):
    """A save, a resume or a rollback that gets another one shows up here, to be looked at."""
    _, seen = crashes
    found = {(operation, name, called.split(" < ")[0]) for operation, name, called in seen}
    assert found == OPERATIONS


PIECES = ("data-N-of-N", "index", "shaN")

OPERATIONS = {
    # The record of the run.
    ("mkdir", "run", "open_workdir"),
    ("open", ".lock", "open_workdir"),
    ("remove", "config.tmp", "open_workdir"),
    ("open", "config.tmp", "claim"),
    ("rename", "config.json", "claim"),
    ("mkdir", "run", ""),  # Of the tests.
    # What an earlier try told of later steps goes.
    ("remove", "metrics.tmp", "_drop_lines_after"),
    ("open", "metrics.tmp", "_drop_lines_after"),
    ("rename", "metrics.jsonl", "_drop_lines_after"),
    ("record", "partial.events", "_drop_events_after"),
    ("rename", "events", "_drop_events_after"),
    ("mkdir", "train", "__init__"),
    ("mkdir", "validation", "__init__"),
    ("events", "train", "__init__"),
    ("events", "validation", "__init__"),
    ("remove", "events", "hyperparameters"),
    ("events", "tensorboard", "hyperparameters"),
    # A line an epoch.
    ("open", "metrics.jsonl", "scalars"),
    ("fsync", "metrics.jsonl", "scalars"),
    # Checkpoints.
    ("mkdir", "checkpoints", "__init__"),
    ("fsync", "checkpoints", "_reach_the_disk"),
    *(
        (operation, f"{checkpoint}{ending}", function)
        for checkpoint in ("step-N", "epoch-N-step-N", "best-N")
        for operation, ending, function in (
            ("remove", ".shaN", "_write"),
            ("checkpoint", "", "_write"),
            ("open", ".shaN.temp", "_seal"),
            ("rename", ".shaN", "_seal"),
            *(("fsync", f".{piece}", "_reach_the_disk") for piece in PIECES),
            *(("remove", f".{piece}", "_remove") for piece in PIECES),
        )
    ),
}
"""(operation, file, function of cae/ that does it): all that happens to a run's files."""


def test_whenever_a_run_is_killed_it_ends_as_one_that_is_not(crashes, whole, process):
    found, _ = crashes
    failed = []
    for kind, workdir in found.items():
        try:
            assert_ends_as(whole, process, workdir)
        except Exception as error:  # noqa: BLE001
            failed.append(f"killed at {kind}: {type(error).__name__}: {str(error)[:300]}")
    assert not failed, "\n".join(failed)
    assert len(found) >= len(HALF_SAVED) * 3


def test_checkpoints_are_flushed(crashes):
    """Pieces, digests and the folder itself reach the disk before older checkpoints go."""
    flushed = {name for operation, name, _ in crashes[1] if operation == "fsync"}
    for checkpoint in ("step-N", "epoch-N-step-N", "best-N"):
        assert {f"{checkpoint}.{piece}" for piece in PIECES} <= flushed
    assert {"checkpoints", "metrics.jsonl"} <= flushed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phase", ["building", "saving"])
def test_a_signal_ends_a_run_in_good_order(phase, number, process, whole, tmp_path):
    """While a model is built there is nobody to ask; a save that has begun is ended."""
    asked = [number] if phase == "building" else []
    watch = Watch(tmp_path, lambda kind, _: asked.append(number) if kind[:2] == ("checkpoint", "best-N") else None)
    with watching(watch), pytest.raises(Interrupted) as stop:
        process(tmp_path / "run", asked=lambda _: asked[0] if asked else 0)
    assert stop.value.number == number
    assert f"interrupted at step {0 if phase == 'building' else 3}, which is saved" in str(stop.value)
    assert leftovers(tmp_path / "run") == []
    assert_ends_as(whole, process, tmp_path / "run")
