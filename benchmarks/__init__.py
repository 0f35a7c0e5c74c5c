"""What is measured, beside what: each module is a program of its own, python -m benchmarks.NAME."""

import cae  # noqa: F401 - It says what TensorFlow is to be like, before anything imports that.

STEPS_PER_CALL = 32
"""Graph steps between two looks from Python, which train.py has every half second."""
