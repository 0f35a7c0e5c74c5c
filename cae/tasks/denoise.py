"""Denoising: a noisy image in, and what the model made of it against the clean one."""

from cae.report.figures import display
from cae.report.page import Section
from cae.tasks.subject import Outcome, Subject, rows_by_class, try_out


def run(subject: Subject) -> Section:
    """Measures the noisy test images and the model's outputs against the clean images.

    Rows hold MSE over all pixels, mean PSNR in dB and mean SSIM.
    """
    outcome = try_out(subject, subject.noise)
    rows = rows_of(subject, outcome)
    before, after = rows
    examples = outcome.examples
    columns = {"input": examples["image"], "noisy input": examples["noisy"], "output": examples["output"]}
    captions = [subject.class_names[label] for label in outcome.classes[outcome.chosen]] if subject.class_names else ()
    figure = display(columns, examples["latent"], captions)
    return Section(
        name="denoise",
        title="Denoising",
        headline=(
            f"denoise {subject.noise_name}: test MSE {after['mse']:.5f}, PSNR {after['psnr']:.2f} dB, SSIM"
            f" {after['ssim']:.3f} (noisy input: {before['mse']:.5f}, {before['psnr']:.2f} dB, {before['ssim']:.3f})"
        ),
        results=rows,
        figures={"denoise": (f"Test images with {subject.noise_name}, what the model made of them, and how", figure)},
        tables={"denoise": rows, "denoise_by_class": rows_by_class(outcome, subject.class_names)},
        shown=["denoise"],
    )


def rows_of(subject: Subject, outcome: Outcome) -> list[dict[str, object]]:
    """Returns a row for the noisy input and one for the model: method, noise, level, mse, psnr, ssim."""
    stages = [stage.partition(":") for stage in subject.noise_name.split("+")]
    noise = {
        "noise": "+".join(name for name, _, _ in stages),
        "level": "+".join(level for _, _, level in stages),
    }
    methods = {"noisy input": outcome.input_qualities, "this model": outcome.qualities}
    return [
        {"method": method, **noise} | {name: float(values.mean(dtype="float64")) for name, values in qualities.items()}
        for method, qualities in methods.items()
    ]
