"""Trains an autoencoder: python train.py --flagfile=configs/denoise.cfg [--epochs=5 ...]."""

import contextlib
from pathlib import Path

from absl import flags
from etils import epy

from cae import config, interrupts, models, program

# What a person typed is checked before TensorFlow is imported, which takes seconds; signals are heard before anything.
with epy.lazy_imports():
    import tensorflow as tf

    from cae import cluster, metrics
    from cae.data import noise, pipeline, sources
    from cae.training import build, distribution, loop, objectives

signals = interrupts.Interrupts()


def define_flags() -> None:
    """Defines the flags of this program, which are those of a run."""
    config.define_flags()
    flags.adopt_module_key_flags(config)  # So that --help lists them.


def main() -> None:
    """Reads the flags, and trains in the run's folder, in which no other run can be started meanwhile."""
    settings, workdir = config.from_flags(), config.workdir_from_flags()
    models.find(settings.model, config.said_settings())
    metrics.find_loss(settings.loss)
    noise.parse(settings.noise)
    is_chief = cluster.is_chief(settings.strategy)
    with config.open_workdir(workdir) if is_chief else contextlib.nullcontext():
        train(settings, workdir, is_chief)


def train(settings: config.Config, workdir: Path, is_chief: bool) -> None:
    """Opens the data set, builds strategy, model and optimizer, and fits the model."""
    # To count the images of some classes is to read them, for which TensorFlow has to know its devices.
    strategy = start(settings) if settings.classes else None
    source = sources.open_source(settings)
    sources.check(source, settings.batch_size)
    for line in source.notices() if is_chief else ():
        print(line, flush=True)

    strategy = strategy or start(settings)
    config.check_shares(settings.batch_size, strategy.num_replicas_in_sync)
    record = config.claim(workdir, settings, source.describe(), writes=is_chief)
    feed = pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)
    state = build.build_state(strategy, settings, source.image_shape, feed.steps(settings.epochs))
    with signals.postponed() as asked:
        loop.fit(strategy, state, objectives.find(settings), feed, workdir, record, asked)


def start(settings: config.Config) -> "tf.distribute.Strategy":
    """Starts TensorFlow on the devices that the settings name."""
    program.start_tensorflow()
    strategy = distribution.make_strategy(settings.strategy, settings.logical_cpus)
    signals.reinstall()  # Some strategies take SIGTERM for themselves.
    return strategy


if __name__ == "__main__":
    signals.install()
    define_flags()
    program.run(main)
