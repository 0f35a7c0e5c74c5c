"""Runs that are killed, interrupted and run into full disks.

What is in a folder at every moment of a save is tried in one process by `training/test_crash_points.py`, and random
moments by `benchmarks.survival`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from programs import call, start
from small_runs import wait_until

from benchmarks import survival

pytestmark = pytest.mark.e2e

WORDS = (*survival.COMMAND[2:], "--epochs=8")
"""Flags of a run in mixed precision that saves every third of a second within an epoch."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nobody interrupts, in this process."""
    folder = tmp_path_factory.mktemp("unbroken")
    code, _, err = call("train.py", *WORDS, "--workdir=run", folder=folder)
    assert code == 0, err
    return folder / "run"


def started(workdir):
    return start("train.py", *WORDS, f"--workdir={workdir}", folder=workdir.parent)


def newest_step(workdir):
    """The step of the newest checkpoint that is whole."""
    return max(int(path.stem.partition("step-")[2]) for path in workdir.glob("checkpoints/*step-*.sha256"))


def finish(workdir):
    """Starts the command once more, lets it come to its end, and returns what it printed."""
    with started(workdir) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and err == "", err
    return out


def test_a_run_that_is_killed_in_training_and_in_a_save_ends_as_one_that_is_not(unbroken, tmp_path):
    workdir = tmp_path / "run"
    moments = {
        "training": lambda: [*workdir.glob("checkpoints/step-*.sha256")],
        "saving": lambda: survival.leftovers(workdir),
    }
    for moment, condition in moments.items():
        with started(workdir) as process:
            wait_until(condition, process)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, moment
    assert "going on after epoch" in finish(workdir)
    assert survival.compare(unbroken, workdir) == [] and survival.leftovers(workdir) == []


def test_a_signal_saves_the_run_and_the_same_command_goes_on(unbroken, tmp_path):
    workdir = tmp_path / "run"

    def interrupted_by(number, condition):
        with started(workdir) as process:
            wait_until(condition, process)
            process.send_signal(number)
            sent = time.monotonic()
            _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number and time.monotonic() - sent < 30
        assert err.count("\n") == 1 and err.startswith("train.py: interrupted at step"), err
        assert "the same command goes on" in err and survival.leftovers(workdir) == []

    interrupted_by(signal.SIGTERM, lambda: [*workdir.glob("checkpoints/step-*.sha256")])
    before = newest_step(workdir)
    interrupted_by(signal.SIGINT, lambda: newest_step(workdir) > before)
    finish(workdir)
    assert survival.compare(unbroken, workdir) == []


def test_a_signal_in_start_up_ends_at_once_and_leaves_nothing(tmp_path):
    """Where Python imports TensorFlow, for seconds, none of its own handlers runs."""
    workdir = tmp_path / "run"
    imported = tmp_path / "imported"
    environment = {"TENSORFLOW_PROCESSES_FILE": str(imported)}
    with start("train.py", *WORDS, f"--workdir={workdir}", folder=tmp_path, environment=environment) as process:
        wait_until(imported.exists, process)
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - sent < 30
    assert err.count("\n") == 1 and err.startswith("train.py: ended by SIGTERM; the same command goes on"), err
    assert not [*workdir.glob("checkpoints/*")]
    # It noted itself elsewhere, if it came to that.
    with open(os.environ["TENSORFLOW_PROCESSES_FILE"], "a") as counted:
        counted.write(f"{os.environ['PYTEST_CURRENT_TEST']}\n")


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_as_one_that_is_not(tmp_path):
    """The first one inside of a save, as every third one is."""
    unbroken = survival.reference(tmp_path / "unbroken")
    trials = survival.run_trials(tmp_path, 2, *unbroken)
    assert [trial.faults for trial in trials] == [(), ()] and all(trial.kills for trial in trials)
    assert trials[0].in_saves


# --- Signals alone, without TensorFlow --------------------------------------------------------------------------------

SCRIPT = """
import sys, threading, time
from cae import interrupts
interrupts.PATIENCE = 0.5
signals = interrupts.Interrupts()
signals.install()
with signals.postponed() as asked:
    print("ready", flush=True)
    if sys.argv[1] == "deaf":
        threading.Event().wait()  # As inside of a computation, where Python handles no signals.
    while not asked():
        time.sleep(0.01)
    print("asked", asked(), flush=True)
    time.sleep(0.1 if sys.argv[1] == "once" else 30)
print("in good order")
"""


def signalled(how, *numbers):
    """Sends signals to a program, each once it has told of the one before.

    Returns its exit code, what it printed since it was ready, and the seconds from the first signal to its end.
    """
    with subprocess.Popen([sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        begun, out = time.monotonic(), ""
        for number in numbers[:-1]:
            process.send_signal(number)
            out += process.stdout.readline()
        process.send_signal(numbers[-1])
        out += process.communicate(timeout=60)[0]
        return process.returncode, out, time.monotonic() - begun


def test_the_first_signal_waits_for_the_program():
    code, out, _ = signalled("once", signal.SIGTERM)
    assert code == 0 and out == "asked 15\nin good order\n"


def test_a_second_signal_ends_at_once():
    code, out, seconds = signalled("twice", signal.SIGINT, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and out == "asked 2\n" and seconds < 10


def test_patience_ends():
    code, out, seconds = signalled("deaf", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and out == "" and 0.4 < seconds < 10


# --- Disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own with room for next to nothing."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can be made by root alone")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def remount(disk, options):
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def test_a_disk_that_is_full_or_read_only_is_told_and_what_was_there_stays_good(unbroken, small_disk):
    def train():
        return call("train.py", *WORDS, f"--workdir={small_disk / 'run'}", folder=small_disk)

    code, _, err = train()
    assert code == 2 and err.count("\n") == 1 and "stay" in err and "good" in err, err
    remount(small_disk, "size=100m")
    code, _, err = train()
    assert code == 0 and survival.compare(unbroken, small_disk / "run") == [], err
    shutil.rmtree(small_disk / "run/tensorboard")
    remount(small_disk, "ro")
    code, _, err = train()
    assert code == 2 and err.count("\n") == 1 and "cannot be written: Read-only file system" in err
    assert os.statvfs(small_disk).f_flag & os.ST_RDONLY
    assert survival.compare(unbroken, small_disk / "run") == []
