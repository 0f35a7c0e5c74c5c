"""Images of any size and number of channels, denoised by a trained model and saved in their original format."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from etils import epy
from skimage.restoration import estimate_sigma

from cae.data.image_io import DecodedImage
from cae.data.symmetries import self_ensemble
from cae.predict.predictor import Predictor
from cae.predict.preprocess import Preprocessed
from cae.tiling import PredictFn, TileSize, num_tiles, tiled_predict

if TYPE_CHECKING:
    from cae.run import Run

# Workers that denoise on Apache Beam need neither TensorFlow's models nor figures.
with epy.lazy_imports():
    from cae.predict import writers
    from cae.report import figures

PREVIEW_SIZE = 224
"""The longer side of a preview in pixels, at most."""

COLUMNS = ("width", "height", "format", "mode", "tiles", "noise_before", "noise_after", "rms_change", "warning")


def denoise(
    predict_fn: PredictFn, tile_size: TileSize, num_channels: int, original: DecodedImage
) -> tuple[DecodedImage, dict[str, object]]:
    """Denoises an image, all channels together where the model has as many, and else one by one.

    Args:
      predict_fn: The model, such as `Run.denoise`.
      tile_size: The tiles that it takes, see `Run.tile_size`.
      num_channels: The channels that it takes.
      original: The image.

    Returns:
      The denoised image, and the values of `COLUMNS`: the number of tiles of a channel; the estimated standard
      deviation of the noise before and after, where 1 is white, from the finest wavelet coefficients (Donoho and
      Johnstone 1994); the root mean square of the difference between both images; the warnings of the file.
    """
    count = original.channels.shape[2]
    groups = [range(count)] if count == num_channels else [[channel] for channel in range(count)]
    channels, before, after, squares = np.empty_like(original.channels), [], [], []
    for group in groups:
        noisy = np.stack([original.to_float(channel) for channel in group], axis=-1)
        output = tiled_predict(predict_fn, np.repeat(noisy, num_channels // len(group), axis=-1), tile_size)
        if len(group) < num_channels:
            output = output.mean(axis=-1, keepdims=True)
        for index, channel in enumerate(group):
            channels[..., channel] = original.from_float(output[..., index])
        before.append(_estimate_noise(noisy))
        after.append(_estimate_noise(output))
        squares.append(float(np.square(output - noisy).mean(dtype="float64")))
    height, width = original.size
    statistics = (float(value) for value in (np.mean(before), np.mean(after), np.sqrt(np.mean(squares))))
    values = (
        width,
        height,
        original.format,
        original.mode,
        num_tiles(original.size, tile_size),
        *statistics,
        "; ".join(original.warnings),
    )
    return dataclasses.replace(original, channels=channels), dict(zip(COLUMNS, values))


def _estimate_noise(image: np.ndarray) -> float:
    """Returns the estimated standard deviation of an image's noise; 0 for an image that is too small or constant."""
    if min(image.shape[:2]) < 4:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # A constant image has no coefficient to take the median of.
        sigma = float(estimate_sigma(image, channel_axis=-1, average_sigmas=True))
    return sigma if np.isfinite(sigma) else 0.0


class DenoisePredictor(Predictor):
    """Writes denoised images to the folder denoised, in their original format and mode, and denoised.csv beside it."""

    def __init__(self, run: Run, folder: Path, num_examples: int, ensemble: bool = False):
        self._run, self._predict_fn = run, self_ensemble(run.denoise) if ensemble else run.denoise
        self._folder, self._num_examples = folder / "denoised", num_examples
        self.writer = writers.PredictionWriter(folder / "denoised.csv", COLUMNS)
        self._examples: list[tuple[str, np.ndarray, np.ndarray]] = []

    def predict(self, name: str, decoded: DecodedImage, preprocessed: Preprocessed | None) -> None:
        """Denoises an image and writes it."""
        tile_size = self._run.tile_size(decoded.size)
        denoised, row = denoise(self._predict_fn, tile_size, self._run.image_shape[2], decoded)
        decoded.save(self._folder / name, denoised.channels)
        rounded = {column: round(value, 4) if isinstance(value, float) else value for column, value in row.items()}
        self.writer.add(name, **rounded)
        if len(self._examples) < self._num_examples:
            self._examples.append((name, decoded.preview(PREVIEW_SIZE), denoised.preview(PREVIEW_SIZE)))

    def finish(self) -> list[str]:
        """Writes the table and the contact sheet."""
        self.writer.write(figures.contact_sheet(self._examples) if self._examples else None)
        return [f"{len(self.writer.rows)} of {len(self.writer.all_rows)} images denoised: {self._folder}"]
