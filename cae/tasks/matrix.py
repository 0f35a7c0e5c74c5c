"""Every method at every noise: the model, other models, and denoising without learning, on the same noisy images."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from cae.data import noise
from cae.metrics import QUALITIES
from cae.tasks import CLEAN, classical
from cae.tasks.classifier import Classifier, can_learn
from cae.tasks.subject import Subject
from cae.tasks.tuning import TuningCache

NOISY, OURS = "noisy input", "this model"


@dataclasses.dataclass(frozen=True)
class Cell:
    """What one method made of the first `images` test images under one noise.

    qualities: [images] by name; correct: whether a classifier knew the cleaned images' classes, [images], or nothing
    where they are unlabelled; seen: whether a model was trained on the noise, nothing for other methods; specimen: the
    output for the image that stands for all, [height, width, channels].
    """

    method: str
    noise: str
    qualities: dict[str, np.ndarray]
    correct: np.ndarray | None
    seconds: float
    specimen: np.ndarray
    seen: bool | None = None
    setting: str = ""

    @property
    def images(self) -> int:
        """How many images the method was tried on."""
        return len(self.qualities["psnr"])

    def mean(self, quality: str) -> float:
        """Returns the mean of a quality over the images."""
        return float(self.qualities[quality].mean(dtype="float64"))


def measure(subject: Subject, columns: Sequence[str], specimen: int) -> list[Cell]:
    """Returns the cells of all columns: noises as `noise.parse` takes them, or `CLEAN`.

    specimen: the position of the test image that stands for all, less than `subject.rival_images`.
    """
    classifier = _classifier(subject)
    models = {OURS: subject.trained} | dict(subject.others)
    methods = {NOISY: tf.identity} | {name: tf.function(each.model) for name, each in models.items()}
    learned = [_learned(subject, column, methods, classifier, specimen) for column in columns]
    others = _without_learning(subject, [column for column in columns if column != CLEAN], classifier, specimen)
    return [cell for cells in [*learned, *others] for cell in cells]


def _classifier(subject: Subject) -> Classifier | None:
    images, labels = subject.read("train")
    return Classifier(images, labels) if can_learn(labels, subject.class_names) else None


def _learned(
    subject: Subject,
    column: str,
    methods: Mapping[str, Callable[[tf.Tensor], tf.Tensor]],
    classifier: Classifier | None,
    specimen: int,
) -> list[Cell]:
    """Returns the cells of the noisy input, of the model and of those it is compared with, over all test images."""
    recipe = None if column == CLEAN else noise.parse(column)
    tallies = {name: _Tally(classifier, specimen) for name in methods}
    for batch in subject.batches("test", recipe):
        for name, clean_up in methods.items():
            if not tallies[name].counted:
                clean_up(batch["noisy"])  # Tracing does not count.
            start = time.perf_counter()
            output = clean_up(batch["noisy"]).numpy()
            tallies[name].add(batch, output, time.perf_counter() - start)
    models = {OURS: subject.trained} | dict(subject.others)
    seen = {name: covers(each.noise, recipe) for name, each in models.items()}
    return [tally.cell(name, column, seen.get(name)) for name, tally in tallies.items()]


def covers(trained: noise.Recipe | None, tried: noise.Recipe | None) -> bool:
    """Returns whether a model that was trained on one noise, or on clean images, has seen the other."""
    if trained is None or tried is None:
        return trained is tried
    return trained.covers(tried)


def _without_learning(
    subject: Subject, columns: Sequence[str], classifier: Classifier | None, specimen: int
) -> Iterator[list[Cell]]:
    cache = TuningCache(subject.cache_dir)
    tests = [_first(subject, "test", column, subject.rival_images) for column in columns]
    tuning = [_first(subject, "validation", column, subject.baseline_tuning_images) for column in columns]
    pairs = [(each["image"], each["noisy"]) for each in tuning]
    known = [cache.read(*each) for each in pairs]
    work = [classical.Column(*each, test["noisy"], settings) for each, test, settings in zip(pairs, tests, known)]
    for column, test, each, settings, attempts in zip(columns, tests, pairs, known, classical.attempts(work)):
        if settings is None:
            cache.write(*each, {made.method: made.setting for made in attempts})
        yield [_tallied(test, column, made, classifier, specimen) for made in attempts]


def _tallied(
    test: dict[str, np.ndarray],
    column: str,
    made: classical.Attempt,
    classifier: Classifier | None,
    specimen: int,
) -> Cell:
    """Returns the cell of a method without learning."""
    tally = _Tally(classifier, specimen)
    tally.add(test, made.cleaned, made.seconds)
    setting = ", ".join(f"{name}={value}" for name, value in made.setting.items())
    return tally.cell(made.method, column, None, setting)


def _first(subject: Subject, split: str, column: str, count: int) -> dict[str, np.ndarray]:
    """Returns the first images of a split as one batch."""
    positions = range(min(count, len(subject.read(split)[0])))
    batches = [*subject.batches(split, noise.parse(column), positions)]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


class _Tally:
    """What a method comes to, batch by batch, so that no more outputs are held than those of one."""

    def __init__(self, classifier: Classifier | None, specimen: int):
        self.counted = 0
        self._classifier, self._position = classifier, specimen
        self._qualities, self._correct, self._seconds, self._specimen = [], [], 0.0, None

    def add(self, batch: dict[str, tf.Tensor], output: np.ndarray, seconds: float) -> None:
        """Counts the outputs for a batch, which took so long."""
        if 0 <= self._position - self.counted < len(output):
            self._specimen = output[self._position - self.counted]
        self._qualities.append(_qualities(tf.convert_to_tensor(batch["image"]), tf.convert_to_tensor(output)))
        if self._classifier:
            self._correct.append(self._classifier.knows(output, np.argmax(batch["label"], axis=1)))
        self._seconds += seconds
        self.counted += len(output)

    def cell(self, method: str, column: str, seen: bool | None, setting: str = "") -> Cell:
        """Returns what it all came to."""
        qualities = {name: np.concatenate([each[name] for each in self._qualities]) for name in QUALITIES}
        correct = np.concatenate(self._correct) if self._correct else None
        return Cell(method, column, qualities, correct, self._seconds, self._specimen, seen, setting)


@tf.function(reduce_retracing=True)
def _qualities(target: tf.Tensor, output: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: of(target, output) for name, of in QUALITIES.items()}
