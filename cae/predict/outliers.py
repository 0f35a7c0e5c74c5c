"""Which images are outliers, and where: each is preprocessed to the shape of training images for a detector."""

import dataclasses
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from cae.data.image_io import DecodedImage
from cae.data.resizing import inversion_background
from cae.outliers import conformal, thresholds
from cae.outliers.detector import Detector
from cae.predict import anomaly_maps
from cae.predict.predictor import Predictor, to_file_error
from cae.predict.preprocess import Preprocessed
from cae.predict.writers import PredictionWriter
from cae.report.anomaly_maps import add_legend, draw_cells
from cae.report.figures import captioned_grid
from cae.run import Run
from cae.tasks.context import build_outlier_data
from cae.tasks.flags import dataset_location

BATCH_SIZE = 256

MIN_SHEET_IMAGES = 60
"""Images on the contact sheet, the most anomalous first, unless --num_examples is larger."""

COLUMNS = (
    "score", "p_value", "is_inlier", "is_discovery", "max_anomaly", "width", "height", "preprocessing", "warning"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Item:
    """An image that waits for its score.

    Attributes:
      image: As the model takes it, uint8 `[height, width, channels]`.
      gray: As its file contains it, see `anomaly_maps.shrink_to_gray`.
      size: Its width and height in its file, upright.
    """

    image: np.ndarray
    gray: np.ndarray
    size: tuple[int, int]


class OutlierPredictor(Predictor):
    """Writes outliers.csv with a row per file, pictures of anomaly maps, and a contact sheet, the most anomalous first.

    Images are scored in batches; of earlier ones only those for the contact sheet are kept.

    Args:
      detector: The detector.
      folder: The folder to write to.
      fdr: The false discovery rate of outliers among all images.
      num_examples: Number of images on the contact sheet, if more than `MIN_SHEET_IMAGES`.
    """

    def __init__(self, detector: Detector, folder: Path, fdr: float, num_examples: int):
        self._detector, self._fdr, self._max_shown = detector, fdr, max(num_examples, MIN_SHEET_IMAGES)
        self.writer = PredictionWriter(folder / "outliers.csv", COLUMNS)
        self._map_folder = folder / "anomaly_maps"
        self._batch: dict[str, _Item] = {}
        self._shown: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._heavily_preprocessed: set[str] = set()

    def predict(self, name: str, decoded: DecodedImage, preprocessed: Preprocessed | None) -> None:
        """Takes an image."""
        height, width = decoded.size
        warning = "; ".join(preprocessed.warnings)
        self.writer.add(name, width=width, height=height, preprocessing=preprocessed.steps, warning=warning)
        if len(preprocessed.warnings) > len(decoded.warnings):
            self._heavily_preprocessed.add(name)
        self._batch[name] = _Item(preprocessed.image, anomaly_maps.shrink_to_gray(decoded), decoded.upright_size)
        if len(self._batch) >= BATCH_SIZE:
            self._score_batch()

    def skip(self, name: str, error: Exception) -> None:
        """Notes that there is no score for a file."""
        for images in (self._batch, self._shown):
            images.pop(name, None)
        self._heavily_preprocessed.discard(name)
        super().skip(name, error)

    def _score_batch(self) -> None:
        """Scores the collected images; where that fails, one by one, so that those are skipped that it fails for."""
        batch, self._batch = self._batch, {}
        try:
            self._score(batch)
        except Exception as error:  # noqa: BLE001 - One file must not end the work on the others.
            file_error = to_file_error(error)
            if len(batch) == 1:
                self.skip(*batch, file_error)
                return
            for name, item in batch.items():
                self._batch = {name: item}
                self._score_batch()

    def _score(self, batch: dict[str, _Item]) -> None:
        """Fills in the rows of images, writes their anomaly maps, and keeps the images that are shown."""
        scores, maps = self._detector.scores_and_maps(np.stack([item.image for item in batch.values()]))
        p_values, is_inlier = self._detector.p_values_from_scores(scores), self._detector.threshold.is_inlier(scores)
        rows, images = self.writer.rows, dict(self._shown)
        for name, anomaly_map, *values in zip(batch, maps, scores.tolist(), p_values.tolist(), is_inlier.tolist()):
            item = batch[name]
            path = anomaly_maps.picture_path(self._map_folder, name)
            anomaly_maps.write_picture(path, item.gray, item.size, anomaly_map)
            rows[name] |= dict(zip(("score", "p_value", "is_inlier"), values))
            rows[name]["max_anomaly"] = f"{anomaly_maps.content_maximum(anomaly_map, item.size):.6g}"
            images[name] = item.image, anomaly_map
        first = sorted(images, key=lambda name: (rows[name]["p_value"], -rows[name]["score"]))[: self._max_shown]
        self._shown = {name: images[name] for name in first}

    def finish(self) -> list[str]:
        """Decides which images are discoveries among all of them, and writes the table and the contact sheet."""
        if self._batch:
            self._score_batch()
        rows, detector = self.writer.rows, self._detector
        shown = [
            (name, _caption(rows[name]), np.concatenate(draw_cells(image / 255, anomaly_map), axis=1))
            for name, (image, anomaly_map) in self._shown.items()
        ]
        discoveries = conformal.discoveries(np.array([row["p_value"] for row in rows.values()]), self._fdr)
        for row, is_discovery in zip(rows.values(), discoveries.tolist()):
            row |= {"score": f"{row['score']:.6g}", "p_value": f"{row['p_value']:.6g}", "is_discovery": is_discovery}
        self.writer.write(_draw_sheet(shown) if shown else None)
        num_inliers, num_heavy = sum(row["is_inlier"] for row in rows.values()), len(self._heavily_preprocessed)
        lines = [f"{num_inliers} of {len(rows)} images are inliers, by the {detector}"]
        if num_heavy:
            lines.append(f"{num_heavy} images needed heavy preprocessing, which may hide anomalies; see 'warning'")
        return [*lines, f"table: {self.writer.path}", *[f"anomaly maps: {self._map_folder}"] * bool(rows)]


def _caption(row: dict[str, object]) -> str:
    return f"{'inlier' if row['is_inlier'] else 'outlier'}, p {row['p_value']:.2g}"


def _draw_sheet(shown: list[tuple[str, str, np.ndarray]]) -> Figure:
    figure = captioned_grid(shown)
    add_legend(figure)
    return figure


def find_or_fit_detector(run: Run, values: flags.FlagValues) -> Detector:
    """Returns the saved detector if it is the one that the flags describe, or else fits and saves one."""
    expected = {name: values[name].value for name in ("score", "threshold_method") if values[name].present}
    if detector := run.find_detector(**expected):
        return detector.with_alpha(values.alpha)
    other = "the saved detector has another score or threshold method; fitting one in its place"
    print(other if run.find_detector() else "no saved detector for this checkpoint; fitting one", flush=True)
    # Other data sets may have to be downloaded.
    names = values.outlier_datasets if thresholds.get_threshold_method(values.threshold_method).needs_outliers else []
    return build_outlier_data(run, run.open_dataset(**dataset_location(values)), values, names).detector


def training_background(run: Run, values: flags.FlagValues) -> float:
    """Returns the background of the training images, as `Detector.background`."""
    return inversion_background(run.open_dataset(**dataset_location(values)).load("train")[0])
