"""What every task is given: a trained model, its data set, and the flags of an evaluation."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from cae.data import outlier_sets, pipeline
from cae.data.datasets import ImageDataset
from cae.data.noise import OneOf
from cae.io_utils import printable
from cae.latents import interpolation
from cae.metrics import METRICS
from cae.outliers.detector import Detector
from cae.report.report import Row
from cae.run import Run
from cae.tasks import TSNE_IMAGES
from cae.tasks.baseline_tuning import default_cache_dir
from cae.tasks.flags import noises_from_flags

Batches = Callable[..., tf.data.Dataset]
"""(split, corruption or None, indices or None for all images) to batches, with the same noise in every call."""


FLAGS = (
    "num_examples", "self_ensemble", "test_dataset", "baseline_images", "baseline_tuning_images", "kmeans_n_init",
    "tsne_images", "interpolation_pairs",
)  # fmt: skip
"""Fields of `EvalContext` that are the values of flags of the same name."""


@dataclasses.dataclass(frozen=True)
class OutlierEvalData:
    """The data of the outlier detection task.

    Attributes:
      detector: A fitted and calibrated detector.
      ood_datasets: Images of other data sets by name, uint8 `[n, height, width, channels]`.
      excluded: Test images of the classes that the model was not trained on; None where there are none.
      skipped: Why other data sets are missing, or which of their files, by name.
      max_outliers_per_set: From how many test images each synthetic set of outliers is made, at most.
      class_outliers: Images of the classes that train lacks, by name.
    """

    detector: Detector
    ood_datasets: Mapping[str, np.ndarray]
    excluded: np.ndarray | None
    skipped: Mapping[str, str]
    max_outliers_per_set: int
    class_outliers: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class EvalContext:
    """A trained model, its data set, and the flags of the tasks.

    Attributes:
      run: The run whose model is evaluated.
      batches: Returns the batches of a split, as `cae.data.pipeline.make_eval_batches` makes them.
      load: Returns a split's uint8 images `[n, height, width, channels]` and its labels `[n]`.
      noises: What denoising is evaluated on, as `--noise` takes it; the first in most detail.
      class_names: Names of the labels; empty for unlabeled images.
      num_examples: Number of images in figures.
      comparison_runs: Other runs by name, whose models denoise the same images.
      baseline_images: Number of test images that classical baselines are evaluated on.
      baseline_tuning_images: Number of validation images that their parameters are tuned on.
      cache_dir: Folder of the tuned parameters.
      kmeans_n_init: Number of initializations of k-means; None for 100, or fewer for large problems.
      tsne_images: Number of images in maps of latent vectors; 0 for no t-SNE.
      outlier_data: The data of the outlier detection task, where it runs.
      interpolation_weights: Weights of the second image in ascending order, `[n]` in 0..1.
      interpolation_pairs: Number of pairs of test images of each kind.
      interpolation_metric: Scores of paths `[pairs, 16, height, width, channels]` with equally spaced weights, by name,
        of a data set for which the truth is known; None for other data sets.
      self_ensemble: Whether denoised images are means over flips and turns.
      test_dataset: Name of the data set of the test images, where it is not the run's.
      whole_images: Whether each batch is an image of its own size, and what `load` returns are their centers.
      seed: Seed of random choices.
    """

    run: Run
    batches: Batches
    load: Callable[[str], tuple[np.ndarray, np.ndarray]]
    noises: Sequence[str]
    class_names: Sequence[str]
    num_examples: int
    comparison_runs: Mapping[str, Run] = dataclasses.field(default_factory=dict)
    baseline_images: int = 0
    baseline_tuning_images: int = 64
    cache_dir: Path | None = None
    kmeans_n_init: int | None = None
    tsne_images: int = TSNE_IMAGES
    outlier_data: OutlierEvalData | None = None
    interpolation_weights: np.ndarray | None = None
    interpolation_pairs: int = 0
    interpolation_metric: Callable[[np.ndarray], Mapping[str, float]] | None = None
    self_ensemble: bool = False
    test_dataset: str | None = None
    whole_images: bool = False
    seed: int = 0


def build_context(
    run: Run, dataset: ImageDataset, values: flags.FlagValues, comparison_runs: Mapping[str, Run], with_outliers: bool
) -> EvalContext:
    """Returns what tasks are given.

    Args:
      run: The run to evaluate.
      dataset: Its data set.
      values: The flags of `cae.tasks.flags.define_eval_flags`.
      comparison_runs: Other runs by name.
      with_outliers: Whether the outlier detection task is to run, for which a detector is fitted and saved.
    """
    return EvalContext(
        run=run,
        batches=pipeline.make_eval_batches(dataset, run.config.seed),
        load=dataset.load,
        noises=noises_from_flags(values, run.config),
        class_names=[*map(printable, dataset.class_names)],
        comparison_runs=comparison_runs,
        cache_dir=Path(values.cache_dir).expanduser() if values.cache_dir else default_cache_dir(),
        outlier_data=build_outlier_data(run, dataset, values, values.outlier_datasets) if with_outliers else None,
        interpolation_weights=interpolation.parse_weights(values.interpolation_weights),
        interpolation_metric=dataset.interpolation_metric,
        whole_images=dataset.crops is not None,
        seed=run.config.seed,
        **{name: values[name].value for name in FLAGS},
    )


def build_outlier_data(
    run: Run, dataset: ImageDataset, values: flags.FlagValues, names: Sequence[str]
) -> OutlierEvalData:
    """Fits and saves the detector that the flags describe, and reads the data sets of outliers.

    Every other outlier is for the threshold methods that need some; the others are for the evaluation.

    Args:
      run: The run.
      dataset: Its data set.
      values: The flags of `cae.tasks.flags.define_common_flags`.
      names: The data sets of outliers.
    """
    trained_on, data_dir = run.run_config["dataset"]["name"], values.data_dir or run.config.data_dir
    others, max_images = [name for name in names if name != trained_on], values.max_outliers_per_set
    ood_datasets, skipped = outlier_sets.load_outlier_datasets(others, data_dir, run.image_shape, max_images)
    if len(others) < len(names):
        skipped[printable(trained_on)] = "it is what the model was trained on"
    detector = run.fit_detector(
        dataset,
        score=values.score,
        method=values.threshold_method,
        alpha=values.alpha,
        outliers=np.concatenate([images[::2] for images in ood_datasets.values()]) if ood_datasets else None,
    )
    excluded = dataset.excluded_classes("test")[0] if dataset.excluded_classes else None
    if excluded is not None:
        excluded = excluded[evenly_spaced(len(excluded), max_images)]
    class_outliers, unreadable = outlier_sets.load_class_outliers(dataset, max_images)
    return OutlierEvalData(detector, ood_datasets, excluded, unreadable | skipped, max_images, class_outliers)


def evenly_spaced(total: int, max_indices: int) -> np.ndarray:
    """Returns evenly spaced indices below a total, or all of them."""
    return np.linspace(0, total - 1, min(max_indices, total)).round().astype(int)


def measure(context: EvalContext, corruption: OneOf | None) -> dict[str, np.ndarray]:
    """Returns the metrics of the model's outputs for the test images, each an array [n] by name."""

    @tf.function(reduce_retracing=True)
    def eval_step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        output = context.run.model(batch["input"])
        return {name: metric(batch["image"], output) for name, metric in METRICS.items()}

    results = [eval_step(batch) for batch in context.batches("test", corruption)]
    return {name: np.concatenate([result[name] for result in results]) for name in METRICS}


def example_indices(context: EvalContext, num_examples: int | None = None) -> np.ndarray:
    """Returns indices of the test images in figures: the first of each class, about as many of each, by class.

    Args:
      context: The flags of the tasks.
      num_examples: Number of images; None for `context.num_examples`.
    """
    _, labels = context.load("test")
    ranks = np.zeros(len(labels), int)  # Of each image in its class.
    for label in np.unique(labels):
        ranks[labels == label] = np.arange(np.count_nonzero(labels == label))
    indices = np.argsort(ranks, kind="stable")[: num_examples or context.num_examples]
    return indices[np.lexsort([indices, labels[indices]])]


def get_examples(context: EvalContext, corruption: OneOf | None, indices: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns test images and the model's outputs for them.

    Returns:
      `image`, `input`, `output` `[n, height, width, channels]`, and `latent` `[n, latent_dim]` where the model has
      latent vectors.
    """
    model = context.run.model
    batch = next(iter(context.batches("test", corruption, indices).unbatch().batch(len(indices))))
    examples = {"image": batch["image"], "input": batch["input"], "output": model(batch["input"])}
    if hasattr(model, "encode"):
        examples["latent"] = model.encode(batch["input"])
    return {name: values.numpy() for name, values in examples.items()}


def class_labels(context: EvalContext, indices: Sequence[int]) -> list[str]:
    """Returns the class names of test images; an empty list for unlabeled images."""
    _, labels = context.load("test")
    return [context.class_names[labels[index]] for index in indices] if context.class_names else []


def rows_by_class(context: EvalContext, metrics: dict[str, np.ndarray]) -> list[Row]:
    """Returns the means of metrics `[n]` of the test images, a row per class; no row for unlabeled images."""
    _, labels = context.load("test")
    rows = []
    for label, name in enumerate(context.class_names):
        members = labels == label
        if members.any():
            means = {key: float(values[members].mean(dtype="float64")) for key, values in metrics.items()}
            rows.append({"class": name, "num_images": int(members.sum())} | means)
    return rows
