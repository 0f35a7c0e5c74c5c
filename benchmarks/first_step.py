"""Takes one training step in a fresh process, for `benchmarks.speed` to time: python -m benchmarks.first_step."""

import tensorflow as tf

from cae import config, program
from cae.data import noise, pipeline, sources
from cae.training import objectives
from cae.training.build import build_state
from cae.training.steps import make_train_steps


def define_flags() -> None:
    """Defines the flags of this program, which are those of a run."""
    config.define_flags()


def main() -> None:
    """Does what train.py does until the first step is done."""
    settings = config.from_flags()
    source = sources.open_source(settings)
    feed = pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)
    strategy = tf.distribute.get_strategy()
    state = build_state(strategy, settings, source.image_shape, 1)
    train_steps = make_train_steps(strategy, state, objectives.find(settings), feed.batch_size)
    train_steps(iter(feed.training(0, 1)), tf.constant(1))


if __name__ == "__main__":
    define_flags()
    program.run(main)
