"""A trained run, loaded once: its configuration, its best model, its data set and its outlier detector."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import keras

from cae import models
from cae.config import Config
from cae.data import datasets
from cae.data.noise import OneOf, parse_noise
from cae.io_utils import abbreviate
from cae.outliers import detector as detectors
from cae.training import checkpoints
from cae.workdir import check_same_images, load_run_config


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that train.py left in a folder.

    Attributes:
      workdir: The run's folder.
      run_config: The content of its config.json.
      config: Its configuration.
      model: The model of the best checkpoint.
      step: The step of that checkpoint.
    """

    workdir: Path
    run_config: dict[str, Any]
    config: Config
    model: keras.Model
    step: int

    @classmethod
    def load(cls, workdir: str | os.PathLike) -> "Run":
        """Returns the run in a folder with its best model.

        Raises:
          UserError: The folder contains no run, or no checkpoint that can be read.
        """
        workdir = Path(workdir).expanduser()
        run_config = load_run_config(workdir)
        config = Config.from_dict(run_config["config"])
        model = models.build_model(config, tuple(run_config["dataset"]["image_shape"]))
        return cls(workdir, run_config, config, model, checkpoints.restore_best(workdir / "checkpoints", model))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The (height, width, channels) of the model's images."""
        return tuple(self.run_config["dataset"]["image_shape"])

    @property
    def warning(self) -> str | None:
        """Why the run was trained on another data set than was requested, if it was."""
        return self.run_config["dataset"]["warning"]

    @property
    def noise(self) -> OneOf | None:
        """The noise that the model was trained on; None for clean images."""
        return parse_noise(self.config.noise)

    def history(self) -> list[dict[str, float]]:
        """Returns the content of metrics.jsonl, a dict per epoch; an empty list where there is none."""
        path = self.workdir / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def info(self) -> dict[str, str]:
        """Returns what a report says of the run: its data set, its model and its training, by name."""
        dataset, epochs = self.run_config["dataset"], self.history()
        best = next((epoch["epoch"] for epoch in epochs if epoch["step"] == self.step), "?")
        minutes = sum(epoch.get("epoch_seconds", epoch.get("seconds", 0.0)) for epoch in epochs) / 60
        config = {name: value for name, value in self.run_config["config"].items() if value is not None}
        return {
            "data set": f"{dataset['name']}, images {'x'.join(map(str, dataset['image_shape']))}",
            "splits": "; ".join(f"{name} {s['images']:,} ({s['origin']})" for name, s in dataset["splits"].items()),
            "skipped files": abbreviate(dataset["skipped"]) or "none",
            "parameters": f"{self.model.count_params():,}",
            "checkpoint": f"step {self.step:,}, epoch {best} of {len(epochs)}: the lowest validation loss",
            "training time": f"{minutes:.1f} minutes",
            "config": ", ".join(f"{name}={value}" for name, value in config.items()),
            "versions": ", ".join(f"{name} {version}" for name, version in self.run_config["versions"].items()),
        }

    def open_dataset(self, **overrides: Any) -> datasets.ImageDataset:
        """Returns the data set that the run was trained on; each split is read once.

        Args:
          **overrides: Fields of the configuration that say where it is: data_dir, streaming, cache_dir.

        Raises:
          UserError: It no longer has the same images, or is not available.
        """
        config = dataclasses.replace(self.config, dataset=self.run_config["dataset"]["name"], **overrides)
        dataset = datasets.open_dataset(config)
        check_same_images(self.run_config, dataset.info())
        return dataset

    def load_detector(self) -> detectors.Detector:
        """Returns the saved outlier detector of the best checkpoint; raises `UserError` where there is none."""
        return detectors.Detector.load(self.workdir, self.model, self.image_shape, self.step)

    def find_detector(self, **expected: str) -> detectors.Detector | None:
        """Returns the saved outlier detector of the best checkpoint; None where there is none as expected.

        Args:
          **expected: The names of its score and its threshold_method; either may be missing.
        """
        return detectors.load_or_none(self.workdir, self.model, self.image_shape, self.step, **expected)
