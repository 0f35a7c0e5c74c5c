"""A person's own pictures through a model with latent vectors: squeezed and back, and what lies between them."""

from collections.abc import Mapping

import keras
import numpy as np

from cae.report.figures import display, mosaic
from cae.report.page import Section
from cae.tasks.fitted import Fitted
from cae.tasks.interpolate import decode, encode, surfaces, ways


def reconstruct(model: keras.Model, pictures: Mapping[str, Fitted], most_shown: int) -> Section:
    """Returns input, output, error and latent vector of each picture, by name; the first `most_shown` as a figure."""
    images = _values(pictures)
    latents = encode(model, images)
    outputs = decode(model, latents)
    errors = ((outputs - images) ** 2).mean(axis=(1, 2, 3))
    rows = [
        {"file": name, "fitted": each.done, "warning": "; ".join(each.warnings), "mse": float(error)}
        | {f"latent_{position}": round(value, 6) for position, value in enumerate(latent.astype(np.float64).tolist())}
        for (name, each), error, latent in zip(pictures.items(), errors, latents)
    ]
    columns = {"input": images[:most_shown], "output": outputs[:most_shown]}
    figure = display(columns, latents[:most_shown], [*pictures][:most_shown])
    return Section(
        name="own_reconstructed",
        title="Your pictures, and what the model keeps of them",
        headline=f"{len(images)} pictures, MSE {errors.mean():.5f} on average",
        results={"images": len(images), "mse": float(errors.mean())},
        figures={"reconstructed": ("What the model sees, what it makes of it, and the numbers in between", figure)},
        tables={"reconstructed": rows},
    )


def interpolate(model: keras.Model, pictures: Mapping[str, Fitted], degrees: np.ndarray) -> Section:
    """Returns what lies between the first picture and the second, the second and the third, and so on, by every method.

    Of two pictures the animation goes to and fro, of more around a ring; four or more stand in the corners of a grid.
    """
    images, names = _values(pictures), [*pictures]
    between = ways(model, np.stack([images[:-1], images[1:]], axis=1), degrees)
    lines = {
        f"{names[pair]} to {names[pair + 1]}: {method}": np.concatenate(
            [images[[pair]], made[pair], images[[pair + 1]]]
        )
        for pair in range(len(images) - 1)
        for method, made in between.items()
    }
    strips = mosaic(lines, ["start", *(f"{degree:.4g}" for degree in degrees), "end"])
    figures, around = surfaces(model, images)
    return Section(
        name="own_interpolated",
        title="Between your pictures",
        headline=f"between {' and '.join(names) if len(names) == 2 else f'{len(names)} pictures'}",
        figures={"interpolated": ("Decoded from mixtures of latent vectors, and blended pixel by pixel", strips)}
        | figures,
        animations={"interpolated": ("From one picture to the next, and back to the first", around)},
    )


def _values(pictures: Mapping[str, Fitted]) -> np.ndarray:
    return np.stack([each.image for each in pictures.values()]).astype(np.float32) / 255
