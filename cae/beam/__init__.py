"""Predictions of an exported model on any number of images, by Apache Beam: `python -m cae.beam`."""

TASKS = ("detect", "encode", "denoise")
"""The values of `--task`; `tasks.make_task` makes them."""

INPUT_FORMATS = ("images", "tfrecord", "parquet")
"""The values of `--input_format`."""

MODULES = ("apache_beam", "google_crc32c")
"""What the extra beam installs."""

NAMESPACE = "cae"
"""Of the pipeline's metrics."""
