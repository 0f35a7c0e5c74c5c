"""One-class and leave-one-class-out protocols of outlier detection: each class in turn is normal, or excluded.

python -m benchmarks.one_class --flagfile=configs/one_class.cfg, or configs/deep_cluster.cfg: --normal_classes says
which of both. --classes=1,4 and --seeds=0,1,2 select runs, each of which has a folder below --workdir; a repeated
command resumes.

The area under the precision-recall curve (AUPRC) depends on the prevalence, the fraction of outliers. `auprc` has that
of the official test split. `auprc_pooled` has the prevalence of published code that pools all images of the data set,
trains on 80% of the normal ones, and tests on the other 20% and on every image of the excluded class: here the test
images are those of the official split, and the images of the excluded class those of all splits, weighted to that
prevalence.
"""

import dataclasses
import functools
import itertools
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags
from sklearn.metrics import average_precision_score

from benchmarks import sweep
from cae import cli
from cae.config import Config, config_from_flags, define_config_flags
from cae.data import datasets
from cae.errors import UserError
from cae.io_utils import write_csv
from cae.outliers.detector import Detector
from cae.outliers.thresholds import binary_labels_and_scores
from cae.tasks import outliers
from cae.workdir import workdir_from_flags

POOLED_TEST_FRACTION = 0.2
"""The fraction of normal images that published code tests on."""


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and which runs there are."""
    define_config_flags()
    flags.DEFINE_list("classes", [], "Classes that are normal, or excluded, in turn; default: all.")
    flags.DEFINE_list("seeds", [], "Seeds, each with a run for every class; default: that of --seed.")


def main() -> None:
    """Trains and evaluates each run that has no result yet, and writes a table of all of them."""
    config, workdir = config_from_flags(), workdir_from_flags()
    if config.normal_classes is None:
        raise UserError("--normal_classes must be set: 0 for one normal class in turn, -0 for one excluded class")
    seeds = [parse_seed(seed) for seed in flags.FLAGS.seeds or [str(config.seed)]]
    strategy, dataset = sweep.start(dataclasses.replace(config, normal_classes=None))
    if len(dataset.class_names) < 2:
        raise UserError(
            f"--dataset={config.dataset} must have two classes or more, such as mnist or a folder with a subfolder for"
            " each class"
        )
    if unknown := sorted({*flags.FLAGS.classes} - {*dataset.class_names}):
        raise UserError(f"--classes={unknown[0]} is not a class of {dataset.name}: {', '.join(dataset.class_names)}")
    rows, sign = [], "-" * config.normal_classes.startswith("-")
    for seed, name in itertools.product(seeds, flags.FLAGS.classes or dataset.class_names):
        run_config, folder = dataclasses.replace(config, normal_classes=sign + name, seed=seed), f"{name}-seed{seed}"
        compute = functools.partial(train_and_evaluate, strategy, run_config, workdir / folder)
        rows.append({"class": name, "seed": seed} | sweep.load_or_compute(run_config, workdir / folder, compute))
        print(format_row(rows[-1]), flush=True)
    means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key not in ("class", "score")}
    rows.append(means | {"class": "mean", "seed": "", "score": rows[0]["score"]})
    print(format_row(rows[-1]))
    write_csv(workdir / "one_class.csv", rows)
    print(f"table: {workdir / 'one_class.csv'}; seconds of training and fitting per run: {means['seconds']:.0f}")


def parse_seed(text: str) -> int:
    """Returns a seed; raises `UserError` where it is not a whole number."""
    if not text.strip().isdecimal():
        raise UserError(f"--seeds={text} must be whole numbers, such as 0,1,2")
    return int(text)


def train_and_evaluate(strategy: tf.distribute.Strategy, config: Config, workdir: Path) -> sweep.Result:
    """Trains a run on the normal classes, fits the detector, and evaluates every score on the other classes.

    Returns:
      `auroc/SCORE`, `auprc/SCORE` and `auprc_pooled/SCORE` of every score; `prevalence` and `prevalence_pooled`;
      `score`, the default; `fpr`, the false positive rate of the default detector; `seconds`, of training and fitting.
    """
    dataset = datasets.open_dataset(config)
    run, train_images = sweep.train(strategy, config, dataset, workdir), dataset.load("train")[0]
    calibration_images, start = dataset.load("calibration")[0], time.monotonic()
    detector = Detector.fit(run.model, train_images, calibration_images, step=run.step)
    # Those of epochs of earlier processes as well.
    seconds = time.monotonic() - start + sum(epoch["epoch_seconds"] for epoch in run.history)
    detector.save(workdir)
    fitted = outliers.fit_all_scores(detector, train_images)
    inliers = outliers.compute_scores(fitted, detector, dataset.load("test")[0])
    official = outliers.compute_scores(fitted, detector, dataset.excluded_classes("test")[0])
    others = [dataset.excluded_classes(split)[0] for split in dataset.splits if split != "test"]
    others = outliers.compute_scores(fitted, detector, np.concatenate(others))
    pooled = {name: np.concatenate([official[name], others[name]]) for name in fitted}
    num_inliers, num_official, num_pooled = (len(each["mse"]) for each in (inliers, official, pooled))
    num_normal = sum(len(split) for split in dataset.splits.values())
    prevalence = num_pooled / (num_pooled + POOLED_TEST_FRACTION * num_normal)
    result = {
        "score": detector.score_name,
        "prevalence": num_official / (num_official + num_inliers),
        "prevalence_pooled": prevalence,
        "fpr": float(np.mean(~detector.threshold.is_inlier(inliers[detector.score_name]))),
        "seconds": seconds,
    }
    for name in fitted:
        result |= {
            f"auroc/{name}": outliers.auroc(inliers[name], official[name]),
            f"auprc/{name}": weighted_auprc(inliers[name], official[name], result["prevalence"]),
            f"auprc_pooled/{name}": weighted_auprc(inliers[name], pooled[name], prevalence),
        }
    return result


def weighted_auprc(inliers: np.ndarray, outliers: np.ndarray, prevalence: float) -> float:
    """Returns the average precision of scores, where outliers have the weight that gives them a prevalence."""
    labels, scores = binary_labels_and_scores(inliers, outliers)
    weight = prevalence / (1 - prevalence) * len(inliers) / len(outliers)
    return float(average_precision_score(labels, scores, sample_weight=np.where(labels, weight, 1.0)))


def format_row(row: sweep.Result) -> str:
    """Returns a line with the figures of the default score."""
    figures = [f"{key} {row[key + '/' + row['score']]:.4f}" for key in ("auroc", "auprc", "auprc_pooled")]
    return "  ".join([f"{row['class']:>6}", f"seed {row['seed']}", row["score"], *figures, f"{row['seconds']:.0f} s"])


if __name__ == "__main__":
    define_flags()
    cli.run(main)
