"""Runs that are killed, interrupted and run into full disks, through the real program."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import survival

TRIALS = 10


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run that nobody interrupts, and how many seconds it takes."""
    return survival.reference(tmp_path_factory.mktemp("unbroken") / "run")


def test_another_seed_ends_otherwise(unbroken, tmp_path):
    workdir, _ = survival.reference(tmp_path / "other", "--seed=1")
    assert any("weights" in each for each in survival.compare(unbroken[0], workdir))


def test_runs_that_are_killed_end_as_one_that_is_not(unbroken, tmp_path):
    """Every third one is killed inside of a save."""
    trials = survival.run_trials(tmp_path, TRIALS, *unbroken)
    assert [trial.faults for trial in trials] == [()] * TRIALS and all(trial.kills for trial in trials)
    assert all(trial.in_saves for trial in trials[::3])


def started(workdir, *words):
    return subprocess.Popen(
        [*survival.COMMAND, *words, f"--workdir={workdir}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(there, process, seconds=120):
    until = time.monotonic() + seconds
    while not there():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.001)


PHASES = {
    "start-up": lambda workdir: True,
    "building": lambda workdir: (workdir / "config.json").exists(),
    "training": lambda workdir: (workdir / "metrics.jsonl").exists(),
    "saving": lambda workdir: (workdir / "metrics.jsonl").exists() and survival.leftovers(workdir),
}


@pytest.mark.parametrize("phase, number", [*((phase, signal.SIGTERM) for phase in PHASES), ("training", signal.SIGINT)])
def test_a_signal_ends_a_run_in_good_order(unbroken, tmp_path, phase, number):
    workdir = tmp_path / "run"
    with started(workdir) as process:
        if phase == "start-up":
            time.sleep(1.5)
        wait_until(lambda: PHASES[phase](workdir), process)
        process.send_signal(number)
        sent = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and time.monotonic() - sent < 30
    assert err.count("\n") == 1 and err.startswith("train.py: ") and "the same command goes on" in err
    if phase in ("training", "saving"):
        assert "interrupted at step" in err
    assert not workdir.exists() or not survival.leftovers(workdir)
    survival.reference(workdir)
    assert survival.compare(unbroken[0], workdir) == []


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    with started(tmp_path / "run", "--epochs=1000") as first:
        wait_until((tmp_path / "run/metrics.jsonl").exists, first)
        with started(tmp_path / "run", "--epochs=1000") as second:
            out, err = second.communicate(timeout=60)
        assert second.returncode == 2 and out == "" and "is being written by another run" in err
        assert err.count("\n") == 1 and first.poll() is None
        first.kill()


SCRIPT = """
import sys, threading, time
from cae import interrupts
interrupts.PATIENCE = 2.0
signals = interrupts.Interrupts()
signals.install()
with signals.postponed() as asked:
    print("ready", flush=True)
    if sys.argv[1] == "deaf":
        threading.Event().wait()  # As inside of a computation, where Python handles no signals.
    while not asked():
        time.sleep(0.01)
    print("asked", asked(), flush=True)
    time.sleep(1.0 if sys.argv[1] == "once" else 30)
print("in good order")
"""


def signalled(how, *numbers):
    """Sends signals to a program that is asked to end; returns its exit code, its output, and the seconds it took."""
    with subprocess.Popen([sys.executable, "-c", SCRIPT, how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        start = time.monotonic()
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.3)
        out, _ = process.communicate(timeout=60)
        return process.returncode, out, time.monotonic() - start


def test_the_first_signal_waits_for_the_program():
    code, out, _ = signalled("once", signal.SIGTERM)
    assert code == 0 and out == "asked 15\nin good order\n"


def test_a_second_signal_ends_at_once():
    code, out, seconds = signalled("twice", signal.SIGINT, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and out == "asked 2\n" and seconds < 10


def test_patience_ends():
    code, out, seconds = signalled("deaf", signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and out == "" and 1.5 < seconds < 10


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


def test_a_full_disk_is_told_and_what_was_there_stays_good(unbroken, small_disk):
    with started(small_disk / "run") as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 2 and err.count("\n") == 1 and "stay" in err and "good" in err, err
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    survival.reference(small_disk / "run")
    assert survival.compare(unbroken[0], small_disk / "run") == []


def test_a_folder_that_turns_read_only_is_told_and_what_was_there_stays_good(unbroken, small_disk):
    subprocess.run(["mount", "-o", "remount,size=100m", small_disk], check=True)
    survival.reference(small_disk / "run")
    shutil.rmtree(small_disk / "run" / "tensorboard")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with started(small_disk / "run") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2 and err.count("\n") == 1 and "cannot be written: Read-only file system" in err
    assert survival.compare(unbroken[0], small_disk / "run") == []


def test_without_a_cluster_several_machines_are_refused(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    told = {
        "": "TF_CONFIG is not set; it must look like",
        "{": "TF_CONFIG is '{'; it must look like",
        '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}': "none of index 2",
    }
    for config, text in told.items():
        done = subprocess.run(
            [*survival.COMMAND, "--strategy=multiworker", f"--workdir={tmp_path / 'run'}"],
            env=environment | {"TF_CONFIG": config},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2 and text in done.stderr and done.stderr.count("\n") == 1
