"""Interpolation: images decoded between the latent vectors of two images, compared with pixel-space interpolation."""

from collections.abc import Mapping

import numpy as np

from cae.data.arrays import to_float
from cae.latents import interpolation, interpolation_metrics
from cae.report.charts import line_chart
from cae.report.figures import Figure, image_table
from cae.report.report import KeyFigure, Row, Section
from cae.run import Run
from cae.tasks.context import EvalContext, example_indices
from cae.tasks.interpolation_evaluator import PER_WEIGHT_METRICS, InterpolationEvaluator, average_metrics, is_between

PathType = tuple[str, str]
"""A type of pair, as `sample_pairs` returns them, and a method."""

LATENT, PIXEL_BLEND = "lerp", "pixel_blend"
"""The methods that the headline compares."""

NUM_SHOWN_PAIRS = 3
"""Pairs of each type in the figure."""

GRID_SIDE = 9
"""Images along a side of the grid between four images."""

STEPS_PER_ANCHOR, MAX_ANCHORS = 12, 12
"""Images from one anchor of the closed path to the next; anchors."""

METRIC_PATH_LENGTH = 16
"""Images of the paths that a data set's metric takes."""


def run(context: EvalContext) -> Section:
    """Evaluates paths between pairs of test images, by each interpolator of latent vectors and by pixel blending.

    For each type of pair and each method: endpoint_mse, the error of the decoded end points; nn_distance_ratio, the
    distance of the images between them to the nearest training image, divided by that of real test images; the
    confidence of a classifier and num_distinct_labels, its predictions along the path; max_step_ratio, the largest step
    divided by the mean step.
    """
    evaluator = InterpolationEvaluator(context)
    means, curves, strips = _evaluate_pairs(context, evaluator)
    metric, weights = _evaluate_dataset_metric(context), context.interpolation_weights
    references = {"test_nn_distance": evaluator.test_nn_distance, "test_confidence": evaluator.test_confidence}
    # Pairs of different classes come last.
    pair_type, _ = [*means][-1]
    ratios = [curves[pair_type, method]["nn_distance_ratio"] for method in (LATENT, PIXEL_BLEND)]
    fractions = compare_with_pixel_blend(weights, *ratios)
    rows = [{"pair_type": pair_type, "method": method} | values for (pair_type, method), values in means.items()]
    # The first image of each class, or the first few.
    test_images, labels = context.load("test")
    anchors = example_indices(context, max(len(np.unique(labels)), 4))[:MAX_ANCHORS]
    images = to_float(test_images[anchors])
    figures, closed_path = draw_paths(context.run, images)
    strip_figure = image_table(strips, ["start", *(f"{weight:.4g}" for weight in weights), "end"])
    return Section(
        name="interpolate",
        title="Interpolation",
        headline=_make_headline(pair_type, means, fractions, metric),
        results={"weights": weights.tolist()} | references | fractions | metric | {"methods": rows},
        figures={"interpolate": ("Interpolation between pairs of test images, which stand at both ends", strip_figure)}
        | figures
        | _draw_curves(weights, curves, evaluator),
        animations={"interpolate_closed_path": ("From one test image to the next, and back to the first", closed_path)},
        tables={"interpolate": rows, "interpolate_by_weight": _rows_by_weight(weights, curves)},
        visible_tables={
            "interpolate": (
                "Means over all pairs; distance ratio and confidence are of the images between the end points. At a"
                " ratio of 1 they are as far from the nearest training images as real test images are"
            )
        },
        scalars={f"{'/'.join(path)}/{name}": value for path, values in means.items() for name, value in values.items()},
        sources={"interpolate": "interpolate"}
        | {f"interpolate_{name}": "interpolate_by_weight" for name in PER_WEIGHT_METRICS},
        key_figures=[_make_key_figure(means, pair_type)],
    )


def interpolate_all_methods(run: Run, ends: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Interpolates between pairs of images by every method.

    Args:
      run: A run whose model has latent vectors.
      ends: Pairs of images, `[num_pairs, 2, height, width, channels]` in 0..1.
      weights: Interpolation weights, `[num_weights]` in 0..1.

    Returns:
      Paths `[num_pairs, num_weights, height, width, channels]` by method: each of `INTERPOLATORS`, and `PIXEL_BLEND`.
    """
    methods = {name: name for name in interpolation.INTERPOLATORS} | {PIXEL_BLEND: interpolation.PIXELS}
    return {name: run.interpolate(ends[:, 0], ends[:, 1], weights, method) for name, method in methods.items()}


def _evaluate_pairs(
    context: EvalContext, evaluator: InterpolationEvaluator
) -> tuple[dict[PathType, Row], dict[PathType, Row], dict[str, list[np.ndarray]]]:
    """Evaluates every method on every type of pair.

    Returns:
      By type of pair and method, the mean of each metric and the mean curves, `[num_weights]`, of those with a value
      for each weight; and the images of some paths by label.
    """
    weights, (images, labels) = context.interpolation_weights, context.load("test")
    num_classes, num_pairs = len(context.class_names), context.interpolation_pairs
    pairs = interpolation_metrics.sample_pairs(labels, num_classes, num_pairs, context.seed)
    means, curves, strips = {}, {}, {}
    for pair_type, indices in pairs.items():
        ends = to_float(images[indices])
        all_paths = interpolate_all_methods(context.run, ends, weights)
        for method, paths in all_paths.items():
            metrics = evaluator.evaluate(paths, ends, weights)
            means[pair_type, method] = average_metrics(metrics, weights)
            curves[pair_type, method] = {
                name: metrics[name].mean(axis=0) for name in PER_WEIGHT_METRICS if name in metrics
            }
        for number, (start, end) in enumerate(ends[:NUM_SHOWN_PAIRS]):
            for method, paths in all_paths.items():
                strips[f"{_label(pair_type, method)} {number + 1}"] = [start, *paths[number], end]
    return means, curves, strips


def _label(pair_type: str, method: str) -> str:
    return f"{pair_type}: {method}".replace("_", " ")


def _rows_by_weight(weights: np.ndarray, curves: Mapping[PathType, Row]) -> list[Row]:
    return [
        {"pair_type": pair_type, "method": method, "weight": weight}
        | {name: float(curve[position]) for name, curve in by_name.items()}
        for (pair_type, method), by_name in curves.items()
        for position, weight in enumerate(weights.tolist())
    ]


def compare_with_pixel_blend(weights: np.ndarray, latent: np.ndarray, blend: np.ndarray) -> dict[str, float]:
    """Returns for which fraction of the weights between 0 and 1 linear interpolation is better than pixel blending.

    Args:
      weights: Interpolation weights, `[num_weights]`.
      latent: The nn_distance_ratio of linear interpolation between latent vectors, `[num_weights]`.
      blend: That of pixel blending, `[num_weights]`.

    Returns:
      frac_below_pixel_blend: Images are nearer to the training images. frac_closer_than_pixel_blend: The ratio is
      closer to 1, the value of real images; that of blurred images is lower.
    """
    between = is_between(weights)
    closer = np.abs(latent - 1) < np.abs(blend - 1)
    return {
        "frac_below_pixel_blend": float(np.mean((latent < blend)[between])),
        "frac_closer_than_pixel_blend": float(np.mean(closer[between])),
    }


def _evaluate_dataset_metric(context: EvalContext) -> dict[str, float]:
    """Returns the data set's metric of linear paths between its test images, where it has one."""
    if context.interpolation_metric is None:
        return {}
    images, labels = context.load("test")
    indices = interpolation_metrics.sample_pairs(labels, 0, context.interpolation_pairs, context.seed)["any"]
    ends = to_float(images[indices])
    paths = interpolate_all_methods(context.run, ends, np.linspace(0, 1, METRIC_PATH_LENGTH))
    return {name: value for name, value in context.interpolation_metric(paths[LATENT]).items() if value is not None}


def _make_headline(
    pair_type: str, means: Mapping[PathType, Row], fractions: Mapping[str, float], metric: Mapping[str, float]
) -> str:
    latent, blend = means[pair_type, LATENT], means[pair_type, PIXEL_BLEND]
    values = {name: latent[name] for name in ("endpoint_mse", "confidence", "max_step_ratio") if name in latent}
    return ", ".join(
        [
            f"interpolate between images ({pair_type.replace('_', ' ')}): distance to the training images divided by"
            f" that of test images {latent['nn_distance_ratio']:.3f} (in pixel space {blend['nn_distance_ratio']:.3f};"
            f" lower at {fractions['frac_below_pixel_blend']:.0%} of the weights)",
            *(f"{name.replace('_', ' ')} {value:.4g}" for name, value in [*values.items(), *metric.items()]),
        ]
    )


def _make_key_figure(means: Mapping[PathType, Row], pair_type: str) -> KeyFigure:
    latent, blend = (means[pair_type, method]["nn_distance_ratio"] for method in (LATENT, PIXEL_BLEND))
    return KeyFigure("Interpolation distance ratio", f"{latent:.3f}", f"test images 1, pixel space {blend:.3f}")


def draw_paths(run: Run, images: np.ndarray) -> tuple[dict[str, tuple[str, Figure]], np.ndarray]:
    """Draws interpolations between more than two images.

    Args:
      run: A run whose model has latent vectors.
      images: `[num_images, height, width, channels]` in 0..1.

    Returns:
      Captions and figures by name: a grid with the first four images in its corners, where there are so many, and a
      closed path through all of them; and the frames of the path, `[num_frames, height, width, channels]`.
    """
    latents = run.encode(images)
    figures = {}
    if len(images) >= 4:
        grid = interpolation.interpolate_grid(latents[:4], GRID_SIDE).reshape(GRID_SIDE**2, -1)
        table = image_table(run.decode(grid).reshape(GRID_SIDE, GRID_SIDE, *run.image_shape))
        figures["interpolate_grid"] = ("Between four images, one in each corner", table)
    frames = run.decode(interpolation.closed_path(latents, STEPS_PER_ANCHOR))
    segments = frames.reshape(len(images), STEPS_PER_ANCHOR, *images.shape[1:])
    rows = np.concatenate([images[:, None], segments, np.roll(images, -1, axis=0)[:, None]], axis=1)
    caption = "A closed path through several images: each row leads from one image to the next"
    columns = ["start", *[""] * STEPS_PER_ANCHOR, "end"]
    figures["interpolate_closed_path"] = (caption, image_table(rows, columns))
    return figures, frames


def _draw_curves(
    weights: np.ndarray, curves: Mapping[PathType, Row], evaluator: InterpolationEvaluator
) -> dict[str, tuple[str, Figure]]:
    """Returns a figure for each metric that has a value for each interpolation weight."""
    references = {"nn_distance_ratio": 1.0, "confidence": evaluator.test_confidence}
    figures = {}
    for name in next(iter(curves.values())):
        lines = {_label(*key): [*zip(weights, by_name[name])] for key, by_name in curves.items()}
        lines["test images"] = [(weight, references[name]) for weight in weights[[0, -1]]]
        chart = line_chart(lines, "interpolation weight", name.replace("_", " "))
        figures[f"interpolate_{name}"] = PER_WEIGHT_METRICS[name], chart
    return figures
