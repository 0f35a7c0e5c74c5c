"""How tests run the programs: in this process, or as users do, in a process of their own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

from absl import flags

from cae import cli

ROOT = Path(__file__).resolve().parents[1]

QUICK = ("--dataset=digits", "--base_filters=8", "--latent_dim=8")
"""Flags of models that train in seconds."""

QUICK_EVALUATION = (
    "--baseline_images=8", "--baseline_tuning_images=4", "--kmeans_n_init=5", "--tsne_images=60", "--cache_dir=cache",
    "--interpolation_pairs=20", "--max_outliers_per_set=50",
)  # fmt: skip
"""Flags that limit what an evaluation does; nothing is cached in the user's home."""


def call(name, *words, folder):
    """Runs a program in this process.

    Signal handlers stay pytest's, and devices and threads are those of this process; flags are those of the program.

    Args:
      name: The name of a file, of a module such as 'benchmarks.one_class', or of a package such as 'cae.predict'.
      *words: Its flags.
      folder: The working directory.

    Returns:
      The exit code, stdout and stderr.
    """
    module, argv = importlib.import_module(name.removesuffix(".py")), [name, *map(str, words)]
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    out, err = io.StringIO(), io.StringIO()
    with (
        only_flags_of(module),
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli.call(module.main, argv)
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def only_flags_of(module):
    """A context in which absl's flags are those of a program and of libraries."""
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
    """Starts a program, or a module after '-m', in a process of its own; its working directory is `folder`."""
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
    """Runs a program in a process of its own; returns its exit code, stdout and stderr."""
    with start(program, *words, folder=folder, environment=environment) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


def assert_one_line(result, message):
    """Asserts that a program failed with one line on stderr that contains `message`, and printed nothing else."""
    code, out, err = result
    assert code in (1, 2) and out == ""
    assert err.count("\n") == 1 and "Traceback" not in err, err
    assert message in err
