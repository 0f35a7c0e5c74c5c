"""Denoising: the model, other models and classical baselines on the same noisy test images."""

import collections
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from cae.data import noise
from cae.io_utils import printable
from cae.metrics import METRICS
from cae.report.cells import FORMATS
from cae.report.charts import line_chart
from cae.report.figures import example_rows, image_table
from cae.report.report import KeyFigure, Row, Section
from cae.run import Run
from cae.tasks import get_corruption
from cae.tasks.baselines import BASELINES
from cae.tasks.context import EvalContext, class_labels, evenly_spaced, example_indices, rows_by_class
from cae.tasks.denoisers import get_noisy_examples
from cae.tasks.denoising_benchmark import NOISY_INPUT, THIS_MODEL, BenchmarkResult, run_benchmark

NUM_EXTREMES = 3
"""How many of the worst, the median and the best outputs a figure shows."""

MAX_LEAD_EXAMPLES = 10
"""Images in the figure on top of the page."""


def rename_runs(runs: Mapping[str, Run]) -> dict[str, Run]:
    """Returns runs to compare with by names that no other method has."""
    others = {NOISY_INPUT, THIS_MODEL, *BASELINES}
    return {f"run {name}" if name in others else name: each for name, each in runs.items()}


def run(context: EvalContext) -> Section:
    """Evaluates every method on each noise against the clean images, and shows the first, primary noise in detail.

    Rows have MSE over all pixels, mean PSNR in dB, mean SSIM, the model's gain over the method in PSNR on the images
    that both denoised, the share of denoised images that a classifier classifies correctly, and the time.
    """
    context = dataclasses.replace(context, comparison_runs=rename_runs(context.comparison_runs))
    primary_noise, indices = context.noises[0], example_indices(context)
    results = run_benchmark(context, context.noises, min(int(indices[-1]), context.baseline_images - 1))
    primary = {result.method: result for result in results if result.noise == primary_noise}
    model, rows = primary[THIS_MODEL], make_rows(results)
    level_figures = _level_figures(results)
    summary = {name: model.mean(name) for name in METRICS} | {"classifier_accuracy": model.classifier_accuracy}
    return Section(
        name="denoise",
        title="Denoising",
        headline=make_headline(primary),
        results={"primary_noise": primary_noise, "num_images": model.num_images}
        | ({"test_dataset": printable(context.test_dataset)} if context.test_dataset else {})
        | summary
        | {"self_ensemble": context.self_ensemble, "methods": rows},
        figures=(
            _example_figures(context, primary_noise, indices, model.metrics["psnr"])
            | level_figures
            | {"denoise_methods": ("One image under every noise, denoised by every method", _method_figure(results))}
        ),
        tables={
            "denoise": rows,
            "denoise_primary": [row for row, result in zip(rows, results) if result.noise == primary_noise],
            "denoise_accuracy": pivot(
                results, lambda result: f"{result.classifier_accuracy:.1%}" if result.is_correct.size else ""
            ),
            "denoise_params": pivot(results, lambda result: result.params),
            "denoise_by_class": rows_by_class(context, model.metrics),
        }
        | {
            f"denoise_{name}": pivot(results, lambda result, name=name: format(result.mean(name), FORMATS[name]))
            for name in METRICS
        },
        visible_tables=_captions(results, primary_noise),
        sources={"denoise_methods": "denoise"}
        | dict.fromkeys(("denoise", "denoise_extremes"), "denoise_primary")
        | dict.fromkeys(level_figures, "denoise"),
        key_figures=make_key_figures(primary),
        lead=_draw_lead(context, primary_noise, indices),
        scalars=make_scalars(results),
    )


def _captions(results: Sequence[BenchmarkResult], primary_noise: str) -> dict[str, str]:
    fewest, most = (limit(result.num_images for result in results) for limit in (min, max))
    trained = "* marks the noise that a model was trained on"
    subset = f", the first {fewest} of them for classical baselines" if fewest < most else ""
    return {
        "denoise_primary": (
            f"All methods on {primary_noise}: {most} test images{subset}. PSNR gain: the PSNR of this model minus that"
            " of the method, on the same images"
        ),
        "denoise_psnr": f"Mean PSNR in dB by method and noise, higher is better; {trained}",
        "denoise_mse": f"Mean squared error by method and noise, lower is better; {trained}",
        "denoise_ssim": f"Mean SSIM by method and noise, at most 1, higher is better; {trained}",
        "denoise_accuracy": (
            f"Accuracy of a classifier, which was fitted to clean images, on denoised images; {trained}"
        ),
        "denoise_params": "Parameters of the classical baselines, the best on the validation split",
        "denoise_by_class": f"This model on {primary_noise}, by class",
    }


def make_headline(primary: dict[str, BenchmarkResult]) -> str:
    """Returns the results of the model, the noisy input and the best baseline on one noise, given by method."""
    before, after = primary[NOISY_INPUT], primary[THIS_MODEL]
    headline = (
        f"denoise {after.noise}: test MSE {after.mean('mse'):.5f}, PSNR {after.mean('psnr'):.2f} dB, SSIM"
        f" {after.mean('ssim'):.3f} (noisy input: {before.mean('mse'):.5f}, {before.mean('psnr'):.2f} dB,"
        f" {before.mean('ssim'):.3f})"
    )
    if best := _best_baseline(primary):
        headline += f"; PSNR gain over the best classical baseline ({best.method}): {psnr_gain(after, best):+.2f} dB"
    return headline


def _best_baseline(primary: dict[str, BenchmarkResult]) -> BenchmarkResult | None:
    classical = [result for method, result in primary.items() if method in BASELINES]
    return max(classical, key=lambda result: result.mean("psnr"), default=None)


def make_key_figures(primary: dict[str, BenchmarkResult]) -> list[KeyFigure]:
    """Returns the results of the model on one noise, beside the noisy input and the best baseline, given by method."""
    before, after = primary[NOISY_INPUT], primary[THIS_MODEL]
    figures = [
        KeyFigure(f"PSNR, {after.noise}", f"{after.mean('psnr'):.2f} dB", f"noisy input {before.mean('psnr'):.2f} dB")
    ]
    if best := _best_baseline(primary):
        gain = KeyFigure("PSNR gain over the best baseline", f"{psnr_gain(after, best):+.2f} dB", best.method)
        figures.append(gain)
    figures.append(
        KeyFigure(f"SSIM, {after.noise}", f"{after.mean('ssim'):.3f}", f"noisy input {before.mean('ssim'):.3f}")
    )
    if after.is_correct.size:
        name, note = "Classifier accuracy, denoised", f"noisy input {before.classifier_accuracy:.1%}"
        figures.append(KeyFigure(name, f"{after.classifier_accuracy:.1%}", note))
    return figures


def _draw_lead(context: EvalContext, primary_noise: str, indices: np.ndarray) -> tuple[str, Figure]:
    """Returns a caption and a small figure for the top of the page: some examples, side by side."""
    chosen = indices[evenly_spaced(len(indices), MAX_LEAD_EXAMPLES)]
    examples = get_noisy_examples(context, primary_noise, chosen)
    rows = {"clean": examples["image"], "noisy": examples["input"], "denoised": examples["output"]}
    return f"Test images with {primary_noise}, and denoised by this model", image_table(
        rows, class_labels(context, chosen)
    )


def make_rows(results: Sequence[BenchmarkResult]) -> list[Row]:
    """Returns a row for each method and noise."""
    models = {result.noise: result for result in results if result.method == THIS_MODEL}
    return [
        {
            "method": result.method,
            "noise": re.sub(r":[^+/]*", "", result.noise),
            "level": re.sub(r"[a-z_]+:?", "", result.noise),
            "in_training_distribution": result.in_training_distribution,
            "num_images": result.num_images,
            **{name: result.mean(name) for name in METRICS},
            "psnr_gain_db": psnr_gain(models[result.noise], result),
            "classifier_accuracy": result.classifier_accuracy,
            "seconds_per_1000_images": 1000 * result.seconds / result.num_images,
            "params": result.params,
        }
        for result in results
    ]


def psnr_gain(model: BenchmarkResult, other: BenchmarkResult) -> float:
    """Returns the model's mean PSNR minus another method's, in dB, over the images that both denoised."""
    return float(model.metrics["psnr"][: other.num_images].mean(dtype="float64")) - other.mean("psnr")


def make_scalars(results: Sequence[BenchmarkResult]) -> dict[str, float]:
    """Returns mse, psnr, ssim and classifier_accuracy by TensorBoard tag, such as 'this_model/gaussian_0.5/psnr'."""
    scalars = {}
    for result in results:
        noise_name = result.noise.replace("+", " and ").replace("/", " or ")
        # Tags have letters, digits, '.', '_' and '-'.
        prefix = "/".join(re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII) for name in (result.method, noise_name))
        scalars |= {f"{prefix}/{name}": result.mean(name) for name in METRICS}
        if result.is_correct.size:
            scalars[f"{prefix}/classifier_accuracy"] = result.classifier_accuracy
    return scalars


def pivot(results: Sequence[BenchmarkResult], format_result: Callable[[BenchmarkResult], str]) -> list[Row]:
    """Returns a row per method with a column per noise; '*' marks noises that a model was trained on.

    Results whose text is empty are left out.
    """
    texts = {}
    for result in results:
        if text := format_result(result):
            texts[result.method, result.noise] = text + "*" * bool(result.in_training_distribution)
    methods, noises = (dict.fromkeys(key[position] for key in texts) for position in (0, 1))
    return [{"method": method} | {text: texts.get((method, text), "") for text in noises} for method in methods]


def _level_figures(results: Sequence[BenchmarkResult]) -> dict[str, tuple[str, Figure]]:
    """Returns curves of PSNR against level, for each type of noise that was evaluated at several levels."""
    curves = collections.defaultdict(lambda: collections.defaultdict(list))
    for result in results:
        if step := _single_level(result.noise):
            curves[step.name][result.method].append((step.low, result.mean("psnr")))
    figures = {}
    for name, by_method in curves.items():
        if len(by_method[THIS_MODEL]) > 1:
            lines = {method: sorted(points) for method, points in by_method.items()}
            chart = line_chart(lines, f"level of {name}", "PSNR (dB)")
            figures[f"denoise_{name}"] = f"Mean PSNR against the level of {name} noise", chart
    return figures


def _single_level(text: str) -> noise.CorruptionStep | None:
    """Returns the step of a noise that has one step at one level; None for any other noise."""
    if (corruption := get_corruption(text)) is None:
        return None
    (first, *steps), *alternatives = corruption.alternatives
    return None if steps or alternatives or first.low != first.high else first


def _method_figure(results: Sequence[BenchmarkResult]) -> Figure:
    """Draws the example image under each noise, denoised by each method."""
    outputs = {(result.noise, result.method): result.example_output for result in results}
    noises, methods = (dict.fromkeys(key[position] for key in outputs) for position in (0, 1))
    rows = {
        text.replace("+", "+\n").replace("/", "/\n"): [outputs.get((text, method)) for method in methods]
        for text in noises
    }
    return image_table(rows, ["\n".join(method.split()) for method in methods], cell_inches=0.95)


def _example_figures(
    context: EvalContext, primary_noise: str, indices: np.ndarray, psnr: np.ndarray
) -> dict[str, tuple[str, Figure]]:
    """Returns figures of some test images, and of those with the worst, the median and the best outputs."""

    def draw(indices: Sequence[int], labels: Sequence[str]) -> Figure:
        examples = get_noisy_examples(context, primary_noise, indices)
        columns = {"clean": examples["image"], "noisy input": examples["input"], "output": examples["output"]}
        return example_rows(columns, examples.get("latent"), labels)

    order, count = np.argsort(psnr), min(NUM_EXTREMES, len(psnr))
    middle = (len(order) - count) // 2
    groups = {"worst": order[:count], "median": order[middle : middle + count], "best": order[len(order) - count :]}
    extremes = [(index, f"{name}\n{psnr[index]:.1f} dB") for name, group in groups.items() for index in group]
    return {
        "denoise": (f"Test images with {primary_noise}", draw(indices, class_labels(context, indices))),
        "denoise_extremes": (
            f"The worst, the median and the best outputs for {primary_noise}, by PSNR",
            draw(*zip(*extremes)),
        ),
    }
