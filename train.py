"""Trains an autoencoder: python train.py --flagfile=configs/denoise.cfg [--epochs=5 ...]."""

import contextlib
from pathlib import Path

from absl import flags
from etils import epy

import cae.config
from cae import cli, models, preemption, runtime
from cae.config import Config, config_from_flags, define_config_flags, explicit_flags
from cae.workdir import lock_workdir, workdir_from_flags

# Flags are checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    import tensorflow as tf

    from cae import metrics
    from cae.data import datasets, noise
    from cae.training import distribution, trainer

signals = preemption.PreemptionHandler()


def define_flags() -> None:
    """Defines the flags, which are the fields of `Config` and --workdir."""
    define_config_flags()
    flags.adopt_module_key_flags(cae.config)  # For --help.


def main() -> None:
    """Checks the flags, and trains while the run's folder is locked."""
    config, workdir = config_from_flags(), workdir_from_flags()
    models.check_model_flags(config.model, explicit_flags())
    metrics.get_loss(config.loss)
    noise.parse_noise(config.noise)
    is_chief = runtime.is_chief(config.distribution_strategy)
    with lock_workdir(workdir) if is_chief else contextlib.nullcontext():
        train(config, workdir, is_chief)


def train(config: Config, workdir: Path, is_chief: bool) -> None:
    """Opens the data set, creates the strategy, and trains."""
    # The images of some classes are counted by reading them, for which TensorFlow has to be set up; so are duplicates.
    strategy = make_strategy(config) if config.normal_classes or config.remove_duplicates else None
    dataset = datasets.open_dataset(config)
    datasets.check_dataset(dataset, config.batch_size)
    for warning in dataset.warnings() if is_chief else ():
        cli.print_line(warning)
    strategy = strategy or make_strategy(config)
    with signals.deferred() as poll_signal:
        trainer.run_training(strategy, config, dataset, workdir, poll_signal)


def make_strategy(config: Config) -> "tf.distribute.Strategy":
    """Imports TensorFlow, and returns the configured strategy."""
    runtime.import_tensorflow()
    strategy = distribution.make_strategy(config.distribution_strategy, config.logical_cpus)
    signals.reinstall()  # Some strategies install a handler of their own for SIGTERM.
    return strategy


if __name__ == "__main__":
    signals.install()
    define_flags()
    cli.run(main)
