"""Runs of a sweep: each in a folder of its own, with a file of its results, so that a repeated command resumes."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from cae.config import Config
from cae.data import datasets
from cae.io_utils import atomic_write
from cae.run import Run
from cae.training import distribution
from cae.training.train import run_training
from cae.workdir import check_same_config, load_run_config, lock_workdir

Result = dict[str, Any]


def start(config: Config) -> tuple[tf.distribute.Strategy, datasets.ImageDataset]:
    """Returns the strategy and the data set of a sweep, and prints the warnings about the data set."""
    strategy = distribution.make_strategy(config.distribution_strategy, config.logical_cpus)
    dataset = datasets.open_dataset(config)
    for line in dataset.warnings():
        print(line, flush=True)
    return strategy, dataset


def load_or_compute(config: Config, workdir: Path, compute: Callable[[], Result]) -> Result:
    """Returns the result of a run: the saved one, if it was trained for as many epochs, or else a new one.

    Args:
      config: The configuration of the run.
      workdir: The folder of the run.
      compute: Trains and evaluates the run.

    Returns:
      What `compute` returned, and the number of epochs.

    Raises:
      UserError: The folder holds a run of another configuration.
    """
    path = workdir / "result.json"
    if path.exists():
        check_same_config(load_run_config(workdir), dataclasses.asdict(config), ignore={"data_dir", "dataset"})
        result = json.loads(path.read_text())
        if result["epochs"] == config.epochs:
            return result
    result = compute() | {"epochs": config.epochs}
    with atomic_write(path) as file:
        file.write(json.dumps(result) + "\n")
    return result


def train(strategy: tf.distribute.Strategy, config: Config, dataset: datasets.ImageDataset, workdir: Path) -> Run:
    """Trains a run, from its last checkpoint, and returns it; raises `UserError` if `workdir` holds another run."""
    with lock_workdir(workdir):
        datasets.check_dataset(dataset, config.batch_size)
        run_training(strategy, config, dataset, workdir)
    return Run.load(workdir)
