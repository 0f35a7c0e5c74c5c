"""What loading and using a run leaves as it was, and the precision that its model computes in."""

import logging
import os
import random as python_random
import warnings

import keras
import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from absl import logging as absl_logging

import cae
from cae import runtime
from cae.errors import UserError


def global_state():
    """What a process has but once, and libraries change."""
    threading, numpy_state = tf.config.threading, np.random.get_state()  # noqa: NPY002
    return {
        "python": python_random.getstate(),
        "numpy": [each.tolist() if isinstance(each, np.ndarray) else each for each in numpy_state],
        "dtype policy": keras.config.dtype_policy().name,
        "floatx": keras.config.floatx(),
        "threads": (threading.get_inter_op_parallelism_threads(), threading.get_intra_op_parallelism_threads()),
        "logging": [logging.getLogger(name).level for name in (None, "tensorflow", "absl", "matplotlib")],
        "handlers": list(logging.getLogger().handlers),
        "absl": absl_logging.get_verbosity(),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "matplotlib": dict(matplotlib.rcParams),
        "numpy errors": np.geterr(),
    }


def random_numbers():
    """Of TensorFlow and Keras, whose random states can't be compared."""
    return [float(module.uniform([])) for module in (tf.random, tf.random.get_global_generator(), keras.random)]


@pytest.fixture
def of_precision(trained_run, tmp_path):
    """Returns the folder of the trained run, or of one whose layers have another precision."""

    def make(precision):
        if precision == "float32":
            return trained_run.workdir
        workdir = trained_run.copy(tmp_path / precision)
        path = workdir / "config.json"
        path.write_text(path.read_text().replace('"precision": "float32"', f'"precision": "{precision}"'))
        return workdir

    return make


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_nothing_global_is_changed(of_precision, precision, digits):
    workdir = of_precision(precision)
    keras.utils.set_random_seed(3)
    tf.random.set_global_generator(tf.random.Generator.from_seed(3))
    expected = random_numbers()
    keras.utils.set_random_seed(3)
    tf.random.set_global_generator(tf.random.Generator.from_seed(3))
    before = global_state()
    run = cae.load(workdir)
    run.denoise(digits[:3])
    run.interpolate(digits[0], digits[1])
    run.scores(digits[:3])
    run.anomaly_map(digits[:3])
    assert {layer.dtype_policy.name for layer in run.model._flatten_layers()} == {precision}
    assert global_state() == before and random_numbers() == expected


def test_a_run_computes_in_another_precision_than_it_was_trained_in(of_precision, trained_run, digits):
    workdir = of_precision("mixed_bfloat16")
    expected = cae.load(trained_run.workdir).reconstruct(digits[:3])
    np.testing.assert_array_equal(cae.load(workdir, "float32").reconstruct(digits[:3]), expected)
    assert not np.array_equal(cae.load(workdir).reconstruct(digits[:3]), expected)
    with pytest.raises(UserError, match="unknown --precision 'half'"):
        cae.load(workdir, "half")


@pytest.mark.parametrize(
    ("precision", "cpu_flags", "is_emulated"),
    [
        ("float32", {"avx2"}, False),
        ("mixed_bfloat16", {"avx2"}, True),
        ("mixed_bfloat16", {"avx2", "avx512f", "avx512_bf16"}, False),
        ("mixed_float16", {"avx2", "avx512f", "avx512_bf16"}, True),
        ("mixed_float16", {"asimd", "fphp"}, False),
        ("mixed_bfloat16", set(), False),  # It is not known.
    ],
)
def test_a_precision_that_the_cpu_emulates_is_warned_of(monkeypatch, precision, cpu_flags, is_emulated):
    monkeypatch.setattr(runtime, "cpu_flags", lambda: cpu_flags)
    assert bool(runtime.find_precision_warning(precision)) == is_emulated
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert runtime.find_precision_warning(precision) is None
