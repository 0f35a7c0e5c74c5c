"""Several replicas and several machines, as processes of their own: the real program, and steps that overflow."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[2]

# 1,285 images in batches of 128: 10 epochs end at step 101.
COMMAND = (
    str(ROOT / "train.py"), "--dataset=digits", "--noise=gaussian:0.5", "--width=4", "--latent_dim=4",
    "--pictures_every=1000",
)  # fmt: skip


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def start(command, folder, config=None):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | ({"TF_CONFIG": json.dumps(config)} if config else {})
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_two(command, folder):
    """Starts two workers on this machine; the first is the chief."""
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(2)]
    return [start(command, folder, task) for task in tasks]


def finish(*processes, seconds=240):
    """Returns the exit code, stdout and stderr of each."""
    told = [process.communicate(timeout=seconds) for process in processes]
    return [(process.returncode, *each) for process, each in zip(processes, told)]


def weights_of(workdir):
    (newest,) = [path.with_suffix("") for path in (workdir / "checkpoints").glob("epoch-0010-*.index")]
    reader = tf.train.load_checkpoint(str(newest))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights")]
    return {name: reader.get_tensor(name) for name in names}


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A run on one device."""
    folder = tmp_path_factory.mktemp("alone")
    ((code, _, err),) = finish(start((*COMMAND, "--epochs=10", "--workdir=run"), folder))
    assert code == 0, err
    return folder / "run"


def assert_same_run(one, other):
    there = weights_of(other)
    for name, weight in weights_of(one).items():
        np.testing.assert_allclose(there[name], weight, rtol=0, atol=1e-6)
    for a, b in zip(metrics_of(one), metrics_of(other), strict=True):
        assert [b[key] for key in ("step", "epoch", "skipped_steps")] == [
            a[key] for key in ("step", "epoch", "skipped_steps")
        ]
        assert b["validation/mse"] == pytest.approx(a["validation/mse"], rel=1e-5)
        assert b["train/loss"] == pytest.approx(a["train/loss"], rel=1e-5)


@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_of_one_process_do_what_one_device_does(alone, tmp_path, replicas):
    words = ("--strategy=mirrored", f"--logical_cpus={replicas}", "--epochs=10", "--workdir=run")
    ((code, out, err),) = finish(start((*COMMAND, *words), tmp_path))
    assert code == 0 and f"{replicas} replicas" in out, err
    assert_same_run(alone, tmp_path / "run")


def test_two_machines_do_what_one_device_does(alone, tmp_path):
    (first, out, err), (second, *silent) = finish(
        *start_two((*COMMAND, "--strategy=multiworker", "--epochs=10", "--workdir=run"), tmp_path)
    )
    assert first == second == 0 and "2 replicas" in out and err == "", err
    assert silent == ["", ""], "the chief alone speaks"
    assert_same_run(alone, tmp_path / "run")
    assert len([*(tmp_path / "run/tensorboard/train").glob("events*")]) == 1


@pytest.mark.parametrize("victim", [0, 1], ids=["the chief", "another one"])
def test_where_one_machine_dies_the_other_ends_and_all_go_on_together(tmp_path, victim):
    command = (*COMMAND, "--strategy=multiworker", "--workdir=run", "--epochs=1000")
    workers = start_two(command, tmp_path)
    until = time.monotonic() + 200
    while not [*(tmp_path / "run/checkpoints").glob("epoch-0001-*.sha256")]:
        assert all(worker.poll() is None for worker in workers) and time.monotonic() < until
        time.sleep(0.05)
    workers[victim].kill()
    died = time.monotonic()
    _, err = workers[1 - victim].communicate(timeout=100)
    assert time.monotonic() - died < 60
    assert workers[1 - victim].returncode == 2 and err.count("\n") == 1, err
    assert "another machine ended or can't be reached any more" in err
    epochs = len(metrics_of(tmp_path / "run")) + 1
    (code, out, err), (other, *_) = finish(*start_two((*command[:-1], f"--epochs={epochs}"), tmp_path))
    assert code == other == 0 and "going on after epoch" in out, err
    assert [line["epoch"] for line in metrics_of(tmp_path / "run")] == list(range(1, epochs + 1))


def test_a_signal_to_one_machine_ends_all_at_the_same_step(tmp_path):
    workers = start_two((*COMMAND, "--strategy=multiworker", "--workdir=run", "--epochs=1000"), tmp_path)
    while not (tmp_path / "run/metrics.jsonl").exists():
        assert all(worker.poll() is None for worker in workers)
        time.sleep(0.05)
    workers[1].send_signal(signal.SIGTERM)
    (code, _, err), (other, _, same) = finish(*workers, seconds=30)
    assert code == other == 128 + signal.SIGTERM
    assert err == same and "interrupted at step" in err and err.count("\n") == 1


@pytest.mark.parametrize("way", [("mirrored", "2"), ("multiworker", "1")], ids=lambda way: way[0])
def test_an_overflow_on_one_replica_is_one_on_all(tmp_path, way):
    command = (str(ROOT / "tests/training/overflow.py"), *way)
    processes = start_two(command, tmp_path) if way[0] == "multiworker" else [start(command, tmp_path)]
    told = finish(*processes, seconds=120)
    assert all(code == 0 for code, *_ in told), told
    found = [json.loads(out) for _, out, _ in told]
    for each in found:
        assert each["finite"] and each["alike"] and each["skipped"] == 1
        assert each["scales"] == [each["scale_before"] / 2] * len(each["scales"])
    assert len({json.dumps(each) for each in found}) == 1, "all machines hold the same weights"
