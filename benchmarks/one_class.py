"""One-class and leave-one-class-out protocols of outlier detection: each class in turn is normal, or excluded.

python -m benchmarks.one_class --flagfile=configs/one_class.cfg, or configs/leave_one_class_out.cfg: --normal_classes
says which of both. Each class has a run of its own below --workdir; a repeated command resumes.
"""

import dataclasses
import functools
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks import sweep
from cae import cli
from cae.config import Config, config_from_flags, define_config_flags
from cae.data import datasets
from cae.errors import UserError
from cae.io_utils import write_csv
from cae.outliers import scores
from cae.outliers.detector import Detector
from cae.tasks import outliers
from cae.workdir import workdir_from_flags


def define_flags() -> None:
    """Defines the flags of this program, which are those of a run."""
    define_config_flags()


def main() -> None:
    """Trains and evaluates each class that has no result yet, and writes a table of all classes."""
    config, workdir = config_from_flags(), workdir_from_flags()
    if config.normal_classes is None:
        raise UserError("--normal_classes must be set: 0 for one normal class in turn, -0 for one excluded class")
    strategy, dataset = sweep.start(dataclasses.replace(config, normal_classes=None))
    rows, sign = [], "-" * config.normal_classes.startswith("-")
    for name in dataset.class_names:
        class_config = dataclasses.replace(config, normal_classes=sign + name)
        compute = functools.partial(train_and_evaluate, strategy, class_config, workdir / name)
        rows.append({"class": name} | sweep.load_or_compute(class_config, workdir / name, compute))
        print(format_row(rows[-1]), flush=True)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "class"}
    rows.append({"class": "mean"} | means)
    print(format_row(rows[-1]))
    write_csv(workdir / "one_class.csv", rows)
    print(f"table: {workdir / 'one_class.csv'}; total seconds: {sum(row['seconds'] for row in rows[:-1]):.0f}")


def train_and_evaluate(strategy: tf.distribute.Strategy, config: Config, workdir: Path) -> sweep.Result:
    """Trains a run on the normal classes, fits the detector, and evaluates every score on the other classes.

    Returns:
      `auroc/SCORE` and `aupr/SCORE` of every score, outliers being the test images of the other classes; `fpr`, the
      false positive rate of the default detector; `seconds`.
    """
    start = time.monotonic()
    dataset = datasets.open_dataset(config)
    run, train_images = sweep.train(strategy, config, dataset, workdir), dataset.load("train")[0]
    detector = Detector.fit(run.model, train_images, dataset.load("calibration")[0], step=run.step)
    detector.save(workdir)
    fitted = outliers.fit_all_scores(detector, train_images)
    inlier_scores = outliers.compute_scores(fitted, detector, dataset.load("test")[0])
    outlier_scores = outliers.compute_scores(fitted, detector, dataset.excluded_classes("test")[0])
    result = {"fpr": float(np.mean(~detector.threshold.is_inlier(inlier_scores[detector.score_name])))}
    for name in fitted:
        row = outliers.make_set_row(name, inlier_scores[name], outlier_scores[name], detector.threshold)
        result |= {f"auroc/{name}": row["auroc"], f"aupr/{name}": row["aupr"]}
    return result | {"seconds": time.monotonic() - start}


def format_row(row: sweep.Result) -> str:
    """Returns a line with the AUROC and AUPR of the default score, and those of the best other score."""
    default, *others = scores.SCORES
    words = [f"{row['class']:>6}"]
    for key in ("auroc", "aupr"):
        best = max((name for name in others if f"{key}/{name}" in row), key=lambda name: row[f"{key}/{name}"])
        words.append(f"{key} {default} {row[f'{key}/{default}']:.4f} (next: {best} {row[f'{key}/{best}']:.4f})")
    return "  ".join([*words, f"{row['seconds']:.0f} s"])


if __name__ == "__main__":
    define_flags()
    cli.run(main)
