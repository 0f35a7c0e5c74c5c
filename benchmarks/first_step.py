"""Takes one training step in a new process, for other benchmarks to time: `python -m benchmarks.first_step`."""

from benchmarks.stepper import Stepper
from cae import cli
from cae.config import config_from_flags, define_config_flags


def define_flags() -> None:
    """Defines the flags of this program, which are those of a run."""
    define_config_flags()


def main() -> None:
    """Does what train.py does until the first step has been taken."""
    Stepper.create(config_from_flags()).run(1)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
