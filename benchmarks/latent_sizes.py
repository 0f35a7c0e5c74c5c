"""What a latent vector of each size keeps of an image, beside as many principal components.

python -m benchmarks.latent_sizes --flagfile=configs/autoencoder.cfg --epochs=8 [--sizes=2,4,8,16,32,64]. Each size has
a run of its own below --workdir, runs/latent_sizes unless said, so that TensorBoard shows them side by side; the same
command goes on where it stopped. Both are measured on clean test images; a --latent_dim does not count.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from etils import epy

from cae import config, metrics, models, program
from cae.data import noise, sources
from cae.errors import UserError

# What a person typed is checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    import numpy as np
    import tensorflow as tf

    from benchmarks import series
    from cae import runs
    from cae.data import pipeline
    from cae.latents import linear
    from cae.report import figures, history
    from cae.training import distribution, objectives, steps

SIZES = ("2", "4", "8", "16", "32", "64")

Row = dict[str, Any]


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.adopt_module_key_flags(config)
    flags.DEFINE_list("sizes", list(SIZES), "How many numbers latent vectors have, one run each.")


def main() -> None:
    """Trains and measures each size that is not yet there, and writes a table and a figure of all."""
    settings, workdir = config.from_flags(), Path(flags.FLAGS.workdir or "runs/latent_sizes").expanduser()
    sizes = parse(flags.FLAGS.sizes)
    check(settings)
    program.start_tensorflow()
    strategy = distribution.make_strategy(settings.strategy, settings.logical_cpus)
    source = sources.open_source(settings)
    source = dataclasses.replace(source, read=functools.cache(source.read))
    for notice in source.notices():
        print(notice, flush=True)
    rows = []
    for size in sizes:
        one = dataclasses.replace(settings, latent_dim=size)
        rows.append(row_of(strategy, one, source, workdir / f"latent_dim-{size}"))
        print(line(rows[-1]), flush=True)
    series.write_table(workdir / "sizes.csv", rows)
    (workdir / "sizes.png").write_bytes(figures.png(drawn(settings.model, rows)))
    print(f"table: {workdir / 'sizes.csv'}\nfigure: {workdir / 'sizes.png'}")


def parse(words: Sequence[str]) -> list[int]:
    """Returns the sizes that were said, each once, from the least; raises `UserError` for what can't be one."""
    for word in words:
        if not (word.isascii() and word.isdigit() and int(word)):
            raise UserError(f"--sizes: '{word}' must be a whole number of at least 1, as in --sizes={','.join(SIZES)}")
    if not words:
        raise UserError(f"--sizes is empty; --sizes={','.join(SIZES)} is what is tried unless said")
    return sorted({int(word) for word in words})


def check(settings: config.Config) -> None:
    """Raises `UserError` for a name that is not known, and for a model without latent vectors."""
    if not models.find(settings.model, config.said_settings()).has_latents:
        having = ", ".join(name for name, family in models.FAMILIES.items() if family.has_latents)
        raise UserError(f"--model={settings.model} has no latent vector whose sizes could be tried; {having} have one")
    metrics.find_loss(settings.loss)
    noise.parse(settings.noise)


def row_of(strategy: "tf.distribute.Strategy", settings: config.Config, source: sources.Source, workdir: Path) -> Row:
    """Returns what is known of a size, after training and measuring what was not yet there."""
    path = workdir / "size.json"
    row = series.result_of(settings, path)
    if row is None:
        series.train(strategy, settings, source, workdir)
        row = measured(source, workdir)
        series.keep(row, path)
    config.check_same_images(config.read_record(workdir), source.describe())
    return row


def measured(source: sources.Source, workdir: Path) -> Row:
    """Returns the test error of a run's best model, that of as many components, and the first over the second.

    latent_dim, epochs, mse: the mean over all pixels of all test images; pca_mse and mse_to_pca: nothing where there
    are fewer components than numbers; minutes: of training.
    """
    run, epochs = runs.load(workdir), history.read(workdir / "metrics.jsonl")
    measure = steps.make_measure(tf.distribute.get_strategy(), run.model, objectives.find(run.settings))
    mse = measure(pipeline.held_out(source, run.settings.seed)("test", None))["mse"]
    train, test = source.read("train")[0], source.read("test")[0]
    size = run.settings.latent_dim
    possible = size <= min(len(train), np.prod(source.image_shape))
    pca_mse = linear.pca_error(train, test, size) if possible else None
    return {
        "latent_dim": size,
        "epochs": len(epochs),
        "mse": mse,
        "pca_mse": pca_mse,
        "mse_to_pca": mse / pca_mse if possible else None,
        "minutes": sum(each["seconds"] for each in epochs) / 60,
    }


def line(row: Row) -> str:
    """Returns what is printed of a size."""
    told = "no such PCA" if row["pca_mse"] is None else f"{row['mse_to_pca']:.3f} of PCA's {row['pca_mse']:.5f}"
    return f"latent_dim {row['latent_dim']:>4}  MSE {row['mse']:.5f}  {told}  {row['minutes']:.1f} min"


def drawn(model: str, rows: Sequence[Row]) -> "figures.Figure":
    """Returns test error against size, of the model and of PCA."""
    lines = {
        name: [(row["latent_dim"], row[key]) for row in rows if row[key] is not None]
        for name, key in {model: "mse", "PCA": "pca_mse"}.items()
    }
    lines = {name: points for name, points in lines.items() if points}
    return figures.curves(lines, "numbers in the latent vector", "test MSE", log=True, log_x=True)


if __name__ == "__main__":
    define_flags()
    program.run(main)
