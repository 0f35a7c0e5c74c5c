"""How tests start the programs: in this process, or as people do, in a process of their own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import keras
from absl import flags

from cae import program

ROOT = Path(__file__).resolve().parents[1]

QUICK = ("--dataset=digits", "--width=8", "--latent_dim=8")
"""Flags of models that train in seconds."""

QUICK_EVALUATION = (
    "--rival_images=8", "--baseline_tuning_images=4", "--kmeans_n_init=5", "--tsne_images=60", "--cache_dir=cache",
    "--pairs=20", "--outlier_images=50",
)  # fmt: skip
"""Flags that bound what an evaluation does; nothing is cached in anybody's home."""


def call(name, *words, folder):
    """Runs a program in this process, in a folder of its own; returns its exit code, stdout and stderr.

    name: of a file, or of a module as 'benchmarks.protocol'. Signals stay pytest's, and devices and threads are those
    that this process has; flags are those of the program alone.
    """
    module, argv = importlib.import_module(name.removesuffix(".py")), [name, *map(str, words)]
    out, err = io.StringIO(), io.StringIO()
    with (
        only_flags_of(module),
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code = program.call(module.main, argv)
        finally:
            keras.config.set_dtype_policy("float32")
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def only_flags_of(module):
    """A context in which absl's flags are those that a program defines, beside those of libraries."""
    values = flags.FLAGS
    before = set(values)
    module.define_flags()
    defined = set(values) - before
    try:
        yield values
    finally:
        values.unparse_flags()
        values.remove_flag_values(defined)


def start(program, *words, folder, environment=None, **options):
    """Starts a program, or a module after '-m', in a process of its own and in a folder of its own."""
    return subprocess.Popen(
        [sys.executable, *([program] if program == "-m" else [str(ROOT / program)]), *map(str, words)],
        cwd=folder,
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run(program, *words, folder, seconds=600, environment=None):
    """Runs a program in a process of its own to its end; returns its exit code, stdout and stderr."""
    with start(program, *words, folder=folder, environment=environment) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


def assert_one_line(result, told):
    """Asserts that a program ended with one line on stderr that says `told`, and printed nothing else."""
    code, out, err = result
    assert code in (1, 2) and out == ""
    assert err.count("\n") == 1 and "Traceback" not in err, err
    assert told in err
