"""A detector of outliers: a model, an anomaly score and a threshold, saved in the run's folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from cae.data.resizing import inversion_background
from cae.errors import UserError
from cae.inference import as_batch
from cae.outliers import conformal, detector_files, thresholds
from cae.outliers.anomaly_map import fit_pixel_threshold, smoothed_error
from cae.outliers.calibration_classes import CalibrationClasses
from cae.outliers.forward import ForwardBatches, make_forward
from cae.outliers.score import Score, compute_scores
from cae.outliers.scores import default_score, get_score, model_capabilities
from cae.outliers.thresholds import Threshold, get_threshold_method
from cae.progress import phase


@dataclasses.dataclass(frozen=True, eq=False)
class Detector:
    """Decides whether images are inliers, from the distribution that a model was trained on, or outliers.

    Images are uint8, or floats in 0..1, [n, height, width, channels] of the model's shape; gray ones may be
    [n, height, width]. Of one image without the first axis the result has no such axis either.

    Attributes:
      model, forward_batches: The trained model and its forward pass, see `make_forward`.
      image_shape: (height, width, channels) of the model's images.
      score_name: A key of `SCORES`.
      score: The score, fitted to the training split.
      calibration_scores: The scores of the calibration split, sorted, [n].
      method: A key of `THRESHOLDS`.
      alpha: The target false positive rate.
      threshold: The threshold on the scores.
      step: The step of the model's checkpoint.
      background: That of training images, in 0..1, by which negatives are found, as `inversion_background`.
      pixel_threshold: The smoothed error that `PIXEL_ALPHA` of the pixels of calibration images exceed.
      classes: The classes of the calibration scores; None for unlabeled images.
    """

    model: keras.Model
    forward_batches: ForwardBatches
    image_shape: tuple[int, int, int]
    score_name: str
    score: Score
    calibration_scores: np.ndarray
    method: str
    alpha: float
    threshold: Threshold
    step: int
    background: float
    pixel_threshold: float
    classes: CalibrationClasses | None = None

    @classmethod
    def fit(
        cls,
        model: keras.Model,
        train: np.ndarray,
        calibration: np.ndarray,
        *,
        score: str | None = None,
        method: str = "conformal",
        alpha: float | None = None,
        outliers: np.ndarray | None = None,
        classes: CalibrationClasses | None = None,
        step: int = 0,
    ) -> Detector:
        """Fits a score to training images, and a threshold to the scores of calibration images.

        Args:
          model: The trained model.
          train: Training images, uint8 [n, height, width, channels].
          calibration: Images that nothing was fitted to, like `train`.
          score: A key of `SCORES`; None for `default_score`.
          method: A key of `THRESHOLDS`.
          alpha: Target false positive rate; None for `DEFAULT_ALPHA`, or the least that the number of images allows.
          outliers: Labeled outliers, like `train`, for the methods that need them.
          classes: The classes of `calibration`, for the methods that need them.
          step: The step of the model's checkpoint.

        Raises:
          UserError: A name is unknown, the score needs latent vectors that the model does not have, or more training
            images, or as `thresholds.check_threshold_method`.
        """
        capabilities = model_capabilities(model)
        score = score or default_score(capabilities)
        fitted, forward_batches = get_score(score, capabilities)(), make_forward(model)
        two_sided, outliers = fitted.two_sided, calibration[:0] if outliers is None else outliers
        alpha = thresholds.choose_alpha(alpha, method, len(calibration), two_sided, classes)
        # Before fitting, which takes a while.
        if len(train) < fitted.min_images:
            raise UserError(
                f"--score={score} needs at least {fitted.min_images} training images, and there are {len(train)}"
            )
        thresholds.check_threshold_method(method, len(calibration), len(outliers), alpha, two_sided, classes)
        with phase("fitting the outlier detector"):
            fitted.fit(train, forward_batches)
        scores, pixel_threshold = _calibrate(fitted, calibration, forward_batches)
        order = np.argsort(scores)
        scores, classes = scores[order], classes and classes.take(order)
        outlier_scores = compute_scores(fitted, outliers, forward_batches)
        threshold = thresholds.fit_threshold(method, scores, outlier_scores, alpha, two_sided, classes)
        return cls(
            model, forward_batches, calibration.shape[1:], score, fitted, scores, method, alpha, threshold, step=step,
            background=inversion_background(train), pixel_threshold=pixel_threshold, classes=classes,
        )  # fmt: skip

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Returns anomaly scores, float64 [n], larger for outliers.

        Raises:
          ValueError: The images have another shape or range than the model takes.
        """
        batch, is_single = as_batch(images, self.image_shape)
        scores = compute_scores(self.score, batch, self.forward_batches)
        return scores[0] if is_single else scores

    @property
    def min_alpha(self) -> float:
        """The smallest false positive rate that so many calibration images can guarantee."""
        return thresholds.min_alpha(self.method, len(self.calibration_scores), self.score.two_sided, self.classes)

    def p_values(self, images: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Returns conformal p-values [n]: about the fraction of inliers whose scores are as large; see `is_inlier`."""
        return self.p_values_from_scores(self.scores(images), labels)

    def p_values_from_scores(self, scores: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Returns the conformal p-values of scores, [n], see `conformal.p_values`."""
        classes = self.classes if get_threshold_method(self.method).by_class else None
        positions = self._class_positions(labels, np.shape(scores))
        return conformal.p_values(self.calibration_scores, scores, self.score.two_sided, classes, positions)

    def is_inlier(self, images: np.ndarray, alpha: float | None = None, labels: np.ndarray | None = None) -> np.ndarray:
        """Returns which images are inliers, bool [n], at another target false positive rate if `alpha` is not None.

        Args:
          images: The images.
          alpha: The target false positive rate.
          labels: The classes of the images, [n], for a class-conditional threshold: inliers are then images like those
            of their class. Without labels they are those like the images of some class.

        Raises:
          UserError: So few calibration images can't guarantee that alpha, or the method has no target rate or no
            threshold for each class.
          ValueError: The labels have another shape, or are not those of calibration images.
        """
        detector, scores = self.with_alpha(alpha), self.scores(images)
        positions = self._class_positions(labels, np.shape(scores))
        if positions is None:
            return detector.threshold.is_inlier(scores)
        two_sided = self.score.two_sided
        each = thresholds.fit_class_thresholds(self.calibration_scores, detector.alpha, two_sided, self.classes)
        return Threshold(each.high[positions], each.low[positions]).is_inlier(scores)

    def _class_positions(self, labels: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
        """Returns the positions of labels in `classes.names`; None without labels."""
        if labels is None:
            return None
        if not get_threshold_method(self.method).by_class:
            raise UserError(f"labels need --threshold_method=class_conditional, and this detector's is {self.method}")
        return self.classes.positions(labels, shape)

    def discoveries(self, images: np.ndarray, rate: float = 0.1) -> np.ndarray:
        """Returns which images are outliers, bool [n], at a false discovery rate; see `conformal.discoveries`."""
        conformal.check_rate("fdr", rate)  # Before images are scored, which takes a while.
        p_values = self.p_values(images)
        return conformal.discoveries(np.atleast_1d(p_values), rate).reshape(np.shape(p_values))[()]

    def anomaly_map(self, images: np.ndarray) -> np.ndarray:
        """Returns where images are anomalous, float32 [n, height, width]: 0 or more, and larger where they are.

        A map is the smoothed absolute error of the reconstruction, scaled so that `PIXEL_ALPHA`, a hundredth, of the
        pixels of calibration images exceed 1.

        Raises:
          ValueError: As `scores`.
        """
        batch, is_single = as_batch(images, self.image_shape)
        maps = [smoothed_error(outputs.image, outputs.output).numpy() for outputs in self.forward_batches(batch)]
        return self._concatenate_maps(maps)[0 if is_single else slice(None)]

    def scores_and_maps(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns what `scores` and `anomaly_map` return, from one pass through the model."""
        batch, is_single = as_batch(images, self.image_shape)
        scores, maps = [np.zeros(0)], []
        for outputs in self.forward_batches(batch):
            scores.append(self.score(outputs))
            maps.append(smoothed_error(outputs.image, outputs.output).numpy())
        index = 0 if is_single else slice(None)
        return np.concatenate(scores)[index], self._concatenate_maps(maps)[index]

    def _concatenate_maps(self, maps: list[np.ndarray]) -> np.ndarray:
        """Returns the maps of batches, scaled."""
        return np.concatenate([np.zeros([0, *self.image_shape[:2]], np.float32), *maps]) / self.pixel_threshold

    def with_alpha(self, alpha: float | None) -> Detector:
        """Returns the detector with another target false positive rate, without fitting a score again."""
        if alpha is None:
            return self
        no_outliers, two_sided = np.zeros(0), self.score.two_sided
        alpha = thresholds.choose_alpha(alpha, self.method, len(self.calibration_scores), two_sided, self.classes)
        threshold = thresholds.fit_threshold(
            self.method, self.calibration_scores, no_outliers, alpha, two_sided, self.classes
        )
        return dataclasses.replace(self, alpha=alpha, threshold=threshold)

    def __str__(self) -> str:
        text = f"{self.score_name} score, {self.method} threshold {self.threshold.high:.6g}"
        method = get_threshold_method(self.method)
        rate = f" at a false positive rate of {self.alpha:g}" + " in each class" * method.by_class
        return text if method.needs_outliers else text + rate

    def save(self, workdir: Path) -> None:
        """Writes everything but the model to the run's folder."""
        detector_files.write(workdir, *detector_files.pack(vars(self)))

    @classmethod
    def load(cls, workdir: Path, model: keras.Model, image_shape: tuple[int, int, int], step: int) -> Detector:
        """Loads the detector of a run.

        Args:
          workdir: The run's folder.
          model, image_shape, step: The model of its best checkpoint, the shape of its images, and its step.

        Raises:
          UserError: There is no detector, or it is damaged, of another checkpoint or of an earlier version.
        """
        fields = detector_files.unpack(*detector_files.read(workdir, step))
        return cls(model=model, forward_batches=make_forward(model), image_shape=image_shape, **fields)


def load_or_none(
    workdir: Path, model: keras.Model, image_shape: tuple[int, int, int], step: int, **expected: str
) -> Detector | None:
    """Loads the detector of a run as `Detector.load`, but returns None if a new one has to be fitted.

    Args:
      workdir, model, image_shape, step: As for `Detector.load`.
      **expected: Values that detector.json must have, such as score="knn" or threshold_method="conformal".

    Raises:
      UserError: There is such a detector, but it is damaged.
    """
    if not detector_files.contains(workdir, step, expected):
        return None
    return Detector.load(workdir, model, image_shape, step)


def _calibrate(score: Score, images: np.ndarray, forward_batches: ForwardBatches) -> tuple[np.ndarray, float]:
    """Returns the scores of calibration images, and the threshold of their pixels."""
    scores = [np.zeros(0)]

    def maps() -> Iterator[np.ndarray]:
        for outputs in forward_batches(images):
            scores.append(score(outputs))
            yield smoothed_error(outputs.image, outputs.output).numpy()

    threshold = fit_pixel_threshold(maps(), math.prod(images.shape[:3]))
    return np.concatenate(scores), threshold
