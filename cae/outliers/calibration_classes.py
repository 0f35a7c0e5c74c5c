"""The classes of calibration images, for thresholds and p-values of each class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cae.io_utils import abbreviate


@dataclasses.dataclass(frozen=True, eq=False)
class CalibrationClasses:
    """The classes that inliers may have, and those of calibration images.

    Attributes:
      labels: Labels of the calibration images, or of their scores, int [n].
      names: Names of the classes by label, in ascending order; some may have no calibration images.
    """

    labels: np.ndarray
    names: Mapping[int, str]

    @classmethod
    def find(
        cls, calibration_labels: np.ndarray, train_labels: np.ndarray, class_names: Sequence[str]
    ) -> CalibrationClasses | None:
        """Returns the classes of a data set's images, int [n] and [m]; None if it has no names of classes."""
        labels = np.union1d(calibration_labels, train_labels).tolist() if class_names else []
        return cls(calibration_labels, {label: class_names[label] for label in labels}) if labels else None

    def take(self, indices: np.ndarray) -> CalibrationClasses:
        """Returns the classes of calibration images in another order."""
        return dataclasses.replace(self, labels=self.labels[indices])

    def split(self, scores: np.ndarray) -> list[np.ndarray]:
        """Returns the calibration scores [n] of each class, in the order of `names`."""
        return [scores[self.labels == label] for label in self.names]

    def counts(self) -> dict[str, int]:
        """Returns the number of calibration images of each class, by name."""
        return {name: int(np.sum(self.labels == label)) for label, name in self.names.items()}

    def positions(self, labels: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the positions in `names` of labels that a user gives, int of that shape.

        Raises:
          ValueError: The labels have another shape, or are not those of classes that inliers have.
        """
        labels, known = np.asarray(labels), np.array([*self.names])
        if labels.shape != shape:
            raise ValueError(f"labels must be one for each image, of shape {list(shape)}, not {list(labels.shape)}")
        if len(unknown := labels[~np.isin(labels, known)]):
            classes = abbreviate([f"{label} ({name})" for label, name in self.names.items()])
            raise ValueError(f"there are no calibration images with the label {unknown[0]}; labels: {classes}")
        return np.searchsorted(known, labels)
