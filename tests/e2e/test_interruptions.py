"""Runs that are killed, preempted, and that fill their disk.

All moments of a save are tested in this process by `training/test_crash_points.py`, and random moments by
`benchmarks.fault_injection`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from cli import call, start
from small_runs import wait_until

from benchmarks import fault_injection

pytestmark = pytest.mark.e2e

WORDS = (*fault_injection.COMMAND[2:], "--epochs=8")
"""Flags of a run in mixed precision that saves every third of a second within an epoch."""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that is not interrupted, in this process."""
    folder = tmp_path_factory.mktemp("unbroken")
    code, _, err = call("train.py", *WORDS, "--workdir=run", folder=folder)
    assert code == 0, err
    return folder / "run"


def start_run(workdir):
    return start("train.py", *WORDS, f"--workdir={workdir}", folder=workdir.parent)


def checkpoints_within_epochs(workdir):
    return [*workdir.glob(f"checkpoints/step-{'[0-9]' * 9}")]


def latest_step(workdir):
    """Returns the step of the latest checkpoint."""
    return max(int(path.name.split("-")[1]) for path in workdir.glob("checkpoints/step-*") if not path.suffix)


def finish(workdir):
    """Resumes a run to its end, and returns what it printed."""
    with start_run(workdir) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and err == "", err
    return out


def test_a_run_that_is_killed_in_training_and_in_a_save_ends_as_one_that_is_not(unbroken, tmp_path):
    workdir = tmp_path / "run"
    moments = {
        "training": lambda: checkpoints_within_epochs(workdir),
        "saving": lambda: fault_injection.find_partial_saves(workdir),
    }
    for moment, condition in moments.items():
        with start_run(workdir) as process:
            wait_until(condition, process)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, moment
    assert "resuming from epoch" in finish(workdir)
    assert fault_injection.compare(unbroken, workdir) == [] and fault_injection.find_partial_saves(workdir) == []


def test_a_preempted_run_is_saved_and_resumed_by_the_same_command(unbroken, tmp_path):
    workdir = tmp_path / "run"

    def preempt(number, condition):
        with start_run(workdir) as process:
            wait_until(condition, process)
            process.send_signal(number)
            sent = time.monotonic()
            _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number and time.monotonic() - sent < 30
        assert err.count("\n") == 1 and err.startswith("train.py: preempted at step"), err
        assert "rerun the same command to resume" in err and fault_injection.find_partial_saves(workdir) == []

    preempt(signal.SIGTERM, lambda: checkpoints_within_epochs(workdir))
    before = latest_step(workdir)
    preempt(signal.SIGINT, lambda: latest_step(workdir) > before)
    finish(workdir)
    assert fault_injection.compare(unbroken, workdir) == []


def test_a_signal_at_the_start_ends_at_once_and_leaves_no_checkpoint(tmp_path):
    """While Python imports TensorFlow, for seconds, none of its signal handlers runs."""
    workdir = tmp_path / "run"
    imported = tmp_path / "imported"
    environment = {"TENSORFLOW_PROCESSES_FILE": str(imported)}
    with start("train.py", *WORDS, f"--workdir={workdir}", folder=tmp_path, environment=environment) as process:
        wait_until(imported.exists, process)
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and time.monotonic() - sent < 30
    assert err.count("\n") == 1 and err.startswith("train.py: terminated by SIGTERM; rerun the same command"), err
    assert not [*workdir.glob("checkpoints/*")]
    # It recorded its import in another file.
    with open(os.environ["TENSORFLOW_PROCESSES_FILE"], "a") as file:
        file.write(f"{os.environ['PYTEST_CURRENT_TEST']}\n")


@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_as_one_that_is_not(tmp_path):
    """The first one within a save, as every third one is."""
    seconds = fault_injection.run_uninterrupted(tmp_path / "unbroken")
    trials = fault_injection.run_trials(tmp_path, 2, tmp_path / "unbroken", seconds)
    assert [trial.differences for trial in trials] == [(), ()] and all(trial.kills for trial in trials)
    assert trials[0].kills_in_save


# --- Signals without TensorFlow ---------------------------------------------------------------------------------------

SCRIPT = """
import sys, threading, time
from cae import preemption
preemption.GRACE_PERIOD_SECONDS = 0.5
handler = preemption.PreemptionHandler()
handler.install()
with handler.deferred() as poll_signal:
    print("ready", flush=True)
    if sys.argv[1] == "busy":
        threading.Event().wait()  # As within a computation, where Python handles no signals.
    while not poll_signal():
        time.sleep(0.01)
    print("received", poll_signal(), flush=True)
    time.sleep(0.1 if sys.argv[1] == "once" else 30)
print("saved")
"""


def send_signals(how, *numbers):
    """Sends signals to a program, each once it has received the one before.

    Returns its exit code, what it printed since it was ready, and the seconds from the first signal to its end.
    """
    with subprocess.Popen([sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        start_time, out = time.monotonic(), ""
        for number in numbers[:-1]:
            process.send_signal(number)
            out += process.stdout.readline()
        process.send_signal(numbers[-1])
        out += process.communicate(timeout=60)[0]
        return process.returncode, out, time.monotonic() - start_time


def test_the_first_signal_is_deferred():
    code, out, _ = send_signals("once", signal.SIGTERM)
    assert code == 0 and out == "received 15\nsaved\n"


def test_a_second_signal_ends_at_once():
    code, out, seconds = send_signals("twice", signal.SIGINT, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and out == "received 2\n" and seconds < 10


def test_the_grace_period_ends():
    code, out, seconds = send_signals("busy", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and out == "" and 0.4 < seconds < 10


# --- Disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system with little room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def remount(disk, options):
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def test_a_disk_that_is_full_or_read_only_is_reported_and_checkpoints_stay_intact(unbroken, small_disk):
    def train():
        return call("train.py", *WORDS, f"--workdir={small_disk / 'run'}", folder=small_disk)

    code, _, err = train()
    assert code == 2 and err.count("\n") == 1 and "intact" in err, err
    remount(small_disk, "size=100m")
    code, _, err = train()
    assert code == 0 and fault_injection.compare(unbroken, small_disk / "run") == [], err
    shutil.rmtree(small_disk / "run/tensorboard")
    remount(small_disk, "ro")
    code, _, err = train()
    assert code == 2 and err.count("\n") == 1 and "can't be written: Read-only file system" in err
    assert os.statvfs(small_disk).f_flag & os.ST_RDONLY
    assert fault_injection.compare(unbroken, small_disk / "run") == []
