"""What predictors have in common, and the one pass over images that all of them share."""

import abc
from collections.abc import Callable, Sequence
from pathlib import Path

from cae.data import image_io
from cae.data.image_io import DecodedImage, UnreadableImageError
from cae.predict.preprocess import Preprocessed
from cae.predict.writers import PredictionWriter


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
        """Notes that a file could not be read."""
        if self.writer:
            self.writer.skip(name, error)

    @abc.abstractmethod
    def finish(self) -> list[str]:
        """Writes what is left to write, and returns lines for the user."""


def predict_files(
    files: Sequence[tuple[str, Path]],
    predictors: Sequence[Predictor],
    preprocess_fn: Callable[[DecodedImage], Preprocessed] | None,
) -> dict[str, str]:
    """Decodes each file once and feeds it to all predictors; keeps one decoded image at a time.

    Args:
      files: Names and paths.
      predictors: What takes the images.
      preprocess_fn: Converts images to the shape of the model; None where no predictor needs it.

    Returns:
      Why files were skipped, by name.
    """
    skipped = {}
    for name, path in files:
        try:
            decoded = image_io.read_image(path)
            preprocessed = preprocess_fn(decoded) if preprocess_fn else None
        except Exception as error:  # noqa: BLE001 - One file must not end the work on the others.
            if not isinstance(error, UnreadableImageError):
                error = UnreadableImageError(f"cannot be converted: {' '.join(str(error).split())}")
            skipped[name] = str(error)
            for predictor in predictors:
                predictor.skip(name, error)
            continue
        for predictor in predictors:
            predictor.predict(name, decoded, preprocessed)
        del decoded, preprocessed  # Before the next image is decoded.
    return skipped
