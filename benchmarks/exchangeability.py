"""What a conformal threshold guarantees and what not: python -m benchmarks.exchangeability --workdir=runs/autoencoder.

For the default detector of a run, the fraction of images that it takes for outliers at each false positive rate: test
images, the same images after changes that calibration images have not gone through, and synthetic outliers. Then false
alarms and outliers found where one test image of a hundred is made an outlier, by testing each image by itself, and by
Benjamini and Hochberg's procedure.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np
from absl import flags
from PIL import Image

from benchmarks.common import Table, define_json_flag, write_json
from cae import cli
from cae.config import define_config_flags
from cae.data import outlier_sets
from cae.data.arrays import to_pil
from cae.outliers import conformal
from cae.outliers.detector import Detector
from cae.run import Run
from cae.tasks.flags import dataset_location
from cae.workdir import workdir_from_flags

ALPHAS = (0.01, 0.05, 0.1)

FDR = 0.1

OUTLIER_FRACTION, NUM_DRAWS = 0.01, 1000
"""Which of the test images are outliers is drawn so often."""

INLIERS = "test images"


def add_noise(images: np.ndarray) -> np.ndarray:
    """Returns images with Gaussian noise of standard deviation 0.1, clipped."""
    noise = np.random.default_rng(0).normal(scale=0.1 * 255, size=images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)


def shift(images: np.ndarray) -> np.ndarray:
    """Returns images shifted to the right by 2 pixels; their left border is repeated."""
    return np.pad(images, ((0, 0), (0, 0), (2, 0), (0, 0)), "edge")[:, :, :-2]


def darken(images: np.ndarray) -> np.ndarray:
    """Returns images whose values are 0.8 times as large."""
    return (0.8 * images).round().astype(np.uint8)


def compress(images: np.ndarray) -> np.ndarray:
    """Returns images that were saved as JPEG files of quality 30."""
    compressed = []
    for image in images:
        file = io.BytesIO()
        to_pil(image).save(file, "JPEG", quality=30)
        compressed.append(np.asarray(Image.open(file)).reshape(image.shape))
    return np.stack(compressed)


DRIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Gaussian noise 0.1": add_noise, "shifted by 2 pixels": shift, "20% darker": darken, "JPEG quality 30": compress
}  # fmt: skip
"""Functions of uint8 images [n, height, width, channels] to changed ones."""


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    define_json_flag()


def main() -> None:
    """Prints both tables."""
    run = Run.load(workdir_from_flags())
    dataset = run.open_dataset(**dataset_location(flags.FLAGS))
    train, calibration, test = (dataset.load(split)[0] for split in ("train", "calibration", "test"))
    detector = Detector.fit(run.model, train, calibration, step=run.step)
    sets = {name: outlier_sets.make_outliers(name, test, run.config.seed) for name in outlier_sets.OUTLIERS}
    images = {INLIERS: test} | {name: drift(test) for name, drift in DRIFTS.items()}
    images |= {name: each for name, each in sets.items() if len(each) == len(test)}
    p_values = {name: detector.p_values(each) for name, each in images.items()}

    fractions = Table({"fraction taken for outliers at": "<32"} | {f"alpha {alpha}": ">12.2%" for alpha in ALPHAS})
    for name, values in p_values.items():
        fractions.add(name, *(float(np.mean(values <= alpha)) for alpha in ALPHAS))
    print()
    columns = {"false alarms": ">14.1f", "found": ">8.1f", "of": ">5d", "false discoveries": ">19.2%"}
    alarms = Table({"outliers": "<18", "test": "<26"} | columns)
    for name in filter(p_values.__contains__, sets):
        for test_name, row in count_alarms(p_values[INLIERS], p_values[name], run.config.seed).items():
            alarms.add(name, test_name, *row.values())
    write_json([*fractions.rows, *alarms.rows])


def count_alarms(inliers: np.ndarray, outliers: np.ndarray, seed: int) -> Mapping[str, Mapping[str, float]]:
    """Tests images of which some are outliers, one by one and all together.

    Args:
      inliers: p-values of images, `[n]`.
      outliers: p-values of the same images made outliers, `[n]`.
      seed: Of the draws.

    Returns:
      For each test the means over draws of the numbers of false alarms and of outliers that are found; the number of
      outliers; and the mean of the fraction of false alarms among all alarms, 0 without any.
    """
    random, num_outliers = np.random.default_rng(seed), max(1, round(OUTLIER_FRACTION * len(inliers)))
    tests = {f"one by one, alpha {alpha}": lambda p_values, alpha=alpha: p_values <= alpha for alpha in ALPHAS}
    tests[f"together, FDR {FDR}"] = lambda p_values: conformal.discoveries(p_values, FDR)
    counts = {name: [] for name in tests}
    for _ in range(NUM_DRAWS):
        is_outlier = np.zeros(len(inliers), bool)
        is_outlier[random.choice(len(inliers), num_outliers, replace=False)] = True
        p_values = np.where(is_outlier, outliers, inliers)
        for name, test in tests.items():
            alarms = test(p_values)
            counts[name].append([np.sum(alarms & ~is_outlier), np.sum(alarms & is_outlier)])
    rows = {}
    for name, each in counts.items():
        false, found = np.array(each).T
        fraction = float(np.mean(false / np.maximum(false + found, 1)))
        rows[name] = {"false": float(false.mean()), "found": float(found.mean()), "of": num_outliers, "fdr": fraction}
    return rows


if __name__ == "__main__":
    define_flags()
    cli.run(main)
