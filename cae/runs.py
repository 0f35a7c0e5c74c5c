"""A run's folder read back: its record, and the best of its models."""

import dataclasses
from pathlib import Path
from typing import Any

import keras

from cae import config, models
from cae.training import checkpoint


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run left behind. `record` is its config.json, `step` the one that the model is of."""

    workdir: Path
    record: dict[str, Any]
    settings: config.Config
    model: keras.Model
    step: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The (height, width, channels) of the images that the model was made for."""
        return tuple(self.record["dataset"]["image_shape"])


def load(workdir: Path) -> Run:
    """Returns the run in a folder with the best of its models; raises `UserError` where it holds none."""
    record = config.read_record(workdir)
    settings = config.settings_of(record)
    model = models.build(settings, tuple(record["dataset"]["image_shape"]))
    return Run(workdir, record, settings, model, checkpoint.restore_best(workdir / "checkpoints", model))
