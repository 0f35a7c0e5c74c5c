"""Every method on every noise: the model, other models and classical baselines denoise the same noisy images."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from cae.data import noise
from cae.data.full_resolution import center_crop
from cae.metrics import METRICS
from cae.progress import phase
from cae.tasks import CLEAN, PAIRED, PAIRED_DATASETS, baselines, get_corruption
from cae.tasks.baseline_tuning import TuningCache
from cae.tasks.baselines import BaselineData
from cae.tasks.classifier import SVMClassifier, has_classes
from cae.tasks.context import EvalContext
from cae.tasks.denoisers import MAX_EXAMPLE_SIDE, make_denoiser, timed

NOISY_INPUT, THIS_MODEL = "noisy input", "this model"

MAX_BASELINE_VALUES = 2**26
"""Of whole images that classical baselines denoise: all of them are in memory, and in that of other processes."""

TUNING_SIDE = 128
"""Of the centers of images that parameters are tuned on, at most, in pixels."""

NO_VALUES = np.zeros(0, np.float32)

Batch = Mapping[str, tf.Tensor | np.ndarray]


@dataclasses.dataclass
class BenchmarkResult:
    """The metrics of one method's outputs for the first test images under one noise.

    Attributes:
      method: `NOISY_INPUT`, `THIS_MODEL`, or the name of another model or a baseline.
      noise: As `--noise` takes it, or `CLEAN`.
      in_training_distribution: Whether the model was trained on such a noise; None for other methods.
      params: The parameters of a baseline.
      metrics: Values `[num_images]` of each of `METRICS`.
      is_correct: Whether a classifier finds the denoised images' classes, bool `[num_images]`; empty where images are
        unlabeled.
      seconds: The time for denoising.
      example_output: The output for the image that figures show, `[height, width, channels]`.
    """

    method: str
    noise: str
    in_training_distribution: bool | None = None
    params: str = ""
    metrics: Mapping[str, np.ndarray] = dataclasses.field(default_factory=lambda: dict.fromkeys(METRICS, NO_VALUES))
    is_correct: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    seconds: float = 0.0
    example_output: np.ndarray | None = None

    @property
    def num_images(self) -> int:
        """The number of images that the method was evaluated on."""
        return len(self.metrics["psnr"])

    @property
    def classifier_accuracy(self) -> float | None:
        """The share of denoised images that the classifier classifies correctly; None where images are unlabeled."""
        return float(self.is_correct.mean()) if self.is_correct.size else None

    def mean(self, metric: str) -> float:
        """Returns the mean of a metric over the images."""
        return float(self.metrics[metric].mean(dtype="float64"))

    def add(
        self, batch: Batch, output: np.ndarray, seconds: float, classifier: SVMClassifier | None, example_index: int
    ) -> None:
        """Adds the metrics of the outputs for the next batch, so that no other outputs than the example's are kept.

        Args:
          batch: Clean images and their labels.
          output: The denoised images.
          seconds: How long they took.
          classifier: What finds the classes of denoised images; None where images are unlabeled.
          example_index: Of the test image that figures show.
        """
        if self.num_images <= example_index < self.num_images + len(output):
            self.example_output = center_crop(output[example_index - self.num_images], MAX_EXAMPLE_SIDE)
        metrics = _compute_metrics(tf.convert_to_tensor(batch["image"]), tf.convert_to_tensor(output))
        self.metrics = {name: np.append(values, metrics[name]) for name, values in self.metrics.items()}
        if classifier:
            self.is_correct = np.append(self.is_correct, classifier.is_correct(output, batch["label"]))
        self.seconds += seconds


def run_benchmark(context: EvalContext, noises: Sequence[str], example_index: int) -> list[BenchmarkResult]:
    """Evaluates every method on every noise; baselines only where there is noise to tune them on.

    Args:
      context: The models, their data set, and how many images baselines denoise.
      noises: As `--noise` takes them, or `CLEAN`.
      example_index: Of the test image whose outputs are kept, less than `context.baseline_images`.

    Returns:
      The results of the noisy input and of models noise by noise, then those of baselines.
    """
    images, labels = context.load("train")
    classifier = SVMClassifier(images, labels) if has_classes(labels, context.class_names) else None
    models = {THIS_MODEL: context.run} | dict(context.comparison_runs)
    denoisers = {NOISY_INPUT: lambda images: images.numpy()}
    denoisers |= {name: make_denoiser(each, context) for name, each in models.items()}
    tuned = _noises_to_tune_on(context, noises)
    results, first_batches = [], {text: FirstBatches.of(context, context.baseline_images) for text in tuned}
    with phase("denoising by models", len(noises), "noise") as bar:
        for text in noises:
            corruption = get_corruption(text)
            in_training = {name: is_in_training_distribution(each.noise, corruption) for name, each in models.items()}
            by_method = {name: BenchmarkResult(name, text, in_training.get(name)) for name in denoisers}
            # The batches are made only once.
            for batch in context.batches("test", corruption):
                for name, denoise in denoisers.items():
                    if not by_method[name].num_images:
                        denoise(batch["input"])  # The time for tracing does not count.
                    by_method[name].add(batch, *timed(denoise, batch["input"]), classifier, example_index)
                if text in first_batches:
                    first_batches[text].add(batch)
            results += by_method.values()
            bar.update()
    tests = {text: each.batches for text, each in first_batches.items()}
    return results + _run_baselines(context, tests, classifier, example_index)


def _noises_to_tune_on(context: EvalContext, noises: Sequence[str]) -> list[str]:
    """Returns the noises that validation images have as well; those of other pairs they have not."""
    is_known = {CLEAN: False, PAIRED: context.run.config.dataset.startswith(PAIRED_DATASETS)}
    return [text for text in noises if is_known.get(text, True)]


def is_in_training_distribution(trained: noise.OneOf | None, tested: noise.OneOf | None) -> bool:
    """Returns whether the noise that a model was trained on contains another; None stands for clean images."""
    if trained is None or tested is None:
        return trained is tested
    return trained.contains(tested)


def _run_baselines(
    context: EvalContext,
    tests: Mapping[str, Sequence[Batch]],
    classifier: SVMClassifier | None,
    example_index: int,
) -> list[BenchmarkResult]:
    """Returns the results of the baselines for test images by noise; parameters are tuned on the validation split."""
    cache = TuningCache(context.cache_dir)
    data = []
    for text, batches in tests.items():
        pair = _tuning_images(context, text)
        data.append(BaselineData(*pair, [batch["input"] for batch in batches], cache.read(*pair)))
    results = []
    for (text, batches), each, outputs in zip(tests.items(), data, baselines.run_baselines(data)):
        if each.params is None:
            cache.write(each.clean, each.noisy, {output.method: output.params for output in outputs})
        for output in outputs:
            params = ", ".join(f"{name}={value}" for name, value in output.params.items())
            results.append(BenchmarkResult(output.method, text, params=params))
            for batch, denoised in zip(batches, output.denoised):
                results[-1].add(batch, denoised, output.seconds / len(batches), classifier, example_index)
    return results


@dataclasses.dataclass
class FirstBatches:
    """The first images of a split under a noise, for the baselines.

    Attributes:
      max_images: How many images there are at most.
      max_values: How many values their pixels have at most; one batch may have more.
      batches: What was added.
      is_full: Whether nothing more is added.
    """

    max_images: int
    max_values: float
    batches: list[Batch] = dataclasses.field(default_factory=list)
    is_full: bool = False

    @classmethod
    def of(cls, context: EvalContext, max_images: int) -> "FirstBatches":
        """Returns an empty one; of whole images it takes `MAX_BASELINE_VALUES` at most."""
        return cls(max_images, MAX_BASELINE_VALUES if context.whole_images else float("inf"))

    def add(self, batch: Batch) -> None:
        """Adds the first images of a batch, as many as are still missing."""
        missing = self.max_images - sum(len(each["image"]) for each in self.batches)
        num_values = sum(each["image"].size for each in self.batches) + batch["image"].shape.num_elements()
        self.is_full |= not missing or (bool(self.batches) and num_values > self.max_values)
        if not self.is_full:
            self.batches.append({name: values[:missing].numpy() for name, values in batch.items()})


def _tuning_images(context: EvalContext, text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first clean and noisy validation images `[n, height, width, channels]`, or their centers."""
    indices = range(min(context.baseline_tuning_images, len(context.load("validation")[0])))
    first = FirstBatches.of(context, context.baseline_tuning_images)
    for batch in context.batches("validation", get_corruption(text), indices):
        first.add(batch)
        if first.is_full:
            break
    batches = first.batches
    sides = [side for batch in batches for side in batch["image"].shape[1:3]]
    side = min(TUNING_SIDE, *sides) if context.whole_images else max(sides)
    centers = {name: [center_crop(batch[name], side) for batch in batches] for name in ("image", "input")}
    return np.concatenate(centers["image"]), np.concatenate(centers["input"])


@tf.function(reduce_retracing=True)
def _compute_metrics(target: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: metric(target, output) for name, metric in METRICS.items()}
