"""Where anomaly maps find an anomaly whose place is known: python -m benchmarks.anomaly_localization --workdir=RUN.

A square of another image, or of uniform noise, is pasted into each image of the validation and the test split at a
random place. The anomaly map is compared with the squared error, plain and smoothed, all scaled so that as many pixels
of the calibration split exceed 1. Choices were made on the validation split. Writes anomaly_localization.csv and .json
to the run's folder.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from absl import flags
from sklearn.metrics import roc_auc_score

from benchmarks.common import Table
from cae import cli
from cae.config import define_config_flags
from cae.errors import UserError
from cae.io_utils import atomic_write, write_csv
from cae.outliers.anomaly_map import fit_pixel_threshold, smooth, smoothed_error
from cae.outliers.forward import ForwardBatches, make_forward
from cae.run import Run
from cae.tasks.flags import dataset_location
from cae.workdir import workdir_from_flags

PATCH_SIDE = 8

MIN_CHANGE, MIN_CHANGED_PIXELS = 0.1, 16
"""A pixel is anomalous if a patch changes it by more than this, in 0..1; a patch changes at least as many pixels so."""

MAX_DRAWS = 1000
"""Of a patch that changes enough pixels of an image."""

NUM_THRESHOLDS = 40
"""Between which quantiles of a map, from 0.8 to 0.999, the best intersection over union is searched."""

KINDS = ("other image", "uniform noise")


def squared_error(images: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns the squared error of each pixel, mean over channels, [batch, height, width]."""
    return tf.reduce_mean(tf.math.squared_difference(images, outputs), axis=-1)


MAPS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "squared error": squared_error,
    "smoothed": lambda images, outputs: smooth(squared_error(images, outputs)),
    "anomaly map": smoothed_error,
}
"""Functions of images and their reconstructions, [batch, height, width, channels], to maps [batch, height, width]."""

COLUMNS = {
    "split": "<12", "patch": "<15", "map": "<15", "auroc": ">7.4f", "iou": ">8.4f", "best_iou": ">9.4f", "fpr": ">8.4f",
}  # fmt: skip


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    flags.DEFINE_integer("images", 10_000, "Images of each split, at most.", lower_bound=2)


def main() -> None:
    """Prints and writes a row for each split, kind of patch and map."""
    workdir, num_images = workdir_from_flags(), flags.FLAGS.images
    run = Run.load(workdir)
    check_shape(run.image_shape)
    dataset, forward_batches = run.open_dataset(**dataset_location(flags.FLAGS)), make_forward(run.model)
    maps = compute_maps(dataset.load("calibration")[0], forward_batches)
    thresholds = {name: fit_pixel_threshold([values], values.size) for name, values in maps.items()}
    table, rows = Table(COLUMNS), []
    for split in ("validation", "test"):
        for row in evaluate(dataset.load(split)[0][:num_images], forward_batches, thresholds, run.config.seed):
            rows.append({"split": split} | row)
            table.add(*rows[-1].values())
    write_csv(workdir / "anomaly_localization.csv", rows)
    with atomic_write(workdir / "anomaly_localization.json") as file:
        file.write(json.dumps(rows, indent=2) + "\n")
    print(f"table: {workdir / 'anomaly_localization.csv'}")


def check_shape(image_shape: tuple[int, int, int]) -> None:
    """Raises `UserError` for images that are smaller than a patch."""
    if min(image_shape[:2]) < PATCH_SIDE:
        size = "x".join(map(str, image_shape[:2]))
        raise UserError(f"images of {size} pixels are smaller than the patches, {PATCH_SIDE}x{PATCH_SIDE}")


def paste_patches(images: np.ndarray, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images with a patch at a random place, and which of their pixels are anomalous.

    Patch and place depend on the seed and the image's index. A patch of another image has the same place there.

    Args:
      images: uint8 [n, height, width, channels].
      kind: One of `KINDS`.
      seed: Seed of random choices.

    Returns:
      changed: uint8 [n, height, width, channels].
      truth: bool [n, height, width].

    Raises:
      UserError: No patch changes enough pixels of an image.
    """
    changed = images.copy()
    for index, image in enumerate(changed):
        random = np.random.default_rng([seed, KINDS.index(kind), index])
        for _ in range(MAX_DRAWS):
            row, column = random.integers(0, np.subtract(image.shape[:2], PATCH_SIDE - 1))
            place = (slice(row, row + PATCH_SIDE), slice(column, column + PATCH_SIDE))
            if kind == "other image":
                patch = images[(index + random.integers(1, len(images))) % len(images)][place]
            else:
                patch = random.integers(0, 256, image[place].shape, np.uint8)
            if _differ(patch, image[place]).sum() >= MIN_CHANGED_PIXELS:
                image[place] = patch
                break
        else:
            raise UserError(f"no patch changes {MIN_CHANGED_PIXELS} pixels of image {index} by more than {MIN_CHANGE}")
    return changed, _differ(changed, images)


def _differ(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns which pixels of uint8 images differ by more than `MIN_CHANGE` in a channel."""
    return (np.abs(first.astype(int) - second) > 255 * MIN_CHANGE).any(axis=-1)


def compute_maps(images: np.ndarray, forward_batches: ForwardBatches) -> dict[str, np.ndarray]:
    """Returns each of `MAPS` of images, float32 [n, height, width] by name."""
    batches = [
        {name: function(outputs.image, outputs.output).numpy() for name, function in MAPS.items()}
        for outputs in forward_batches(images)
    ]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in MAPS}


def evaluate(
    images: np.ndarray, forward_batches: ForwardBatches, thresholds: Mapping[str, float], seed: int
) -> Iterator[dict[str, Any]]:
    """Yields the row of each kind of patch and each map: patch, map, the values of `compare`, and fpr.

    The false positive rate fpr is the fraction of pixels of unchanged images at which a map exceeds its threshold.
    """
    maps = compute_maps(images, forward_batches)
    fpr = {name: float(np.mean(maps[name] > threshold)) for name, threshold in thresholds.items()}
    for kind in KINDS:
        changed, truth = paste_patches(images, kind, seed)
        for name, values in compute_maps(changed, forward_batches).items():
            yield {"patch": kind, "map": name} | compare(values / thresholds[name], truth) | {"fpr": fpr[name]}


def compare(maps: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Compares maps with the truth.

    Args:
      maps: [n, height, width].
      truth: Which pixels are anomalous, bool like `maps`.

    Returns:
      auroc of the pixels of all images; iou, the intersection over union of `maps > 1` with the truth, mean over
      images; best_iou, the largest that another threshold for all images has.
    """
    candidates = np.unique(np.quantile(maps, np.linspace(0.8, 0.999, NUM_THRESHOLDS)))
    return {
        "auroc": float(roc_auc_score(truth.ravel(), maps.ravel())),
        "iou": mean_iou(maps > 1, truth),
        "best_iou": max(mean_iou(maps > candidate, truth) for candidate in [1.0, *candidates]),
    }


def mean_iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Returns the intersection over union of regions, bool [n, height, width], mean over images."""
    intersections, unions = (predicted & truth).sum(axis=(1, 2)), (predicted | truth).sum(axis=(1, 2))
    return float(np.mean(intersections / np.maximum(unions, 1)))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
