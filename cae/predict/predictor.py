"""What predictors have in common, and the one pass over images that all of them share."""

from __future__ import annotations

import abc
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cae import cli
from cae.data import image_io
from cae.data.image_io import DecodedImage, UnreadableImageError
from cae.predict.preprocess import Preprocessed
from cae.progress import phase

if TYPE_CHECKING:
    from cae.predict.writers import PredictionWriter  # Imports matplotlib.

MAX_REASON_CHARACTERS = 300
"""Of the reason why a file is skipped; TensorFlow's messages may have many lines."""

PreprocessFn = Callable[[DecodedImage], Preprocessed]
"""Converts an image to the shape of the model."""


class Predictor(abc.ABC):
    """Applies a model to images that come one at a time, and writes the results.

    Attributes:
      writer: What writes a row per file, if the predictor does that.
    """

    writer: PredictionWriter | None = None

    @abc.abstractmethod
    def predict(self, name: str, decoded: DecodedImage, preprocessed: Preprocessed | None) -> None:
        """Takes an image.

        Args:
          name: Its path within the folder of images.
          decoded: The image as its file contains it.
          preprocessed: The image as the model takes it; None where no predictor needs it.
        """

    def skip(self, name: str, error: Exception) -> None:
        """Notes that there is no prediction for a file, even if it was taken before."""
        if self.writer:
            self.writer.skip(name, error)

    @property
    def skipped(self) -> dict[str, str]:
        """Why files were skipped, by name, those included that only this predictor skipped."""
        return self.writer.skipped if self.writer else {}

    @abc.abstractmethod
    def finish(self) -> list[str]:
        """Writes what is left to write, and returns lines for the user."""


def predict_files(
    files: Sequence[tuple[str, Path]], predictors: Sequence[Predictor], preprocess_fn: PreprocessFn | None
) -> tuple[dict[str, str], dict[str, str]]:
    """Decodes each file once and feeds it to all predictors; keeps one decoded image at a time.

    Whatever goes wrong with a file, it is skipped by all predictors.

    Args:
      files: Names and paths.
      predictors: What takes the images.
      preprocess_fn: None where no predictor needs it.

    Returns:
      skipped: Why files were skipped, by name.
      warnings: What had to be guessed to read a file, by name.

    Raises:
      Exception: One that other files would raise as well, see `cli.ends_program`.
    """
    skipped, warnings = {}, {}
    with phase("predicting", len(files), "image", delay=0.0, keep=True) as bar:
        for name, path in files:
            try:
                if messages := _predict_file(name, path, predictors, preprocess_fn):
                    warnings[name] = "; ".join(messages)
            except Exception as error:  # noqa: BLE001 - One file must not end the work on the others.
                file_error = to_file_error(error)
                skipped[name] = str(file_error)
                for predictor in predictors:
                    predictor.skip(name, file_error)
            bar.update()
    return skipped, warnings


def _predict_file(
    name: str, path: Path, predictors: Sequence[Predictor], preprocess_fn: PreprocessFn | None
) -> tuple[str, ...]:
    """Feeds a file to all predictors, and returns the warnings of its decoder."""
    decoded = image_io.read_image(path)
    preprocessed = preprocess_fn(decoded) if preprocess_fn else None
    for predictor in predictors:
        predictor.predict(name, decoded, preprocessed)
    return decoded.warnings


def to_file_error(error: Exception) -> UnreadableImageError:
    """Returns the reason in one line why a file is skipped; raises an error that other files would raise as well."""
    if cli.ends_program(error):
        raise error
    if isinstance(error, UnreadableImageError):
        reason = str(error)
    else:
        reason = f"cannot be processed: {type(error).__name__}: {error}"
    return UnreadableImageError(textwrap.shorten(reason, MAX_REASON_CHARACTERS, placeholder=" ..."))
