"""What is measured, beside what: each module is a program of its own, python -m benchmarks.NAME."""

STEPS_PER_CALL = 32
"""Graph steps between two looks from Python, which train.py has every half second."""
