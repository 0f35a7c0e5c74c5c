"""Two worker processes, and several replicas in one process: the program, and steps that overflow."""

import json
import signal
import socket
import time

import pytest
from cli import assert_one_line, call, run, start
from small_runs import COMMAND, assert_same_run, metrics_of, wait_until

from cae.workdir import lock_workdir

pytestmark = pytest.mark.e2e


def train_alone(folder, epochs):
    """Trains on one device, in this process; returns the run's folder."""
    code, _, err = call("train.py", *COMMAND, f"--epochs={epochs}", "--workdir=alone", folder=folder)
    assert code == 0, err
    return folder / "alone"


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start_two(program, *words, folder):
    """Starts two workers on this machine; the first is the chief."""
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(2)]
    return [start(program, *words, folder=folder, environment={"TF_CONFIG": json.dumps(task)}) for task in tasks]


def finish(*processes, seconds=240):
    """Returns the exit code, stdout and stderr of each."""
    outputs = [process.communicate(timeout=seconds) for process in processes]
    return [(process.returncode, *each) for process, each in zip(processes, outputs)]


def test_four_replicas_of_one_process_compute_what_one_device_does(tmp_path):
    """Two replicas are tested in this process, in tests/training."""
    # 1,285 images in batches of 128: ten epochs end at step 101.
    words = ("--distribution_strategy=mirrored", "--logical_cpus=4", "--epochs=10", "--workdir=run")
    code, out, err = run("train.py", *COMMAND, *words, folder=tmp_path)
    assert code == 0 and "4 replicas" in out and err == "", err
    assert_same_run(train_alone(tmp_path, 10), tmp_path / "run")


@pytest.mark.multiworker
def test_two_workers_that_are_preempted_and_killed_end_as_one_process_that_is_not(tmp_path):
    """A signal to one ends both at the same step; killing one ends the other; started again, both resume."""
    workdir = tmp_path / "run"

    def begin(epochs=1000):
        words = ("--distribution_strategy=multi_worker_mirrored", f"--epochs={epochs}", "--workdir=run")
        return start_two("train.py", *COMMAND, *words, folder=tmp_path)

    workers = begin()
    wait_until((workdir / "metrics.jsonl").exists, *workers)
    workers[1].send_signal(signal.SIGTERM)
    (code, out, err), (other, *silent) = finish(*workers, seconds=60)
    assert code == other == 128 + signal.SIGTERM
    assert "2 replicas" in out and silent == ["", err], "only the chief prints what is no error"
    assert "preempted at step" in err and err.count("\n") == 1
    before = len(metrics_of(workdir))

    workers = begin()
    wait_until(lambda: len(metrics_of(workdir)) > before, *workers)
    workers[0].kill()
    killed = time.monotonic()
    _, (code, _, err) = finish(*workers, seconds=100)
    assert code == 2 and time.monotonic() - killed < 60 and err.count("\n") == 1, err
    assert "lost connection to another worker" in err

    epochs = len(metrics_of(workdir)) + 1
    (code, out, err), (other, *silent) = finish(*begin(epochs))
    assert code == other == 0 and "resuming from epoch" in out and err == "" and silent == ["", ""], err
    assert_same_run(train_alone(tmp_path, epochs), workdir)
    assert [line["epoch"] for line in metrics_of(workdir)] == list(range(1, epochs + 1))


@pytest.mark.multiworker
def test_a_chief_that_cannot_begin_ends_the_other_worker(tmp_path):
    words = (*COMMAND, "--distribution_strategy=multi_worker_mirrored", "--workdir=run")
    with lock_workdir(tmp_path / "run"):
        chief, other = finish(*start_two("train.py", *words, folder=tmp_path), seconds=100)
    assert_one_line(chief, "is locked by another process")
    assert_one_line(other, "lost connection to another worker")
    assert chief[0] == other[0] == 2


@pytest.mark.multiworker
def test_an_overflow_on_one_worker_is_skipped_by_all(tmp_path):
    """Two replicas in this process are tested in tests/training."""
    results = finish(*start_two("tests/e2e/overflow.py", folder=tmp_path), seconds=120)
    assert all(code == 0 for code, *_ in results), results
    found = [json.loads(out) for _, out, _ in results]
    assert found[0] == found[1], "both workers have the same weights and the same loss scale"
    assert found[0]["finite"] and found[0]["skipped"] == 1
    assert found[0]["scale"] == found[0]["scale_before"] / 2


@pytest.mark.slow
@pytest.mark.multiworker
def test_the_chief_ends_when_another_worker_is_killed(tmp_path):
    words = (*COMMAND, "--distribution_strategy=multi_worker_mirrored", "--workdir=run", "--epochs=1000")
    workers = start_two("train.py", *words, folder=tmp_path)
    wait_until((tmp_path / "run/metrics.jsonl").exists, *workers)
    workers[1].kill()
    (code, _, err), _ = finish(*workers, seconds=100)
    assert code == 2 and "lost connection to another worker" in err
