"""Throughput of the outlier scores beside the forward pass.

python -m benchmarks.scoring_throughput --workdir=runs/autoencoder

All are measured in one process and in turn, so that the ratios hold on a machine whose speed varies.
"""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.common import Table, define_json_flag, measure_seconds, run_rounds
from cae import cli
from cae.config import define_config_flags
from cae.outliers import forward
from cae.outliers.detector import Detector
from cae.run import Run
from cae.tasks import outliers
from cae.tasks.flags import dataset_location
from cae.workdir import workdir_from_flags

NUM_ROUNDS = 5

FORWARD_PASS = "forward pass"


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    define_json_flag()
    flags.DEFINE_integer("images", 8192, "Test images in a round.", lower_bound=1)


def main() -> None:
    """Prints images/s of the forward pass and of every score, and the ratio to the forward pass."""
    run = Run.load(workdir_from_flags())
    dataset = run.open_dataset(**dataset_location(flags.FLAGS))
    train, calibration, test = (dataset.load(split)[0] for split in ("train", "calibration", "test"))
    detector = Detector.fit(run.model, train, calibration, step=run.step)
    images, model = test[: flags.FLAGS.images], tf.function(run.model, reduce_retracing=True)

    def measure(function: Callable[[Any], np.ndarray], make_batches: Callable[[np.ndarray], Iterator[Any]]) -> float:
        """Returns images per second."""
        return len(images) / measure_seconds(collections.deque, map(function, make_batches(images)), maxlen=0)

    rounds = {FORWARD_PASS: functools.partial(measure, lambda batch: model(batch).numpy(), forward.make_batches)}
    for name, score in outliers.fit_all_scores(detector, train).items():
        rounds[name] = functools.partial(measure, score, detector.forward_batches)
    rates = run_rounds(rounds, NUM_ROUNDS)
    table = Table({"": "<16", "images/s": ">10,.0f", "to the forward pass": ">22.2f"})
    for name, each in rates.items():
        table.add(name, max(each), max(each) / max(rates[FORWARD_PASS]))
    table.write()


if __name__ == "__main__":
    define_flags()
    cli.run(main)
