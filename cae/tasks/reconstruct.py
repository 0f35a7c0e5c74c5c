"""Reconstruction: clean images are encoded into latent vectors and decoded again."""

from collections.abc import Sequence

import numpy as np

from cae.report.charts import bar_chart
from cae.report.figures import example_rows
from cae.report.report import KeyFigure, Row, Section
from cae.tasks import rate_distortion
from cae.tasks.context import EvalContext, class_labels, example_indices, get_examples, measure, rows_by_class


def run(context: EvalContext) -> Section:
    """Evaluates the model's outputs for clean test images, over all of them and for each class.

    And the rate and distortion of their latent vectors, quantized, beside image codecs.
    """
    metrics = measure(context, None)
    means = {name: float(values.mean(dtype="float64")) for name, values in metrics.items()}
    by_class = rows_by_class(context, metrics)
    indices = example_indices(context)
    examples = get_examples(context, None, indices)
    columns = {"input": examples["image"], "output": examples["output"]}
    figure = example_rows(columns, examples["latent"], class_labels(context, indices))
    rates = rate_distortion.evaluate(context)
    figures = {"reconstruct": ("Test images, their reconstructions and their latent vectors", figure)}
    if by_class:
        mse_by_class = {row["class"]: row["mse"] for row in by_class}
        figures["mse_by_class"] = ("Mean squared error of each class", bar_chart(mse_by_class, "MSE"))
    figures["rate_distortion"] = rate_distortion.draw(rates)
    return Section(
        name="reconstruct",
        title="Reconstruction",
        headline=(
            f"reconstruct clean images: test MSE {means['mse']:.5f}, PSNR {means['psnr']:.2f} dB, SSIM"
            f" {means['ssim']:.3f}; {rate_distortion.describe(rates)}"
        ),
        results=means
        | {"num_images": len(metrics["mse"]), "by_class": by_class}
        | rate_distortion.summarize(rates)
        | {"rate_distortion": rates},
        figures=figures,
        tables={
            "reconstruct_by_class": by_class,
            "rate_distortion": rates,
            "reconstruct_latents": latent_rows(context, indices, examples["latent"]),
        },
        visible_tables={
            "reconstruct_by_class": "Error of reconstructed test images by class, means",
            "rate_distortion": rate_distortion.CAPTION,
        },
        sources={
            "reconstruct": "reconstruct_latents",
            "mse_by_class": "reconstruct_by_class",
            "rate_distortion": "rate_distortion",
        },
        key_figures=[KeyFigure("PSNR of reconstructions", f"{means['psnr']:.2f} dB", f"SSIM {means['ssim']:.3f}")],
    )


def latent_rows(context: EvalContext, indices: Sequence[int], latents: np.ndarray) -> list[Row]:
    """Returns a row per example: its index in the test split, its class, if it has one, and its latent vector."""
    labels = class_labels(context, indices)
    return [
        {"image": int(index)}
        | ({"class": labels[place]} if labels else {})
        | {f"latent_{dimension}": round(value, 6) for dimension, value in enumerate(latent.tolist())}
        for place, (index, latent) in enumerate(zip(indices, latents.astype(np.float64)))
    ]
