"""A run that is small enough to be started many times, and how two of them are compared."""

import json
import time

import numpy as np
import pytest
import tensorflow as tf

COMMAND = (
    "--dataset=digits",
    "--noise=gaussian:0.5",
    "--base_filters=4",
    "--latent_dim=4",
    "--image_summary_epochs=1000",
)


def wait_until(condition, *processes, seconds=120):
    """Waits until a condition is true; fails where one of the processes that it depends on ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in processes) and time.monotonic() < end
        time.sleep(0.0005)


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def weights_of(workdir):
    """Returns the weights of the end of the last epoch, by name."""
    newest = max((workdir / "checkpoints").glob("step-*-epoch-*"))
    reader = tf.train.load_checkpoint(str(newest / "ckpt"))
    names = [name for name in reader.get_variable_to_shape_map() if name.startswith("weights")]
    return {name: reader.get_tensor(name) for name in names}


def assert_same_run(one, other):
    """Asserts that two runs are the same, but for the order in which replicas and workers sum."""
    other_weights = weights_of(other)
    for name, weight in weights_of(one).items():
        np.testing.assert_allclose(other_weights[name], weight, rtol=0, atol=1e-6)
    for a, b in zip(metrics_of(one), metrics_of(other), strict=True):
        assert [b[key] for key in ("step", "epoch", "nonfinite_steps")] == [
            a[key] for key in ("step", "epoch", "nonfinite_steps")
        ]
        assert b["validation/mse"] == pytest.approx(a["validation/mse"], rel=1e-5)
        assert b["train/loss"] == pytest.approx(a["train/loss"], rel=1e-5)
