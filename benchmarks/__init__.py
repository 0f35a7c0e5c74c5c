"""Benchmarks; each module with a `main` is a program, `python -m benchmarks.NAME`."""

import cae  # noqa: F401 - It sets TensorFlow's environment variables, before anything imports TensorFlow.
