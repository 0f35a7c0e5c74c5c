"""Figures of outlier detection: extreme images of each set, anomaly maps, distributions of scores, ROC curves."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from cae.outliers.anomaly_map import PIXEL_ALPHA
from cae.outliers.detector import Detector
from cae.outliers.thresholds import binary_labels_and_scores
from cae.report.anomaly_maps import add_legend, draw_cells, resize_to_cell
from cae.report.charts import rate_curves, score_histograms
from cae.report.figures import image_table

SetScores = Mapping[str, np.ndarray]
"""The scores of each set of outliers, `[n]` by name."""

NUM_EXTREMES = 4
"""How many of the hardest and of the easiest outliers of a set a figure shows."""

MAPS_CAPTION = (
    "Where images are anomalous: of each set, two outliers of typical score and the two with the lowest scores, which"
    " are the hardest; of the test images, two of typical score and the two with the highest. The map shows where an"
    f" image is unlike its reconstruction: outlined pixels exceed 1, as {PIXEL_ALPHA:.0%} of the pixels of calibration"
    " images do"
)

MAP_COLUMNS = [f"{kind}\n{title}" for kind in ("typical 1", "typical 2", "hard 1", "hard 2")
           for title in ("image", "output", "map")]  # fmt: skip

TEST_IMAGES = "test images"


def make_figures(
    detector: Detector,
    test_images: np.ndarray,
    sets: Mapping[str, np.ndarray],
    inliers: np.ndarray,
    outliers: SetScores,
) -> dict[str, tuple[str, Figure]]:
    """Returns the figures of the outlier detection task, captions and figures by file name.

    Args:
      detector: The detector.
      test_images: uint8 `[n, height, width, channels]`.
      sets: The images of each set of outliers, like `test_images`, by name.
      inliers: The scores of the test images, `[n]`.
      outliers: Those of each set.
    """
    names = shorten_names(outliers)
    sets, outliers = ({names[name]: values for name, values in each.items()} for each in (sets, outliers))
    several = {name: values for name, values in outliers.items() if len(values) > 1}
    limits = [detector.threshold.low, detector.threshold.high]
    return {
        "outliers": ("The hardest and the easiest outliers of each set, by the score", _draw_extremes(sets, outliers)),
        "outliers_maps": (MAPS_CAPTION, _draw_maps(detector, test_images, sets, inliers, outliers)),
        "outliers_scores": (
            f"The score {detector.score_name} of test images (blue) and of each set (red), and the threshold",
            score_histograms(inliers, several, limits, detector.score_name),
        ),
        "outliers_curves": ("ROC and precision-recall curves", _draw_curves(inliers, several)),
    }


def _draw_extremes(sets: Mapping[str, np.ndarray], outliers: SetScores) -> Figure:
    """Draws the images of each set with the smallest scores, hardest first, and with the largest, easiest first."""
    rows = {}
    for name, images in sets.items():
        order = np.argsort(outliers[name], kind="stable")
        count = min(NUM_EXTREMES, len(order) // 2) if len(order) > 1 else 1
        missing = [None] * (NUM_EXTREMES - count)
        hardest, easiest = ([images[index] / 255 for index in indices[:count]] for indices in (order, order[::-1]))
        rows[name] = [*hardest, *missing, *(easiest if len(order) > 1 else [None]), *missing]
    columns = [f"{kind}\n{number + 1}" for kind in ("hard", "easy") for number in range(NUM_EXTREMES)]
    return image_table(rows, columns, cell_inches=0.95)


def _draw_curves(inliers: np.ndarray, outliers: SetScores) -> Figure:
    """Draws the ROC curve and the precision-recall curve of each set."""
    roc, precision_recall = {}, {}
    for name, values in outliers.items():
        labels_and_scores = binary_labels_and_scores(inliers, values)
        fpr, tpr, _ = roc_curve(*labels_and_scores)
        precision, recall, _ = precision_recall_curve(*labels_and_scores)
        roc[name], precision_recall[name] = np.stack([fpr, tpr], axis=1), np.stack([recall, precision], axis=1)
    return rate_curves({("FPR", "TPR"): roc, ("recall", "precision"): precision_recall})


def _draw_maps(
    detector: Detector,
    test_images: np.ndarray,
    sets: Mapping[str, np.ndarray],
    inliers: np.ndarray,
    outliers: SetScores,
) -> Figure:
    """Draws examples of the test images and of each set with more than one image, with reconstructions and maps."""
    rows = {TEST_IMAGES: _make_cells(detector, test_images[select_examples(-inliers)])}
    for name, images in sets.items():
        if len(images) > 1:
            rows[name] = _make_cells(detector, images[select_examples(outliers[name])])
    figure = image_table(rows, MAP_COLUMNS, cell_inches=0.75)
    add_legend(figure)
    return figure


def select_examples(scores: np.ndarray) -> np.ndarray:
    """Returns indices [4] of scores: of two in the middle of their order, and of the two smallest ones."""
    order = np.argsort(scores, kind="stable")
    middle = max(len(order) // 2, 1)
    return order[np.minimum([middle - 1, middle, 0, 1], len(order) - 1)]


def _make_cells(detector: Detector, images: np.ndarray) -> Sequence[np.ndarray]:
    """Returns the cells of images, uint8 [n, height, width, channels]: each image, its reconstruction, its map."""
    outputs = np.concatenate([batch.output for batch in detector.forward_batches(images)]).clip(0, 1)
    maps = detector.anomaly_map(images)
    cells = []
    for image, output, anomaly_map in zip(images / 255, outputs, maps):
        cell, overlay = draw_cells(image, anomaly_map)
        cells += [cell, resize_to_cell(output), overlay]
    return cells


def shorten_names(names: Iterable[str]) -> dict[str, str]:
    """Returns, by each 'folder:PATH', the last folder where no other set is called that; other names as they are."""
    short = {name: name.rstrip("/").rsplit("/", 1)[-1] if name.startswith("folder:") else name for name in names}
    counts = collections.Counter(short.values())
    return {name: each if counts[each] == 1 else name for name, each in short.items()}
