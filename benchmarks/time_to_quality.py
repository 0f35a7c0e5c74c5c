"""How long until noise is gone: python -m benchmarks.time_to_quality --flagfile=configs/unet.cfg [--recipe_epochs=5].

Keras' own example of denoising MNIST, by its published recipe, and then our model, on the same training images and the
same machine; both are measured on the same noisy test images, the time for which does not count. Our
noise and loss are the example's, whatever the flags say. The recipe: noise of
0.4, clipped, drawn once; a convolutional autoencoder of 28,353 weights; binary cross-entropy; Adam; batches of 128;
`fit`. It is published with a validation cross-entropy of 0.0837 after 150 epochs, whose time is taken from the median
of the epochs that are measured here.
"""

import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import STEPS_PER_CALL
from cae import config, program
from cae.data import noise, pipeline, sources
from cae.report import figures
from cae.training import objectives
from cae.training.build import build_state
from cae.training.steps import make_measure, make_train_steps

NOISE = "gaussian:0.4"

PUBLISHED_EPOCHS, PUBLISHED_LOSS = 150, 0.0837

LOOKS = 8
"""How often our model is measured on its way."""

Point = tuple[float, float, dict[str, float]]
"""Epochs, seconds of training, what the test images say."""


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.DEFINE_integer("recipe_epochs", 5, "Epochs of the example that are measured.", lower_bound=1)
    flags.DEFINE_string("figure", "time_to_quality.png", "Where the figure goes.")


def main() -> None:
    """Trains both, prints a table and draws a figure."""
    settings = dataclasses.replace(config.from_flags(), noise=NOISE, loss="cross_entropy")
    epochs = flags.FLAGS.recipe_epochs
    source = sources.open_source(settings)
    held_out = pipeline.held_out(source, settings.seed)("test", noise.parse(NOISE))
    print(f"{source.name}, {NOISE}, {source.splits['train'].images:,} training images; measured on the test images")
    print(f"{'':18}{'epochs':>8}{'seconds':>10}{'cross-entropy':>15}{'PSNR':>8}", flush=True)
    curves = {
        "Keras' example": list(told("Keras' example", recipe(source, held_out, settings.seed, epochs))),
        settings.model: list(told(settings.model, ours(source, held_out, settings))),
    }
    ends = [0.0, *(seconds for _, seconds, _ in curves["Keras' example"])]
    whole = statistics.median(np.diff(ends)) * PUBLISHED_EPOCHS
    *_, (_, spent, reached) = curves[settings.model]
    print(
        f"{PUBLISHED_EPOCHS} epochs of the example: {whole:,.0f} s, by its median one; published end: {PUBLISHED_LOSS}"
    )
    print(f"{settings.model}: {reached['loss']:.4f} in {spent:,.0f} s, 1/{whole / spent:.0f} of that")
    path = Path(flags.FLAGS.figure)
    path.write_bytes(figures.png(drawn(curves)))
    print(f"figure: {path}")


def told(name: str, points: Iterator[Point]) -> Iterator[Point]:
    """Yields points, and prints a line for each."""
    for epochs, seconds, measured in points:
        print(f"{name:18}{epochs:>8.2f}{seconds:>10.1f}{measured['loss']:>15.4f}{measured['psnr']:>8.2f}", flush=True)
        yield epochs, seconds, measured


def example() -> keras.Model:
    """Returns the example's model: two convolutions with pooling, two transposed ones, one more to a single channel."""
    options = {"activation": "relu", "padding": "same"}
    return keras.Sequential(
        [
            keras.layers.Conv2D(32, 3, **options),
            keras.layers.MaxPooling2D(2, padding="same"),
            keras.layers.Conv2D(32, 3, **options),
            keras.layers.MaxPooling2D(2, padding="same"),
            keras.layers.Conv2DTranspose(32, 3, strides=2, **options),
            keras.layers.Conv2DTranspose(32, 3, strides=2, **options),
            keras.layers.Conv2D(1, 3, activation="sigmoid", padding="same"),
        ]
    )


def recipe(source: sources.Source, held_out: tf.data.Dataset, seed: int, epochs: int) -> Iterator[Point]:
    """Yields where the example is after each epoch of `fit`."""
    keras.utils.set_random_seed(seed)
    clean = source.read("train")[0].astype(np.float32) / 255
    noisy = np.random.default_rng(seed).normal(clean, 0.4).clip(0, 1).astype(np.float32)
    model = example()
    model.compile(optimizer="adam", loss="binary_crossentropy")
    measure = make_measure(tf.distribute.get_strategy(), model, entropy())
    seconds = 0.0
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        model.fit(noisy, clean, batch_size=128, epochs=1, shuffle=True, verbose=0)
        seconds += time.perf_counter() - start
        yield epoch, seconds, measure(held_out)


def ours(source: sources.Source, held_out: tf.data.Dataset, settings: config.Config) -> Iterator[Point]:
    """Yields where our model is, from time to time, on the way through the settings' epochs."""
    strategy = tf.distribute.get_strategy()
    feed = pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)
    steps = feed.steps(settings.epochs)
    state = build_state(strategy, settings, source.image_shape, steps)
    train_steps = make_train_steps(strategy, state, objectives.find(settings), feed.batch_size)
    measure = make_measure(strategy, state.model, entropy())
    batches, seconds, done = iter(feed.training(0, steps)), 0.0, 0
    for look in range(1, LOOKS + 1):
        start, until = time.perf_counter(), steps * look // LOOKS
        while done < until:
            count = min(STEPS_PER_CALL, until - done)
            float(train_steps(batches, tf.constant(count))[0]["loss"])
            done += count
        seconds += time.perf_counter() - start
        yield done * feed.batch_size / feed.images, seconds, measure(held_out)


def entropy() -> objectives.Objective:
    """Returns what both are measured by: the example's loss."""
    return objectives.find(config.Config(loss="cross_entropy"))


def drawn(curves: dict[str, list[Point]]) -> figures.Figure:
    """Returns cross-entropy against seconds, and the published end."""
    lines = {name: [(seconds, measured["loss"]) for _, seconds, measured in points] for name, points in curves.items()}
    longest = max(seconds for points in lines.values() for seconds, _ in points)
    lines["published end of the example"] = [(0.0, PUBLISHED_LOSS), (longest, PUBLISHED_LOSS)]
    return figures.curves(lines, "seconds of training", "test cross-entropy")


if __name__ == "__main__":
    keras.utils.disable_interactive_logging()
    define_flags()
    program.run(main)
