"""What the page shows of a run: the parts of an inspection, and of an interpolation, as HTML."""

import dataclasses
import functools
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from cae.data.arrays import to_float
from cae.data.image_io import UnreadableImageError
from cae.data.resizing import border_background
from cae.demo import inputs, inspection, markup
from cae.demo.examples import Example
from cae.errors import UserError
from cae.latents.interpolation import INTERPOLATORS, PIXELS
from cae.outliers.detector import Detector
from cae.predict.preprocess import Preprocessed
from cae.run import Run

STRIP_WEIGHTS = np.linspace(0, 1, 11)

MAX_MESSAGE_CHARACTERS = 300


@dataclasses.dataclass(frozen=True)
class Demo:
    """A run, and what the page needs beside it.

    Attributes:
      run: The run.
      detector: Its outlier detector; None where there is none.
      background: That of training images, in 0..1, by which negatives are found, as `inversion_background`.
      inliers, outliers: Images to click; none where the data set is not available.
      notes: What is missing, and how to get it.
    """

    run: Run
    detector: Detector | None
    background: float
    inliers: list[Example]
    outliers: list[Example]
    notes: tuple[str, ...] = ()

    @property
    def has_latents(self) -> bool:
        """Whether the model has latent vectors."""
        return hasattr(self.run.model, "encode")

    @property
    def methods(self) -> list[str]:
        """The methods of interpolation that the model can do."""
        return [*INTERPOLATORS, PIXELS] if self.has_latents else [PIXELS]

    @property
    def canvas_background(self) -> float:
        """The background to draw on, in 0..1: that of the examples."""
        return border_background(np.stack([each.image for each in self.inliers])) if self.inliers else self.background

    @functools.cached_property
    def latent_limit(self) -> float:
        """The value with the deepest color: of the latent vectors of examples, the quantile at 0.99."""
        images = [each.image for each in self.inliers] or [np.zeros(self.run.image_shape, np.uint8)]
        return max(float(np.quantile(np.abs(self.run.encode(np.stack(images))), 0.99)), 1e-3)

    def inspect(self, given: Preprocessed | None, noise: str, level: float, seed: int, alpha: float | None) -> str:
        """Returns the input, the noisy image, the output, the latent vector, the verdict and the anomaly map."""
        image = _image_of(given)
        level = inputs.check_number("the noise level", level, 0, max(1.0, inspection.training_noise(self.run)[1]))
        seed = inputs.check_number("the seed", seed, 0, inspection.MAX_SEED)
        noisy = inspection.add_noise(image, noise, level, seed)
        figures = [
            markup.figure("input", to_float(image)),
            markup.figure("with noise", noisy),
            markup.figure("output", self.run.denoise(noisy)),
        ]
        if self.has_latents:
            figures.append(markup.latent_figure(self.run.encode(noisy), self.latent_limit))
        lines = [markup.message(text) for text in (*given.warnings, *self.notes)]
        if not self.detector:
            return markup.images(figures) + "".join(lines)
        detection = inspection.detect(self.detector, image, self._check_alpha(alpha))
        figures.append(markup.anomaly_figure(to_float(image), detection))
        return markup.verdict(detection) + markup.images(figures) + markup.anomaly_legend() + "".join(lines)

    def _check_alpha(self, alpha: float | None) -> float | None:
        limits = inspection.alpha_range(self.detector)
        return inputs.check_number("alpha", alpha, *limits) if limits else None

    def interpolate(self, first: Preprocessed | None, second: Preprocessed | None, weight: float, method: str) -> str:
        """Returns two images and the one between them at a weight, and a strip of images at all weights."""
        ends = [_image_of(first), _image_of(second)]
        weight = inputs.check_number("the weight", weight, 0, 1)
        path = self.run.interpolate(*ends, [weight, *STRIP_WEIGHTS], method)
        start, end = map(to_float, ends)
        figures = [
            markup.figure("first image", start),
            markup.figure(f"{method}, weight {weight:.2f}", path[0]),
            markup.figure("second image", end),
        ]
        nearest = np.abs(STRIP_WEIGHTS - weight).argmin()
        strip = [
            markup.figure(f"{each:.1f}", image, "cae-chosen" if index == nearest else "")
            for index, (each, image) in enumerate(zip(STRIP_WEIGHTS, path[1:]))
        ]
        return markup.images(figures, "cae-ends") + markup.images(strip, "cae-strip")

    def read_drawing(self, data_url: str) -> Preprocessed:
        """Returns a drawing as the model takes it, see `inputs.read_drawing`."""
        return inputs.read_drawing(data_url, self.run.image_shape)

    def read_upload(self, path: str | None) -> Preprocessed:
        """Returns an image file as the model takes it, see `inputs.read_upload`."""
        return inputs.read_upload(path, self.run.image_shape, self.background)


def _image_of(given: Preprocessed | None) -> np.ndarray:
    if given is None:
        raise UserError(inputs.NO_IMAGE)
    return given.image


def or_message(function: Callable[..., str], *args: Any) -> str:
    """Returns what a function returns, or what was wrong as a line of HTML."""
    try:
        return function(*args)
    except Exception as error:  # noqa: BLE001 - The page stays, whatever happens to one image.
        return markup.message(describe(error))


def describe(error: Exception) -> str:
    """Returns an error in one line."""
    is_known = isinstance(error, UserError | ValueError | UnreadableImageError)
    text = str(error) if is_known else f"{type(error).__name__}: {error}"
    return textwrap.shorten(text, MAX_MESSAGE_CHARACTERS, placeholder=" ...")
