"""How fast outlier scores are beside the model's forward pass: python -m benchmarks.scoring --workdir=runs/autoencoder.

All in one process and in turn, so that their ratios hold although the machine's speed does not.
"""

import dataclasses
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from cae import config, program, runs
from cae.data import sources
from cae.outliers import detector as detectors
from cae.outliers import scores
from cae.tasks import outliers

ROUNDS = 5


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.adopt_module_key_flags(config)
    flags.DEFINE_integer("images", 8192, "How many test images a round takes.", lower_bound=1)


def main() -> None:
    """Prints a line for the forward pass and for every score: images/s in the fastest round, and the ratio."""
    run = runs.load(config.workdir_from_flags())
    said = config.said_settings()
    used = {"dataset": run.record["dataset"]["name"], "data_dir": said.get("data_dir") or run.settings.data_dir}
    source = sources.open_source(dataclasses.replace(run.settings, **used))
    train, calibration, test = (source.read(split)[0] for split in ("train", "calibration", "test"))
    detector = detectors.make(
        next(iter(scores.SCORES)), run.model, train, calibration, rule="conformal", alpha=None, step=run.step
    )
    fitted = outliers.fit_all(detector, train)
    images = test[: flags.FLAGS.images]
    ways = {"forward pass": forward(run.model)} | {name: scored(detector, score) for name, score in fitted.items()}
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            way(images)
            seconds[name].append(time.perf_counter() - start)
    fastest = {name: min(each[1:]) for name, each in seconds.items()}  # In the first round graphs are traced.
    print(f"{'':16}{'images/s':>10}{'to the forward pass':>22}")
    for name, each in fastest.items():
        print(f"{name:16}{len(images) / each:>10,.0f}{fastest['forward pass'] / each:>22.2f}")


def forward(model: keras.Model) -> Callable[[np.ndarray], None]:
    """Returns what passes images through the model, in the batches that scores are computed in."""
    graph = tf.function(model, reduce_retracing=True)

    def way(images: np.ndarray) -> None:
        for batch in scores.batches(images):
            graph(batch).numpy()

    return way


def scored(detector: detectors.Detector, score: scores.Score) -> Callable[[np.ndarray], None]:
    """Returns what gives images' scores, the forward pass included."""

    def way(images: np.ndarray) -> None:
        for passed in detector.passes(images):
            score(passed)

    return way


if __name__ == "__main__":
    define_flags()
    program.run(main)
