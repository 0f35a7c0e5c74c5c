"""Images through a model with latent vectors: reconstructed, and interpolated."""

from collections.abc import Callable, Mapping

import numpy as np

from cae.data.arrays import to_float
from cae.data.image_io import DecodedImage
from cae.io_utils import printable
from cae.predict.predictor import Predictor
from cae.predict.preprocess import Preprocessed
from cae.predict.writers import write_section
from cae.report.figures import example_rows, image_table
from cae.report.report import Section
from cae.run import Run
from cae.tasks.interpolate import draw_paths, interpolate_all_methods

BATCH_SIZE = 512

Images = Mapping[str, Preprocessed]
"""Preprocessed images by name."""


class SectionPredictor(Predictor):
    """Collects images, which have the model's shape, and writes a report's section on all of them.

    Args:
      run: The run.
      make_section: `reconstruct` or `interpolate`, with their other arguments bound.
      min_images: Number of images that the section needs.
    """

    def __init__(self, run: Run, make_section: Callable[[Images], Section], min_images: int):
        self._run, self._make_section, self._min_images = run, make_section, min_images
        self._images: dict[str, Preprocessed] = {}

    def predict(self, name: str, decoded: DecodedImage, preprocessed: Preprocessed | None) -> None:
        """Takes an image."""
        self._images[name] = preprocessed

    def skip(self, name: str, error: Exception) -> None:
        """Leaves out an image, even if it was taken before."""
        self._images.pop(name, None)

    def finish(self) -> list[str]:
        """Writes the section, unless there are too few images."""
        if len(self._images) < self._min_images:
            return []
        section = self._make_section(self._images)
        return [f"{section.headline}: {write_section(self._run, section)}"]


def reconstruct(images: Images, run: Run, num_examples: int) -> Section:
    """Returns the latent vector and the error of each image, and a figure of the first images and their outputs."""
    names, rows, examples = [*images], [], []
    for first in range(0, len(names), BATCH_SIZE):
        batch = {name: images[name] for name in names[first : first + BATCH_SIZE]}
        inputs = _stack(batch)
        latents = run.encode(inputs)
        outputs = run.decode(latents)
        errors = ((outputs - inputs) ** 2).mean(axis=(1, 2, 3)).tolist()
        for (name, each), error, latent in zip(batch.items(), errors, latents.astype(np.float64).tolist()):
            row = {
                "file": printable(name),
                "preprocessing": each.steps,
                "warning": "; ".join(each.warnings),
                "mse": error,
            }
            rows.append(row | {f"latent_{index}": round(value, 6) for index, value in enumerate(latent)})
        examples = examples or [values[:num_examples] for values in (inputs, outputs, latents)]
    mse = float(np.mean([row["mse"] for row in rows]))
    inputs, outputs, latents = examples
    figure = example_rows({"input": inputs, "output": outputs}, latents, [*map(printable, names[:num_examples])])
    return Section(
        name="predictions/reconstruct",
        title="Reconstruction of your images",
        headline=f"{len(rows)} images reconstructed, MSE {mse:.5f}",
        results={"num_images": len(rows), "mse": mse},
        figures={"reconstruct": ("Input, output, and the latent vector", figure)},
        tables={"reconstruct": rows},
    )


def interpolate(images: Images, run: Run, weights: np.ndarray) -> Section:
    """Returns interpolations between the first image and the second, the second and the third, and so on.

    The animation leads from each image to the next, and from the last back to the first; four images or more are in the
    corners of a grid.

    Args:
      images: Two images or more.
      run: A run whose model has latent vectors.
      weights: Interpolation weights in ascending order, `[n]` in 0..1.
    """
    inputs, names = _stack(images), [*map(printable, images)]
    paths = interpolate_all_methods(run, np.stack([inputs[:-1], inputs[1:]], axis=1), weights)
    strips = {
        f"{names[pair]} to {names[pair + 1]}: {method}": np.concatenate(
            [inputs[[pair]], outputs[pair], inputs[[pair + 1]]]
        )
        for pair in range(len(inputs) - 1)
        for method, outputs in paths.items()
    }
    figure = image_table(strips, ["start", *(f"{weight:.4g}" for weight in weights), "end"])
    figures, animation = draw_paths(run, inputs)
    return Section(
        name="predictions/interpolate",
        title="Interpolation between your images",
        headline=f"interpolation between {' and '.join(names) if len(names) == 2 else f'{len(names)} images'}",
        figures={"interpolate": ("By latent vectors, and by pixels", figure)} | figures,
        animations={"interpolate": ("From one image to the next, and back to the first", animation)},
    )


def _stack(images: Images) -> np.ndarray:
    return to_float(np.stack([each.image for each in images.values()]))
