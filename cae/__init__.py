"""Convolutional autoencoders: denoising, interpolation and outlier detection."""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cae.config import Config
    from cae.data.record_writer import write_records
    from cae.outliers.detector import Detector
    from cae.run import Run

__all__ = ["Config", "Run", "load", "load_detector", "train", "write_records"]

_LAZY_IMPORTS = {"Config": "cae.config", "Run": "cae.run", "write_records": "cae.data.record_writer"}
"""Modules of names that are imported when they are first used, since to import TensorFlow takes seconds."""

# TensorFlow reads this once, at import. Its notices on CPU features and absent GPUs would hide what programs say; what
# goes wrong is raised as an exception all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# oneDNN's convolutions are TensorFlow's default on some processors alone; on others it is Eigen's, whose gradients take
# several times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def load(workdir: str | os.PathLike, precision: str | None = None) -> "Run":
    """Returns the run in a folder with its best model; changes no global state.

    Args:
      workdir: The run's folder.
      precision: That in which the model computes, as --precision; None for that of the training.

    Raises:
      cae.errors.UserError: The folder contains no run, one of another version, or no checkpoint that can be read.
    """
    from cae.run import Run

    return Run.load(workdir, precision)


def load_detector(workdir: str | os.PathLike) -> "Detector":
    """Returns the outlier detector that `eval.py --tasks=outliers` saved in a run's folder.

    Its methods take images `[n, height, width, channels]`, uint8 or floats in 0..1, and return arrays `[n]`:
    `is_inlier(images)` is True for images like those of the data set and False for outliers; `p_values(images)` are in
    0..1, smaller for outliers; `scores(images)` are larger for outliers.

    Raises:
      cae.errors.UserError: The folder contains no run, or no detector of its best model.
    """
    return load(workdir).detector


def train(config: "Config", workdir: str | os.PathLike) -> "Run":
    """Trains a model as `train.py` does, and returns the run with its best model.

    The same call resumes a training that was interrupted, and does nothing for one that is complete.

    Args:
      config: The configuration, such as `cae.Config(dataset="digits", epochs=2)`.
      workdir: The run's folder, which is created.

    Raises:
      cae.errors.UserError: A name is unknown, the data set is not available, the folder contains another run or can't
        be written, or the training diverges.
    """
    from cae.training.train import train

    train(config, Path(workdir).expanduser())
    return load(workdir)


def __getattr__(name: str) -> Any:
    if name not in _LAZY_IMPORTS:
        raise AttributeError(f"module 'cae' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY_IMPORTS[name]), name)
