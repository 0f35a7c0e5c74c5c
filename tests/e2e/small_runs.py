"""A run that is small enough to be started many times, and what two of them are compared by."""

import json
import time

import numpy as np
import pytest
import tensorflow as tf

COMMAND = ("--dataset=digits", "--noise=gaussian:0.5", "--width=4", "--latent_dim=4", "--pictures_every=1000")


def wait_until(condition, *processes, seconds=120):
    """Waits until something is so; fails where one of the processes that it depends on ends before."""
    until = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in processes) and time.monotonic() < until
        time.sleep(0.0005)


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def weights_of(workdir):
    """The weights of the end of the last epoch, by name."""
    newest = max((workdir / "checkpoints").glob("epoch-*.index")).with_suffix("")
    reader = tf.train.load_checkpoint(str(newest))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights")]
    return {name: reader.get_tensor(name) for name in names}


def assert_same_run(one, other):
    """Replicas and machines add up the same numbers in another order at most."""
    there = weights_of(other)
    for name, weight in weights_of(one).items():
        np.testing.assert_allclose(there[name], weight, rtol=0, atol=1e-6)
    for a, b in zip(metrics_of(one), metrics_of(other), strict=True):
        assert [b[key] for key in ("step", "epoch", "skipped_steps")] == [
            a[key] for key in ("step", "epoch", "skipped_steps")
        ]
        assert b["validation/mse"] == pytest.approx(a["validation/mse"], rel=1e-5)
        assert b["train/loss"] == pytest.approx(a["train/loss"], rel=1e-5)
