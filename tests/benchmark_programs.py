"""How tests call a benchmark in this process, as `programs.call` calls train.py and eval.py."""

import importlib
from unittest import mock

import programs


def call_benchmark(name, *words, folder):
    """Runs `python -m benchmarks.NAME` in this process, in a folder; returns its exit code, stdout and stderr."""
    module = importlib.import_module(f"benchmarks.{name}")
    with mock.patch.dict(programs.PROGRAMS, {f"{name}.py": module}):
        return programs.call(f"{name}.py", *words, folder=folder)
