"""Convolutional autoencoders: denoising, interpolation and outlier detection."""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cae.data.record_writer import write_records
    from cae.outliers.detector import Detector
    from cae.run import Run

__all__ = ["Run", "load", "load_detector", "write_records"]

_LAZY_IMPORTS = {"Run": "cae.run", "write_records": "cae.data.record_writer"}
"""Modules of names that are imported when they are first used, since to import TensorFlow takes seconds."""

# TensorFlow reads this once, at import. Its notices on CPU features and absent GPUs would hide what programs say; what
# goes wrong is raised as an exception all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# oneDNN's convolutions are TensorFlow's default on some processors alone; on others it is Eigen's, whose gradients take
# several times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def load(workdir: str | os.PathLike) -> "Run":
    """Returns the run in a folder with its best model.

    Raises:
      cae.errors.UserError: The folder contains no run, or no checkpoint that can be read.
    """
    from cae.run import Run

    return Run.load(workdir)


def load_detector(workdir: str | os.PathLike) -> "Detector":
    """Returns the outlier detector that `eval.py --tasks=outliers` saved in a run's folder.

    Its methods take images `[n, height, width, channels]`, uint8 or floats in 0..1, and return arrays `[n]`:
    `is_inlier(images)` is True for images like those of the data set and False for outliers; `p_values(images)` are in
    0..1, smaller for outliers; `scores(images)` are larger for outliers.

    Raises:
      cae.errors.UserError: The folder contains no run, or no detector of its best model.
    """
    return load(workdir).load_detector()


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module 'cae' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
