"""Convolutional autoencoders: denoising, interpolation and outlier detection."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cae.outliers.detector import Detector

# TensorFlow reads this once, at import. Its notices on CPU features and absent GPUs would hide what programs say; what
# goes wrong is raised as an exception all the same.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# oneDNN's convolutions are TensorFlow's default on some processors alone; on others it is Eigen's, whose gradients take
# several times as long.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def load_detector(workdir: str | os.PathLike) -> "Detector":
    """Returns the outlier detector that `eval.py --tasks=outliers` saved in a run's folder, ready to be asked.

    `.belongs(images)` gives bool [n]: True means that an image belongs to the data set, False that it is an outlier.
    `.p_values(images)` and `.scores(images)`, larger for outliers, give floats [n]. Images are uint8, or floats in
    0..1, [n, height, width, channels]. Raises `cae.errors.UserError` where the folder holds no run, or no detector of
    its best model.
    """
    from pathlib import Path

    from cae import runs
    from cae.outliers import detector

    run = runs.load(Path(workdir).expanduser())
    return detector.read(run.workdir, run.model, run.image_shape, run.step)
