"""Which design learns most in the same time: python -m benchmarks.blocks [--designs=plain,conv] [--seconds=100].

Trains designs one after the other, each for the same seconds of steps with a cosine schedule over that time, and prints
what the validation split says. A design is a family of models, or `plain`: strided convolutions, mirrored.
"""

import dataclasses
import math
import time

import keras
import tensorflow as tf
from absl import flags

from cae import config, models, program
from cae.data import noise, pipeline, sources
from cae.errors import UserError
from cae.models.conv import ConvAutoencoder
from cae.training import objectives
from cae.training.optimizer import make_optimizer
from cae.training.state import State
from cae.training.steps import make_measure, make_train_steps

STEPS_PER_CALL = 10


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.DEFINE_list("designs", ["plain", "conv"], "What is trained, in turn: families of models, or 'plain'.")
    flags.DEFINE_float("seconds", 100.0, "How long each design is trained.", lower_bound=1.0)


def main() -> None:
    """Trains and measures every design, and prints a table."""
    settings, seconds = config.from_flags(), flags.FLAGS.seconds
    if settings.regularizer:
        raise UserError(f"--regularizer={settings.regularizer} has no meaning here: designs are compared without one")
    source = sources.open_source(settings)
    feed = pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)
    print(f"{source.name}, noise {settings.noise}, {seconds:g} s each: the validation split")
    print(f"{'design':8}{'weights':>10}{'steps':>8}{'images/s':>10}{'MSE':>10}{'PSNR':>8}{'SSIM':>8}", flush=True)
    for name in flags.FLAGS.designs:
        build = plain if name == "plain" else models.build
        model = build(settings if name == "plain" else dataclasses.replace(settings, model=name), source.image_shape)
        steps, measured = train(model, feed, settings, seconds)
        print(
            f"{name:8}{model.count_params():>10,}{steps:>8}{steps * feed.batch_size / seconds:>10,.0f}"
            f"{measured['mse']:>10.5f}{measured['psnr']:>8.2f}{measured['ssim']:>8.3f}",
            flush=True,
        )


def plain(settings: config.Config, image_shape: tuple[int, int, int]) -> keras.Model:
    """Returns what is written down first: strided convolutions, a dense layer each way, and the same transposed.

    `width` filters and twice that; then a last convolution to the image's channels at full resolution. For MNIST and
    the default sizes 278,369 weights.
    """
    keras.utils.set_random_seed(settings.seed)
    model, width = ConvAutoencoder(image_shape, settings.latent_dim, settings.width), settings.width
    coarse = (image_shape[0] // 4, image_shape[1] // 4, 2 * width)
    options = {"padding": "same", "activation": "relu"}
    model.encoder = keras.Sequential(
        [
            keras.layers.Conv2D(width, 3, strides=2, **options),
            keras.layers.Conv2D(2 * width, 3, strides=2, **options),
            keras.layers.Flatten(),
            keras.layers.Dense(settings.latent_dim),
        ]
    )
    model.decoder = keras.Sequential(
        [
            keras.layers.Dense(math.prod(coarse), activation="relu"),
            keras.layers.Reshape(coarse),
            keras.layers.Conv2DTranspose(2 * width, 3, strides=2, **options),
            keras.layers.Conv2DTranspose(width, 3, strides=2, **options),
            keras.layers.Conv2D(image_shape[2], 3, padding="same"),
        ]
    )
    model(tf.zeros([1, *image_shape]))
    return model


def train(
    model: keras.Model, feed: pipeline.Feed, settings: config.Config, seconds: float
) -> tuple[int, dict[str, float]]:
    """Takes steps for so many seconds and returns how many, and what the validation split says."""
    strategy, objective = tf.distribute.get_strategy(), objectives.find(settings)
    factor = tf.Variable(0.0)
    optimizer = make_optimizer(dataclasses.replace(settings, lr_schedule="constant"), 1, factor)
    optimizer.build(model.trainable_variables)
    train_steps = make_train_steps(strategy, State.new(model, optimizer), objective, feed.batch_size)
    batches = iter(feed.training(0, 10**9))
    train_steps(batches, tf.constant(1))  # Tracing does not count.
    start, steps = time.perf_counter(), 0
    while (spent := (time.perf_counter() - start) / seconds) < 1:
        warm_up = min(1.0, 20 * spent)
        factor.assign(warm_up * (1 + math.cos(math.pi * spent)) / 2)
        train_steps(batches, tf.constant(STEPS_PER_CALL))
        steps += STEPS_PER_CALL
    return steps, make_measure(strategy, model, objective)(feed.validation)


if __name__ == "__main__":
    define_flags()
    program.run(main)
