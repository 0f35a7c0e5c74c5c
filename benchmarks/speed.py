"""Speed, side by side in one run: python -m benchmarks.speed [--flagfile=configs/denoise.cfg].

The training step with noise drawn in the pipeline, Keras' `fit` of the same model and optimizer on plain arrays, the
input pipeline alone, and how long it takes from the start of Python to the end of the first step. The figures that hold
on another machine are the ratios. Rounds take turns, so that a machine that slows down slows all of them alike, and the
fastest one counts: whatever else the machine does can only add to the time.
"""

import subprocess
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from cae import config, program
from cae.data import noise, pipeline, sources
from cae.training import distribution, loop, objectives
from cae.training.build import build_state
from cae.training.steps import make_train_steps

STEPS = 100
ROUNDS = 5


def main() -> None:
    """Measures and prints a table."""
    settings = config.from_flags()
    source = sources.open_source(settings)
    corrupt = noise.parse(settings.noise)
    feed = pipeline.feed(source, corrupt, settings.batch_size, settings.seed)
    strategy = distribution.make_strategy(settings.strategy, settings.logical_cpus)
    contestants = {
        "training step, noise in the pipeline": our_steps(strategy, settings, source, feed),
        "Keras fit on arrays, no noise": keras_fit(settings, source),
        "input pipeline alone, with noise": pipeline_alone(feed),
    }
    rates = {name: [settings.batch_size * each for each in rates] for name, rates in take_turns(contestants).items()}
    ours = max(rates["training step, noise in the pipeline"])
    print(f"{source.name}, batches of {settings.batch_size}, {settings.precision}; images/s in {ROUNDS} rounds")
    print(f"{'':40}{'fastest':>10}{'slowest':>10}{'ratio':>8}")
    for name, each in rates.items():
        print(f"{name:40}{max(each):>10,.0f}{min(each):>10,.0f}{max(each) / ours:>8.2f}")
    print(f"start to first step: {start_to_first_step():.1f} s")


def take_turns(contestants: dict[str, Callable[[], int]]) -> dict[str, list[float]]:
    """Returns the steps a second of each round of each contestant, after a round that does not count.

    A contestant runs a round and returns how many steps it had.
    """
    rates = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            start = time.perf_counter()
            steps = run()
            rates[name].append(steps / (time.perf_counter() - start))
    return rates


def our_steps(
    strategy: tf.distribute.Strategy, settings: config.Config, source: sources.Source, feed: pipeline.Feed
) -> Callable[[], int]:
    """Returns what takes `STEPS` steps of the hand-written loop, looked at as often as train.py does."""
    state = build_state(strategy, settings, source.image_shape, STEPS)
    train_steps = make_train_steps(strategy, state, objectives.find(settings), feed.batch_size)
    batches = iter(strategy.experimental_distribute_dataset(feed.training(0, (ROUNDS + 1) * STEPS)))

    def run() -> int:
        for start in range(0, STEPS, loop.STEPS_PER_CALL):
            losses, _ = train_steps(batches, tf.constant(min(loop.STEPS_PER_CALL, STEPS - start)))
            float(losses["loss"])
        return STEPS

    return run


def keras_fit(settings: config.Config, source: sources.Source) -> Callable[[], int]:
    """Returns what fits the same model by Keras for `STEPS` steps, on clean images in an array."""
    state = build_state(tf.distribute.get_strategy(), settings, source.image_shape, STEPS)
    state.model.compile(optimizer=state.optimizer, loss="mse")
    images, _ = source.read("train")
    wanted = np.arange(STEPS * settings.batch_size) % len(images)
    clean = images[wanted].astype(np.float32) / 255

    def run() -> int:
        state.model.fit(clean, clean, batch_size=settings.batch_size, epochs=1, verbose=0)
        return STEPS

    return run


def pipeline_alone(feed: pipeline.Feed) -> Callable[[], int]:
    """Returns what draws batches and drops them: many, so that the start, which happens once a run, does not count."""
    steps = 20 * STEPS

    def run() -> int:
        for _ in feed.training(0, steps):
            pass
        return steps

    return run


def start_to_first_step() -> float:
    """Returns the seconds that a fresh Python needs from its first line to the end of the first training step."""
    words = [word for word in sys.argv[1:] if not word.startswith("--workdir")]
    command = [sys.executable, "-m", "benchmarks.first_step", *words]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    config.define_flags(flags.FLAGS)
    keras.utils.disable_interactive_logging()
    program.run(main)
