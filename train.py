"""Trains an autoencoder: python train.py --flagfile=configs/denoise.cfg [--epochs=5 ...]."""

from absl import flags

import cae.config
from cae import cli, metrics, models, preemption
from cae.config import config_from_flags, define_config_flags, explicit_flags
from cae.data import noise
from cae.training import profiler, train
from cae.workdir import workdir_from_flags

signals = preemption.PreemptionHandler()


def define_flags() -> None:
    """Defines the flags, which are the fields of `Config`, --workdir and --profile_steps."""
    define_config_flags(names={"model": models.MODELS, "loss": metrics.LOSSES, "noise": noise.NOISES})
    flags.adopt_module_key_flags(cae.config)  # For --help.
    flags.DEFINE_string(
        "profile_steps", None, "The first and the last step to profile for TensorBoard, such as 10,20; counted from 1."
    )


def main() -> None:
    """Checks the flags, and trains."""
    config, workdir = config_from_flags(), workdir_from_flags()
    models.check_model_flags(config.model, explicit_flags())
    profile_steps = profiler.parse_profile_steps(flags.FLAGS.profile_steps)
    train.train(config, workdir, signals, profile_steps)


if __name__ == "__main__":
    signals.install()
    define_flags()
    cli.run(main)
