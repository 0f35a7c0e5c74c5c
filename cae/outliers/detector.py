"""A detector: a fitted model, a score and a threshold in one, which is saved in the run's folder and read back."""

import dataclasses
import functools
import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cae.errors import UserError
from cae.outliers import thresholds
from cae.outliers.scores import Passed, Score, find, make_passes
from cae.outliers.thresholds import Threshold

FOLDER = "detector"

DIGEST = "arrays_sha256"
"""What the record calls the digest of the arrays; records of detectors whose index was not saved have none."""


@dataclasses.dataclass
class Detector:
    """Tells whether images belong to the data set that a model was fitted to: True means that they do.

    score: fitted on the training split; calibration: its values for the calibration split, sorted [n]; rule, alpha,
    threshold: how the threshold was found, for which rate of false alarms, and where it lies; step: of the model's
    checkpoint; calibrated_on: which images those were; background: the median value at training images' borders, 0..1.
    Images are uint8 [n, height, width, channels] of the model's own shape, or floats in 0..1; a grey image may leave
    out its channel.
    """

    model: keras.Model
    image_shape: tuple[int, int, int]
    name: str
    score: Score
    calibration: np.ndarray
    rule: str
    alpha: float
    threshold: Threshold
    step: int
    calibrated_on: str
    background: float

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Returns how odd images are, float64 [n]: larger is more of an outlier. Raises `ValueError` as `check`."""
        images = check(images, self.image_shape)
        if not len(images):
            return np.zeros(0)
        return np.concatenate([self.score(passed) for passed in self.passes(images)]).astype(np.float64)

    @functools.cached_property
    def passes(self) -> Callable[[np.ndarray], Iterator[Passed]]:
        """Returns what passes images through the model, batch by batch."""
        return make_passes(self.model)

    def p_values(self, images: np.ndarray) -> np.ndarray:
        """Returns conformal p-values [n], as `thresholds.p_values`: the share of normal images that are as odd."""
        return self.p_values_of(self.scores(images))

    def p_values_of(self, values: np.ndarray) -> np.ndarray:
        """Returns the p-values of scores, [n]."""
        return thresholds.p_values(self.calibration, values, self.score.two_sided)

    def belongs(self, images: np.ndarray, alpha: float | None = None) -> np.ndarray:
        """Returns which images belong to the data set, bool [n]: True means that it does, False that it is an outlier.

        alpha: the share of normal images that may be called outliers, if not the detector's own. Raises `UserError` for
        one that the calibration cannot promise, and for one where the rule knows no rate.
        """
        return self.with_alpha(alpha).threshold.belongs(self.scores(images))

    def alarms(self, images: np.ndarray, rate: float = 0.1) -> np.ndarray:
        """Returns which of many images are outliers, bool [n]; of those at most `rate` are false ones on average.

        See `thresholds.alarms` for the source and the condition.
        """
        return thresholds.alarms(self.p_values(images), rate)

    def with_alpha(self, alpha: float | None) -> "Detector":
        """Returns the detector for another rate of false alarms; nothing is fitted again."""
        if alpha is None or alpha == self.alpha:
            return self
        if thresholds.find(self.rule).searches:
            raise _no_rate(self.rule, alpha)
        found = thresholds.search(self.rule, self.calibration, np.zeros(0), alpha, self.score.two_sided)
        return dataclasses.replace(self, alpha=alpha, threshold=found)

    def described(self) -> str:
        """Returns how the threshold was found, in words."""
        promise = "" if thresholds.find(self.rule).searches else f" at a false-alarm rate of {self.alpha:g}"
        return f"{self.rule} threshold {self.threshold.high:.6g}{promise}"

    def save(self, workdir: Path) -> None:
        """Writes all but the model into the run's folder, at once or not at all."""
        folder = workdir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        np.savez(buffer, calibration=self.calibration, **{f"score_{k}": v for k, v in self.score.state.items()})
        (arrays := folder / "arrays.npz.tmp").write_bytes(buffer.getbuffer())
        record = {
            "score": self.name,
            "threshold": self.rule,
            "alpha": self.alpha,
            "belongs_from": None if np.isinf(self.threshold.low) else self.threshold.low,
            "belongs_to": self.threshold.high,
            "step": self.step,
            "calibrated_on": self.calibrated_on,
            "calibration_images": len(self.calibration),
            "background": self.background,
            DIGEST: hashlib.sha256(buffer.getbuffer()).hexdigest(),
        }
        (partial := folder / "detector.json.tmp").write_text(json.dumps(record, indent=2) + "\n")
        # The record goes last: arrays without one count for nothing.
        (folder / "detector.json").unlink(missing_ok=True)
        os.replace(arrays, folder / "arrays.npz")
        os.replace(partial, folder / "detector.json")


def make(
    name: str,
    model: keras.Model,
    train: np.ndarray,
    calibration: np.ndarray,
    *,
    rule: str,
    alpha: float | None,
    outliers: np.ndarray | None = None,
    step: int = 0,
) -> Detector:
    """Returns a detector: its score fitted to training images, its threshold found on calibration images.

    Images are uint8 [n, h, w, c]. alpha: nothing for the usual one, or the least that so few images can promise;
    outliers: those that some rules search by. Raises `UserError` as `thresholds.search` does.
    """
    score = find(name, has_latents=hasattr(model, "encode"))()
    if alpha is not None and thresholds.find(rule).searches:
        raise _no_rate(rule, alpha)
    detector = Detector(
        model=model,
        image_shape=calibration.shape[1:],
        name=name,
        score=score,
        calibration=np.zeros(0),
        rule=rule,
        alpha=0.0,
        threshold=Threshold(np.inf),
        step=step,
        calibrated_on=f"{len(calibration)} images of the calibration split",
        background=background(train),
    )
    if alpha is None:
        alpha = max(thresholds.DEFAULT_ALPHA, thresholds.least_alpha(len(calibration), score.two_sided))
    searched = 0 if outliers is None else len(outliers)
    thresholds.check(rule, len(calibration), searched, alpha, score.two_sided)  # Before fitting, which takes a while.
    score.fit(train, detector.passes)
    normal = np.sort(detector.scores(calibration))
    odd = np.zeros(0) if outliers is None else detector.scores(outliers)
    found = thresholds.search(rule, normal, odd, alpha, score.two_sided)
    return dataclasses.replace(detector, calibration=normal, alpha=alpha, threshold=found)


def _no_rate(rule: str, alpha: float) -> UserError:
    return UserError(f"--alpha={alpha} has no meaning for --threshold={rule}, which knows no rate")


def background(images: np.ndarray) -> float:
    """Returns the median value at the borders of images, uint8 [n, h, w, c]: 0..1."""
    borders = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return float(np.median(np.concatenate([each.reshape(-1) for each in borders]))) / 255


def check(images: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Returns images as [n, h, w, c]; raises `ValueError` for another shape or range than the model takes."""
    images = np.asarray(images)
    if image_shape[-1] == 1 and images.ndim == 3 and images.shape[1:] == image_shape[:2]:
        images = images[..., None]
    if images.ndim != 4 or images.shape[1:] != image_shape:
        raise ValueError(f"images of shape {images.shape} do not fit; [n, {', '.join(map(str, image_shape))}] does")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise ValueError(f"images of {images.dtype} do not fit; uint8, or floats in 0..1, do")
    if images.size and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"floats in {images.min():.3g}..{images.max():.3g} do not fit; 0..1 does")
    return images


def read(workdir: Path, model: keras.Model, image_shape: tuple[int, int, int], step: int) -> Detector:
    """Returns the detector in a run's folder; raises `UserError` where none fits the model of that step."""
    record = read_record(workdir)
    if why := _why_not(record, step):
        raise UserError(f"--workdir={workdir} {why}; eval.py --workdir={workdir} --tasks=outliers makes one")
    try:
        content = (workdir / FOLDER / "arrays.npz").read_bytes()
        # Before anything is made of it: bytes of an index that are damaged may crash the process.
        if hashlib.sha256(content).hexdigest() != record[DIGEST]:
            raise ValueError("the arrays are not those that were saved")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            state = {name.removeprefix("score_"): arrays[name] for name in arrays if name.startswith("score_")}
            calibration = arrays["calibration"]
        low = -np.inf if record["belongs_from"] is None else record["belongs_from"]
        return Detector(
            model=model,
            image_shape=image_shape,
            name=record["score"],
            score=find(record["score"])(**state),
            calibration=calibration,
            rule=record["threshold"],
            alpha=record["alpha"],
            threshold=Threshold(record["belongs_to"], low),
            step=step,
            calibrated_on=record["calibrated_on"],
            background=record["background"],
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{workdir / FOLDER} is damaged; eval.py --tasks=outliers makes it again") from error


def read_record(workdir: Path) -> dict[str, Any] | None:
    """Returns what a run's folder says of its detector; nothing where there is none that can be read."""
    try:
        held = json.loads((workdir / FOLDER / "detector.json").read_text())
        wanted = {"score", "threshold", "alpha", "belongs_from", "belongs_to", "step", "calibrated_on", "background"}
        return held if wanted <= held.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _why_not(record: dict[str, Any] | None, step: int) -> str | None:
    """Returns why a record is of no use to the model of a step; None where it is."""
    if record is None:
        return "holds no detector"
    if record["step"] != step:
        return "has a newer model than its detector"
    return None if DIGEST in record else "holds a detector of an earlier version, without its index"


def is_there(workdir: Path, step: int, **wanted: str) -> bool:
    """Tells whether a run's folder has a detector of the model of that step, with the score and threshold wanted."""
    record = read_record(workdir)
    return _why_not(record, step) is None and all(record[name] == value for name, value in wanted.items())
