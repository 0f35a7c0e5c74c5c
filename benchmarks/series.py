"""Many runs of one command: each in a folder of its own, with its result beside it, and none of them done twice."""

import csv
import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from cae import config
from cae.data import noise, pipeline, sources
from cae.training import loop, objectives
from cae.training.build import build_state


def result_of(settings: config.Config, path: Path) -> dict[str, Any] | None:
    """Returns what is known of the run in a result's folder, if it was as long; nothing where it is to be done.

    Raises `UserError` where it had other settings.
    """
    if not path.exists():
        return None
    config.check_same_run(config.read_record(path.parent), dataclasses.asdict(settings), but={"data_dir", "dataset"})
    result = json.loads(path.read_text())
    return result if result["epochs"] == settings.epochs else None


def keep(result: dict[str, Any], path: Path) -> None:
    """Writes a run's result, whole or not at all; it says under `epochs` how long the run was."""
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(result) + "\n")
    os.replace(partial, path)


def train(strategy: tf.distribute.Strategy, settings: config.Config, source: sources.Source, workdir: Path) -> None:
    """Fits a model to a data set, from where it stopped; raises `UserError` where another run lives in `workdir`."""
    with config.open_workdir(workdir):
        sources.check(source, settings.batch_size)
        config.check_shares(settings.batch_size, strategy.num_replicas_in_sync)
        record = config.claim(workdir, settings, source.describe())
        feed = pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)
        state = build_state(strategy, settings, source.image_shape, feed.steps(settings.epochs))
        loop.fit(strategy, state, objectives.find(settings), feed, workdir, record)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows as a CSV file."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
