"""A trained run, loaded once: its configuration, its best model, its data set and its outlier detector."""

import contextlib
import dataclasses
import functools
import json
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cae import models
from cae.config import Config
from cae.data import datasets
from cae.data.noise import OneOf, parse_noise
from cae.io_utils import abbreviate
from cae.model_functions import ModelFunctions
from cae.outliers import detector as detectors
from cae.outliers.calibration_classes import CalibrationClasses
from cae.runtime import find_precision_warning
from cae.training import checkpoints
from cae.workdir import check_same_images, load_run_config


@dataclasses.dataclass(frozen=True)
class Run(ModelFunctions):
    """A run that train.py left in a folder, and what its model and its outlier detector compute.

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
    def load(cls, workdir: str | os.PathLike, precision: str | None = None) -> "Run":
        """Returns the run in a folder with its best model; changes no global state.

        Args:
          workdir: The run's folder.
          precision: That in which the model computes, as --precision; None for that of the training.

        Raises:
          UserError: The folder contains no run, one of another version, or no checkpoint that can be read.
        """
        workdir = Path(workdir).expanduser()
        run_config = load_run_config(workdir)
        config = Config.from_dict(run_config["config"])
        build_config = dataclasses.replace(config, precision=precision or config.precision)
        model = models.build_model(build_config, tuple(run_config["dataset"]["image_shape"]))
        return cls(workdir, run_config, config, model, checkpoints.restore_best(workdir / "checkpoints", model))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The (height, width, channels) of the model's images."""
        return tuple(self.run_config["dataset"]["image_shape"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the data set's classes by label; empty for unlabeled images."""
        return tuple(self.run_config["dataset"]["class_names"])

    @property
    def warning(self) -> str | None:
        """Why the run was trained on another data set than was requested, if it was."""
        return self.run_config["dataset"]["warning"]

    def warnings(self) -> list[str]:
        """Returns what a program says before it uses the run: that, and where its precision is slow."""
        return [*filter(None, (self.warning, find_precision_warning(self.model.dtype_policy.name)))]

    @property
    def noise(self) -> OneOf | None:
        """The noise that the model was trained on; None for clean images."""
        return parse_noise(self.config.noise)

    @property
    def history(self) -> list[dict[str, float]]:
        """The content of metrics.jsonl, a dict per epoch; an empty list where there is none."""
        path, epochs = self.workdir / "metrics.jsonl", []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            with contextlib.suppress(ValueError):  # The last line of a run that was killed may be incomplete.
                epochs.append(json.loads(line))
        return epochs

    @property
    def dataset_label(self) -> str:
        """The name of the data set for a title: of paths, the last parts alone."""
        name = self.run_config["dataset"]["name"]
        paths = name.partition(":")[2]
        return ", ".join(Path(path).name for path in paths.split(",")) if "/" in paths else name

    def info(self) -> dict[str, str]:
        """Returns what a report says of the run: its data set, its model and its training, by name."""
        dataset, epochs = self.run_config["dataset"], self.history
        best = next((epoch["epoch"] for epoch in epochs if epoch["step"] == self.step), "?")
        minutes = sum(epoch.get("epoch_seconds", epoch.get("seconds", 0.0)) for epoch in epochs) / 60
        config = {name: value for name, value in self.run_config["config"].items() if value is not None}
        kind = "images" if self.config.crop_size is None else "crops"
        return {
            "data set": f"{dataset['name']}, {kind} {'x'.join(map(str, dataset['image_shape']))}",
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
        name = self.run_config["dataset"]["name"]  # Which may be the fallback; another one would be other images.
        config = dataclasses.replace(self.config, dataset=name, fallback_dataset=None, **overrides)
        dataset = datasets.open_dataset(config)
        check_same_images(self.run_config, dataset.info())
        return dataset

    def replace_test_split(self, dataset: datasets.ImageDataset, name: str, **overrides: Any) -> datasets.ImageDataset:
        """Returns a data set of images with the test images of another data set; raises `UserError` for others.

        Args:
          dataset: The run's data set.
          name: That of another data set: all images of a folder, the official test split of one of TFDS.
          **overrides: As for `open_dataset`.
        """
        # Without noise, which pairs have of their own, nor an objective, which may need noise.
        config = dataclasses.replace(
            self.config, dataset=name, channels=self.image_shape[2], noise=None, objective=None, **overrides
        )
        test = datasets.open_test_images(config, dataset.splits["train"])
        return dataclasses.replace(dataset, splits=dataset.splits | {"test": test})

    @property
    def free_sides(self) -> bool:
        """Whether the model denoises images of any height and width."""
        return models.get_model_spec(self.config.model).free_sides

    @property
    def trained_on_crops(self) -> bool:
        """Whether the model was trained on crops of images, and denoises whole ones."""
        return self.config.crop_size is not None

    @property
    def any_range(self) -> bool:
        """Whether the model was trained on noise that is not clipped, and takes floats that leave 0..1."""
        return self.noise is not None and not self.noise.clips

    @functools.cached_property
    def detector(self) -> detectors.Detector:
        """The outlier detector of the best checkpoint; raises `UserError` where there is none yet."""
        return self.load_detector()

    def load_detector(self) -> detectors.Detector:
        """Returns the saved outlier detector of the best checkpoint; raises `UserError` where there is none."""
        return detectors.Detector.load(self.workdir, self.model, self.image_shape, self.step)

    def find_detector(self, **expected: str) -> detectors.Detector | None:
        """Returns the saved outlier detector of the best checkpoint; None where there is none as expected.

        Args:
          **expected: The names of its score and its threshold_method; either may be missing.
        """
        return detectors.load_or_none(self.workdir, self.model, self.image_shape, self.step, **expected)

    def fit_detector(self, dataset: datasets.ImageDataset | None = None, **options: Any) -> detectors.Detector:
        """Fits an outlier detector, saves it in the run's folder, and returns it; it becomes `detector`.

        Args:
          dataset: The run's data set, if it is open.
          **options: Those of `Detector.fit`: score, method, alpha, outliers.
        """
        dataset = dataset or self.open_dataset()
        (train, train_labels), (calibration, labels) = (dataset.load(split) for split in ("train", "calibration"))
        classes = CalibrationClasses.find(labels, train_labels, dataset.class_names)
        detector = detectors.Detector.fit(self.model, train, calibration, classes=classes, step=self.step, **options)
        detector.save(self.workdir)
        vars(self)["detector"] = detector  # Where `cached_property` keeps it.
        return detector

    def is_inlier(self, images: np.ndarray, alpha: float | None = None, labels: np.ndarray | None = None) -> np.ndarray:
        """Returns which images are inliers, bool [n], at a false positive rate; see `Detector.is_inlier`."""
        return self.detector.is_inlier(images, alpha, labels)

    def p_values(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Returns conformal p-values [n]: about the fraction of inliers whose scores are as large."""
        return self.detector.p_values(images, labels)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Returns anomaly scores, float64 [n], larger for outliers."""
        return self.detector.scores(images)

    def anomaly_map(self, images: np.ndarray) -> np.ndarray:
        """Returns where images are anomalous, float32 [n, height, width]; see `Detector.anomaly_map`."""
        return self.detector.anomaly_map(images)
