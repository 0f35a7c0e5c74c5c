"""Reconstruction error against the dimensions of the latent vector, beside PCA with as many components.

python -m benchmarks.latent_dim_sweep --flagfile=configs/autoencoder.cfg --epochs=8 [--latent_dims=2,4,8,16,32,64]

Each dimension has a run of its own below --sweep_dir, so that TensorBoard shows them side by side; a repeated command
resumes. Errors are on clean test images. --latent_dim and --workdir are not used.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks import sweep
from benchmarks.common import parse_sizes
from benchmarks.stepper import make_evaluator
from cae import cli, models
from cae.config import Config, config_from_flags, define_config_flags
from cae.data import datasets
from cae.errors import UserError
from cae.io_utils import write_csv
from cae.latents import pca
from cae.report import charts, figures
from cae.workdir import check_same_images, load_run_config


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    flags.DEFINE_list("latent_dims", "2,4,8,16,32,64", "Dimensions of the latent vectors, one run each.")
    flags.DEFINE_string("sweep_dir", "runs/latent_dim_sweep", "The folder of these runs.")


def main() -> None:
    """Trains and evaluates each dimension that has no result yet, and writes a table and a figure of all."""
    config, sweep_dir = config_from_flags(), Path(flags.FLAGS.sweep_dir).expanduser()
    latent_dims = parse_sizes("--latent_dims", flags.FLAGS.latent_dims, minimum=1)
    if not models.get_model_spec(config.model).has_latents:
        raise UserError(f"--model={config.model} has no latent vector")
    strategy, dataset = sweep.start(config)
    rows = []
    for latent_dim in latent_dims:
        one_config, workdir = dataclasses.replace(config, latent_dim=latent_dim), sweep_dir / f"latent_dim-{latent_dim}"
        compute = functools.partial(train_and_evaluate, strategy, one_config, dataset, workdir)
        rows.append(sweep.load_or_compute(one_config, workdir, compute))
        check_same_images(load_run_config(workdir), dataset.info())
        print(format_row(rows[-1]), flush=True)
    table, figure = sweep_dir / "latent_dims.csv", sweep_dir / "latent_dims.png"
    write_csv(table, rows)
    figure.write_bytes(figures.png(draw(config.model, rows)))
    print(f"table: {table}\nfigure: {figure}")


def train_and_evaluate(
    strategy: tf.distribute.Strategy, config: Config, dataset: datasets.ImageDataset, workdir: Path
) -> sweep.Result:
    """Trains a run and evaluates its best model.

    Returns:
      `latent_dim`; `mse`, the mean over all pixels of all test images; `pca_mse` and `mse_over_pca_mse`, None where
      there are fewer principal components than dimensions; `minutes` of training.
    """
    run = sweep.train(strategy, config, dataset, workdir)
    evaluate = make_evaluator(strategy, dataclasses.replace(config, noise=None), dataset)
    mse = evaluate(run.model, "test")["mse"]
    train, test = dataset.load("train")[0], dataset.load("test")[0]
    has_pca = config.latent_dim <= min(len(train), np.prod(dataset.image_shape))
    pca_mse = pca.pca_mse(pca.fit_pca(train, config.latent_dim), test) if has_pca else None
    return {
        "latent_dim": config.latent_dim,
        "mse": mse,
        "pca_mse": pca_mse,
        "mse_over_pca_mse": mse / pca_mse if has_pca else None,
        "minutes": sum(epoch["epoch_seconds"] for epoch in run.history) / 60,
    }


def format_row(row: sweep.Result) -> str:
    """Returns a line with the result of a dimension."""
    ratio = "no such PCA" if row["pca_mse"] is None else f"{row['mse_over_pca_mse']:.3f} of PCA's {row['pca_mse']:.5f}"
    return f"latent_dim {row['latent_dim']:>4}  MSE {row['mse']:.5f}  {ratio}  {row['minutes']:.1f} min"


def draw(model: str, rows: Sequence[sweep.Result]) -> figures.Figure:
    """Returns a figure of the test error against the dimensions, of the model and of PCA."""
    lines = {model: [(row["latent_dim"], row["mse"]) for row in rows]}
    if pca_points := [(row["latent_dim"], row["pca_mse"]) for row in rows if row["pca_mse"] is not None]:
        lines["PCA"] = pca_points
    return charts.line_chart(lines, "dimensions of the latent vector", "test MSE", log=True, log_x=True)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
