"""Takes one training step in a new process, for other benchmarks to time: `python -m benchmarks.first_step`.

Prints the seconds of each piece of the way there in JSON.
"""

import json
import time

import psutil
from etils import epy

from cae import cli, runtime
from cae.config import config_from_flags, define_config_flags

# As in train.py, flags are checked before TensorFlow is imported.
with epy.lazy_imports():
    from benchmarks import stepper
    from cae.data import datasets
    from cae.training import distribution


def define_flags() -> None:
    """Defines the flags of this program, which are those of a run."""
    define_config_flags()


def main() -> None:
    """Does what train.py does until the first step has been taken."""
    seconds, last = {}, psutil.Process().create_time()

    def end(piece: str) -> None:
        nonlocal last
        now = time.time()
        seconds[piece], last = now - last, now

    config = config_from_flags()
    end("Python and flags")
    runtime.import_tensorflow()
    end("TensorFlow and Keras")
    # A module is imported when something of it is first named.
    make_strategy, open_dataset, make_stepper = distribution.make_strategy, datasets.open_dataset, stepper.Stepper
    end("other imports")
    strategy = make_strategy(config.distribution_strategy, config.logical_cpus)
    dataset = open_dataset(config)
    end("data set opened")
    training = make_stepper(strategy, config, dataset)
    end("images read, model built")
    training.run(1)
    end("first step, traced and taken")
    print(json.dumps(seconds))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
