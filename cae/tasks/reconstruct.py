"""Reconstruction: a clean image squeezed into its latent vector and back, and what was lost on the way."""

from collections.abc import Sequence

import numpy as np

from cae.report.figures import bars, display
from cae.report.page import Row, Section
from cae.tasks.subject import Subject, captions, chosen, examples, measure, rows_by_class


def run(subject: Subject) -> Section:
    """Measures the model's outputs for clean test images, over all of them and for each class."""
    qualities = measure(subject, None)
    overall = {name: float(values.mean(dtype="float64")) for name, values in qualities.items()}
    by_class = rows_by_class(subject, qualities)
    positions = chosen(subject)
    shown = examples(subject, None, positions)
    columns = {"input": shown["image"], "output": shown["output"]}
    caption = "Test images, what the model made of them, and the latent vectors in between"
    figures = {"reconstruct": (caption, display(columns, shown["latent"], captions(subject, positions)))}
    if by_class:
        errors = {row["class"]: row["mse"] for row in by_class}
        figures["errors_by_class"] = ("Mean squared error of each class", bars(errors, "MSE"))
    return Section(
        name="reconstruct",
        title="Reconstruction",
        headline=(
            f"reconstruct clean images: test MSE {overall['mse']:.5f}, PSNR {overall['psnr']:.2f} dB, SSIM"
            f" {overall['ssim']:.3f}"
        ),
        results=overall | {"images": len(qualities["mse"]), "by_class": by_class},
        figures=figures,
        tables={"reconstruct_by_class": by_class, "latents": latent_rows(subject, positions, shown["latent"])},
        shown={"reconstruct_by_class": "The same, class by class"} if by_class else {},
    )


def latent_rows(subject: Subject, positions: Sequence[int], latents: np.ndarray) -> list[Row]:
    """Returns a row for each example that is shown: its position in the test split, its class, its latent vector."""
    _, labels = subject.read("test")
    return [
        {"image": int(number), "class": int(labels[number])}
        | {f"latent_{position}": round(value, 6) for position, value in enumerate(latent.tolist())}
        for number, latent in zip(positions, latents.astype(np.float64))
    ]
