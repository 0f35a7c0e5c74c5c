"""Convolutional autoencoders: denoising, interpolation and outlier detection."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

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


def write_records(
    folder: str | os.PathLike,
    chunks: "Iterable[tuple[np.ndarray, np.ndarray]]",
    class_names: Sequence[str] = (),
    splits: Mapping[str, int] | None = None,
) -> None:
    """Writes images that come in chunks to a new folder, for `--dataset=records:PATH`; holds one chunk at a time.

    chunks: (uint8 [n, height, width, channels], int labels [n], zeros where images are unlabelled); class_names: what
    labels mean, by position; splits: how many images train, validation, calibration and test have, in this order.
    Unless they are said, images are cut in proportion, which wants them to come in no order, so that any stretch is a
    fair sample. Nothing is left where it fails. Raises `cae.errors.UserError` for images that are not alike, splits
    that do not add up, and a folder that is there already or cannot be written.
    """
    from cae.data import records

    records.write(folder, chunks, class_names, splits)
