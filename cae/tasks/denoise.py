"""Denoising: noisy images in, and what the model, its rivals and methods without learning made of them."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from cae.data import noise
from cae.metrics import QUALITIES
from cae.report.figures import curves, display, gallery
from cae.report.page import Row, Section
from cae.tasks import CLEAN, classical, matrix
from cae.tasks.matrix import NOISY, OURS, Cell
from cae.tasks.subject import Subject, captions, chosen, examples, rows_by_class

EXTREMES = 3
"""How many of the worst, the median and the best images are shown."""


def run(subject: Subject) -> Section:
    """Measures every method on the same noisy test images against the clean ones, and shows the first noise in detail.

    Rows hold MSE over all pixels, mean PSNR in dB, mean SSIM, by how much the model is ahead of the method, in dB, on
    the images that both were tried on, the share of images that a classifier knows, and seconds for 1,000 images.
    """
    lead, positions = subject.noises[0], chosen(subject)
    cells = matrix.measure(subject, subject.noises, specimen=min(int(positions[-1]), subject.rival_images - 1))
    ours = next(cell for cell in cells if (cell.method, cell.noise) == (OURS, lead))
    rows = rows_of(cells)
    return Section(
        name="denoise",
        title="Denoising",
        headline=headline(cells, lead),
        results=rows,
        figures=_examples_figures(subject, lead, positions, ours.qualities["psnr"]) | matrix_figures(cells),
        tables={
            "denoise": rows,
            "denoise_lead": lead_rows(rows, cells, lead),
            "denoise_psnr": pivot(cells, lambda cell: f"{cell.mean('psnr'):.2f}"),
            "denoise_mse": pivot(cells, lambda cell: f"{cell.mean('mse'):.5f}"),
            "denoise_ssim": pivot(cells, lambda cell: f"{cell.mean('ssim'):.3f}"),
            "denoise_accuracy": pivot(cells, _accuracy) if ours.correct is not None else [],
            "denoise_settings": pivot([cell for cell in cells if cell.setting], lambda cell: cell.setting),
            "denoise_by_class": rows_by_class(subject, ours.qualities),
        },
        shown={
            "denoise_lead": f"Every method on {lead}; ahead_db is by how much the model is better. {_tried_on(cells)}",
            "denoise_psnr": "Mean PSNR in dB; * is what a model was trained on",
            "denoise_mse": "MSE",
            "denoise_ssim": "Mean SSIM",
            "denoise_accuracy": "Images, in per cent, that a classifier knows which was trained on clean ones",
            "denoise_settings": "The settings that were best on the validation split",
            "denoise_by_class": f"The model on {lead}, class by class",
        },
        scalars=scalars_of(cells),
    )


def scalars_of(cells: Sequence[Cell]) -> dict[str, float]:
    """Returns what is measured of each cell by TensorBoard's tag, 'this_model/gaussian_0.5/psnr'.

    Args:
      cells: Of all methods and noises.

    Returns:
      `mse`, `psnr` in dB and `ssim`, and `accuracy` where images are labelled.
    """
    scalars = {}
    for cell in cells:
        noisy = cell.noise.replace("+", " and ").replace("/", " or ")
        place = f"{_tag(cell.method)}/{_tag(noisy)}"
        scalars |= {f"{place}/{quality}": cell.mean(quality) for quality in QUALITIES}
        if cell.correct is not None:
            scalars[f"{place}/accuracy"] = float(cell.correct.mean())
    return scalars


def _tag(text: str) -> str:
    """Returns the name of a method or a noise as a part of a tag: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^\w.-]+", "_", text, flags=re.ASCII)


def lead_rows(rows: Sequence[Row], cells: Sequence[Cell], lead: str) -> list[Row]:
    """Returns the rows of the first noise without what is the same in all of them."""
    same = ("noise", "level", "seen")
    return [
        {name: value for name, value in row.items() if name not in same}
        for row, cell in zip(rows, cells)
        if cell.noise == lead
    ]


def headline(cells: Sequence[Cell], lead: str) -> str:
    """Returns what to remember: model, noisy input and the best method without learning, on the first noise."""
    cells = {cell.method: cell for cell in cells if cell.noise == lead}
    before, after = cells[NOISY], cells[OURS]
    line = (
        f"denoise {lead}: test MSE {after.mean('mse'):.5f}, PSNR {after.mean('psnr'):.2f} dB, SSIM"
        f" {after.mean('ssim'):.3f} (noisy input: {before.mean('mse'):.5f}, {before.mean('psnr'):.2f} dB,"
        f" {before.mean('ssim'):.3f})"
    )
    without = [cell for cell in cells.values() if cell.method in classical.METHODS]
    if without:
        best = max(without, key=lambda cell: cell.mean("psnr"))
        ahead = _ahead(after, best)
        line += f"; best without learning: {best.method}, {abs(ahead):.2f} dB {'behind' if ahead > 0 else 'ahead'}"
    return line


def rows_of(cells: Sequence[Cell]) -> list[Row]:
    """Returns a row for each cell: what was tried on what, and what it came to."""
    ours = {cell.noise: cell for cell in cells if cell.method == OURS}
    return [
        {
            "method": cell.method,
            "noise": re.sub(r":[^+/]*", "", cell.noise),
            "level": re.sub(r"[a-z_]+:?", "", cell.noise),
            "seen": cell.seen,
            "images": cell.images,
            "mse": cell.mean("mse"),
            "psnr": cell.mean("psnr"),
            "ssim": cell.mean("ssim"),
            "ahead_db": _ahead(ours[cell.noise], cell),
            "accuracy": None if cell.correct is None else float(cell.correct.mean()),
            "seconds_per_1000": 1000 * cell.seconds / cell.images,
            "setting": cell.setting,
        }
        for cell in cells
    ]


def pivot(cells: Sequence[Cell], text_of: Callable[[Cell], str]) -> list[Row]:
    """Returns a row a method with a column for each noise; '*' marks what a model was trained on."""
    columns = dict.fromkeys(cell.noise for cell in cells)
    texts = {(cell.method, cell.noise): text_of(cell) + "*" * bool(cell.seen) for cell in cells}
    methods = dict.fromkeys(cell.method for cell in cells)
    return [{"method": method} | {each: texts.get((method, each), "") for each in columns} for method in methods]


def matrix_figures(cells: Sequence[Cell]) -> dict[str, tuple[str, Figure]]:
    """Returns the curves of PSNR against level for noises that were tried at several, and one image by every method."""
    figures = {}
    by_name: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for cell in cells:
        stage = _single_level(cell.noise)
        if stage:
            points = by_name.setdefault(stage.name, {}).setdefault(cell.method, [])
            points.append((stage.low, cell.mean("psnr")))
    for name, points_of in by_name.items():
        if len(points_of[OURS]) > 1:
            lines = {method: sorted(points) for method, points in points_of.items()}
            figure = curves(lines, f"level of {name}", "PSNR (dB)")
            figures[f"denoise_{name}"] = f"PSNR against the level of {name}", figure
    methods = dict.fromkeys(cell.method for cell in cells)
    pictures: dict[str, dict[str, np.ndarray]] = {}
    for cell in cells:
        pictures.setdefault(cell.noise, {})[cell.method] = cell.specimen
    figures["denoise_methods"] = "One image, every noise, every method", gallery(pictures, list(methods))
    return figures


def _single_level(text: str) -> noise.Stage | None:
    """Returns the one noise at one level that a text names; nothing for anything else."""
    if text == CLEAN:
        return None
    (first, *others), *ways = noise.parse(text).alternatives
    return None if others or ways or first.low != first.high else first


def _examples_figures(
    subject: Subject, lead: str, positions: np.ndarray, psnr: np.ndarray
) -> dict[str, tuple[str, Figure]]:
    def drawn(positions: Sequence[int], names: Sequence[str]) -> Figure:
        shown = examples(subject, noise.parse(lead), positions)
        columns = {"input": shown["image"], "noisy input": shown["noisy"], "output": shown["output"]}
        return display(columns, shown.get("latent"), names)

    order, count = np.argsort(psnr), min(EXTREMES, len(psnr))
    middle = (len(order) - count) // 2
    kinds = {"worst": order[:count], "median": order[middle : middle + count], "best": order[len(order) - count :]}
    extremes = [position for kind in kinds.values() for position in kind]
    names = [f"{kind}\n{psnr[position]:.1f} dB" for kind, members in kinds.items() for position in members]
    return {
        "denoise": (
            f"Test images with {lead}, what the model made of them, and how",
            drawn(positions, captions(subject, positions)),
        ),
        "denoise_extremes": (f"The worst, the median and the best outputs for {lead}", drawn(extremes, names)),
    }


def _accuracy(cell: Cell) -> str:
    return f"{100 * cell.correct.mean():.1f}"


def _ahead(ours: Cell, other: Cell) -> float:
    """Returns how many dB the model is ahead of another method, over the images that both were tried on."""
    return float(ours.qualities["psnr"][: other.images].mean(dtype="float64")) - other.mean("psnr")


def _tried_on(cells: Sequence[Cell]) -> str:
    fewest, most = min(cell.images for cell in cells), max(cell.images for cell in cells)
    return f"All {most} test images" + (f", the first {fewest} for methods without learning" if fewest < most else "")
