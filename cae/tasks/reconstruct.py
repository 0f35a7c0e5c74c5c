"""Reconstruction: a clean image squeezed into its latent vector and back, and what was lost on the way."""

import numpy as np

from cae.report.figures import bars, display
from cae.report.page import Row, Section
from cae.tasks.subject import Outcome, Subject, rows_by_class, try_out


def run(subject: Subject) -> Section:
    """Measures the model's outputs for clean test images, over all of them and for each class."""
    outcome = try_out(subject, None)
    overall = {name: float(values.mean(dtype="float64")) for name, values in outcome.qualities.items()}
    by_class = rows_by_class(outcome, subject.class_names)
    examples = outcome.examples
    labels = outcome.classes[outcome.chosen]
    captions = [subject.class_names[label] for label in labels] if subject.class_names else ()
    columns = {"input": examples["image"], "output": examples["output"]}
    caption = "Test images, what the model made of them, and the latent vectors in between"
    figures = {"reconstruct": (caption, display(columns, examples["latent"], captions))}
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
        results=overall | {"images": len(outcome.classes), "by_class": by_class},
        figures=figures,
        tables={"reconstruct_by_class": by_class, "latents": latent_rows(outcome)},
        shown=["reconstruct_by_class"] if by_class else [],
    )


def latent_rows(outcome: Outcome) -> list[Row]:
    """Returns a row for each example that is shown: its position in the test split, its class, its latent vector."""
    latents = np.asarray(outcome.examples["latent"], np.float64)
    return [
        {"image": int(number), "class": int(outcome.classes[number])}
        | {f"latent_{position}": round(value, 6) for position, value in enumerate(latent.tolist())}
        for number, latent in zip(outcome.chosen, latents)
    ]
