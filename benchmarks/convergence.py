"""Time to accuracy: loss and metrics against the seconds of training, for several recipes in turn.

python -m benchmarks.convergence --flagfile=configs/autoencoder.cfg --epochs=2 --recipes=baseline,conv

A recipe is a model and how it is trained:

- `conv`, `unet` and the other names of --model: that model, trained for --epochs as the flags say;
- `baseline`: a small convolutional autoencoder, trained by Adam at a constant 0.001 for --baseline_epochs;
- `baseline_tuned`: the same model, trained for --baseline_epochs as the flags say;
- `keras_example`: the Keras example of denoising MNIST, trained for --baseline_epochs as published: noise of standard
  deviation 0.4 drawn once, binary cross-entropy, Adam, batches of 128, `fit`. All other recipes then get its noise and
  loss, whatever the flags say. It is published with a validation loss of 0.0837 after 150 epochs, whose time is taken
  from the median of the epochs that are measured here.

With --seconds each is trained for the same time instead, with a cosine schedule over that time, which neither
`baseline` nor `keras_example` has. Recipes take turns, epoch by epoch. Evaluation does not count as training, nor does
tracing, which has a column of its own.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.baseline_models import build_baseline, build_keras_example
from benchmarks.common import Table, check_names, define_json_flag, measure_seconds
from benchmarks.stepper import Stepper, make_evaluator
from cae import cli, models, runtime
from cae.config import Config, config_from_flags, define_config_flags
from cae.data import datasets
from cae.data.arrays import to_float
from cae.errors import UserError
from cae.report import charts, figures
from cae.training import distribution
from cae.training.optimizers import Adam

RECIPES = ("keras_example", "baseline", "baseline_tuned", *models.MODELS)

KERAS_EXAMPLE_NOISE, KERAS_EXAMPLE_LOSS, KERAS_EXAMPLE_BATCH_SIZE = 0.4, "binary_crossentropy", 128
PUBLISHED_EPOCHS, PUBLISHED_LOSS = 150, 0.0837

BASELINE_LEARNING_RATE, STEPS_PER_LR_UPDATE = 0.001, 10

COLUMNS = {"recipe": "<22", "weights": ">8,", "epochs": ">8.2f", "steps": ">8", "seconds": ">9.1f", "tracing": ">9.1f"}
METRICS = {"loss": ">10.4f", "mse": ">9.5f", "psnr": ">8.2f", "ssim": ">8.3f"}


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far the training of a recipe has come.

    Attributes:
      model: The model.
      epochs: Passes over the training images.
      steps: Steps of the optimizer.
      seconds: Seconds of training, without tracing.
      tracing_seconds: Seconds of tracing.
      loss: The model's loss on the split that is evaluated.
    """

    model: keras.Model
    epochs: float
    steps: int
    seconds: float
    tracing_seconds: float
    loss: float = math.nan


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    define_json_flag()
    flags.DEFINE_list("recipes", ["baseline", "conv"], f"What is trained: {', '.join(RECIPES)}.")
    flags.DEFINE_integer("baseline_epochs", 4, "Epochs of the baselines and of keras_example.", lower_bound=1)
    flags.DEFINE_integer("evaluations_per_epoch", 1, "Evaluations per epoch; keras_example has one.", lower_bound=1)
    flags.DEFINE_enum("eval_split", "validation", ["validation", "test"], "The split of these evaluations.")
    flags.DEFINE_float("seconds", None, "Train each recipe for this time instead of epochs.", lower_bound=0.1)
    flags.DEFINE_string("figure", None, "A PNG file for a figure of loss against seconds.")


def main() -> None:
    """Trains all recipes, prints a row for each evaluation, and draws a figure."""
    values, config = flags.FLAGS, make_config()
    runtime.retain_freed_memory()
    strategy = distribution.make_strategy("one_device")
    dataset = datasets.open_dataset(config)
    num_images = len(dataset.splits["train"])
    print(f"{dataset.name}, {num_images:,} training images, noise {config.noise}, loss {config.loss}")
    trainings = {name: train(name, strategy, config, dataset) for name in values.recipes}
    curves = run_in_turns(trainings, make_evaluator(strategy, config, dataset), num_images)
    if "keras_example" in curves:
        compare_with_published(curves)
    if values.figure:
        Path(values.figure).write_bytes(figures.png(draw(curves)))


def make_config() -> Config:
    """Returns the configuration that the recipes share; raises `UserError` for recipes that can't be trained."""
    recipes, seconds = flags.FLAGS.recipes, flags.FLAGS.seconds
    config = dataclasses.replace(config_from_flags(), model="conv")
    check_names("--recipes", recipes, RECIPES)
    if config.regularizer:
        raise UserError(f"--regularizer={config.regularizer} is not supported: recipes are compared without one")
    if "baseline" in recipes and seconds:
        raise UserError("--seconds is not supported by baseline, whose learning rate is constant; use baseline_tuned")
    if "keras_example" in recipes:
        if seconds:
            raise UserError("--seconds is not supported by keras_example, which is trained for epochs")
        return dataclasses.replace(config, noise=f"gaussian:{KERAS_EXAMPLE_NOISE}", loss=KERAS_EXAMPLE_LOSS)
    return dataclasses.replace(config, lr_schedule="constant") if seconds else config


def run_in_turns(
    trainings: Mapping[str, Iterator[Progress]],
    evaluate: Callable[[keras.Model, str], dict[str, float]],
    num_images: int,
) -> dict[str, list[Progress]]:
    """Continues one training after the other to its next evaluation; prints these, and a last one on the test split.

    Args:
      trainings: The progress at each evaluation, by recipe.
      evaluate: Returns the loss and the metrics of a model on a split.
      num_images: Number of training images.

    Returns:
      The progress at each evaluation, with its loss, by recipe.
    """
    table = Table(COLUMNS | {"images/s": ">10,.0f"} | METRICS)
    curves, running = {name: [] for name in trainings}, dict(trainings)

    def evaluate_and_print(title: str, point: Progress, split: str) -> Progress:
        metrics = evaluate(point.model, split)
        rate = point.epochs * num_images / point.seconds if point.seconds else None
        counts = (point.model.count_params(), point.epochs, point.steps, point.seconds, point.tracing_seconds)
        table.add(title, *counts, rate, *map(metrics.get, METRICS))
        return dataclasses.replace(point, loss=metrics["loss"])

    while running:
        for name, training in list(running.items()):
            if point := next(training, None):
                curves[name].append(evaluate_and_print(name, point, flags.FLAGS.eval_split))
            else:
                del running[name]
                evaluate_and_print(f"{name}, test", curves[name][-1], "test")
    table.write()
    return curves


# --- Training ---------------------------------------------------------------------------------------------------------


def train(
    name: str, strategy: tf.distribute.Strategy, config: Config, dataset: datasets.ImageDataset
) -> Iterator[Progress]:
    """Returns an iterator that trains a recipe and yields its progress at each evaluation."""
    values = flags.FLAGS
    if name == "keras_example":
        return train_keras_example(config, dataset, values.baseline_epochs)
    if name in models.MODELS:
        config = dataclasses.replace(config, model=name)
        stepper = Stepper(strategy, config, dataset)
    else:
        config = dataclasses.replace(config, epochs=values.baseline_epochs)
        optimizer = Adam(BASELINE_LEARNING_RATE) if name == "baseline" else None
        stepper = Stepper(strategy, config, dataset, build_model=build_baseline, optimizer=optimizer)
    if values.seconds:
        return train_for_seconds(stepper, values.seconds)
    return train_for_epochs(stepper, config.epochs, config.epochs * values.evaluations_per_epoch)


def train_for_epochs(stepper: Stepper, epochs: int, num_evaluations: int) -> Iterator[Progress]:
    """Trains for epochs and yields the progress `num_evaluations` times."""
    num_steps = stepper.train_data.num_steps(epochs)
    for number in range(1, num_evaluations + 1):
        stepper.run(num_steps * number // num_evaluations - stepper.num_steps)
        yield get_progress(stepper)


def train_for_seconds(stepper: Stepper, seconds: float) -> Iterator[Progress]:
    """Trains for a time, over which the learning rate warms up and decays along a cosine, and yields the progress."""
    stepper.run(1)
    start = time.perf_counter()
    while (elapsed := (time.perf_counter() - start) / seconds) < 1:
        stepper.state.lr_scale.assign(min(1, 20 * elapsed) * (1 + math.cos(math.pi * elapsed)) / 2)
        stepper.run(STEPS_PER_LR_UPDATE)
    yield get_progress(stepper)


def get_progress(stepper: Stepper) -> Progress:
    """Returns the progress of a stepper."""
    return Progress(stepper.state.model, stepper.epochs, stepper.num_steps, stepper.seconds, stepper.tracing_seconds)


def train_keras_example(config: Config, dataset: datasets.ImageDataset, epochs: int) -> Iterator[Progress]:
    """Trains the Keras example by its published recipe and yields the progress after each epoch."""
    keras.utils.set_random_seed(config.seed)
    clean = to_float(dataset.load("train")[0])
    noisy = np.random.default_rng(config.seed).normal(clean, KERAS_EXAMPLE_NOISE).clip(0, 1).astype(np.float32)
    model, batch_size = build_keras_example(), KERAS_EXAMPLE_BATCH_SIZE
    model.compile(optimizer="adam", loss=KERAS_EXAMPLE_LOSS)

    fit = functools.partial(measure_seconds, model.fit, batch_size=batch_size, shuffle=True, verbose=0)
    tracing_seconds, seconds = fit(noisy[:batch_size], clean[:batch_size]), 0.0
    for epoch in range(1, epochs + 1):
        seconds += fit(noisy, clean)
        yield Progress(model, epoch, epoch * math.ceil(len(clean) / batch_size), seconds, tracing_seconds)


# --- Results ----------------------------------------------------------------------------------------------------------


def compare_with_published(curves: Mapping[str, Sequence[Progress]]) -> None:
    """Prints the time to the published end of the Keras example, and by which fraction of it the others have ended."""
    ends = [0.0, *(point.seconds for point in curves["keras_example"])]
    published = PUBLISHED_EPOCHS * float(np.median(np.diff(ends)))
    title = f"{PUBLISHED_EPOCHS} epochs of keras_example"
    print(f"{title}: {published:,.0f} s by the median epoch; published loss {PUBLISHED_LOSS}")
    for name, (*_, last) in curves.items():
        if name != "keras_example":
            seconds = last.seconds + last.tracing_seconds
            print(f"{name}: loss {last.loss:.4f} in {seconds:,.0f} s with tracing, 1/{published / seconds:.0f} of that")


def draw(curves: Mapping[str, Sequence[Progress]]) -> figures.Figure:
    """Returns a figure of loss against seconds, with the published loss of the Keras example where that is a recipe."""
    lines = {name: [(point.seconds, point.loss) for point in points] for name, points in curves.items()}
    if "keras_example" in lines:
        longest = max(points[-1].seconds for points in curves.values())
        lines["published end of the example"] = [(0.0, PUBLISHED_LOSS), (longest, PUBLISHED_LOSS)]
    return charts.line_chart(lines, "seconds of training", f"{flags.FLAGS.eval_split} loss")


if __name__ == "__main__":
    keras.utils.disable_interactive_logging()
    define_flags()
    cli.run(main)
