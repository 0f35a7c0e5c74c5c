"""What every task is given: a fitted model and the images to try it on; and how both are put together."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cae.data.noise import Recipe
from cae.metrics import QUALITIES
from cae.outliers.detector import Detector
from cae.report.page import Row
from cae.tasks import TSNE_IMAGES

Batches = Callable[..., tf.data.Dataset]
"""(split, corruption or nothing, positions or nothing for all) to batches, the same noise every time."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A fitted model, and the noise that it was trained on: nothing for clean images."""

    model: keras.Model
    noise: Recipe | None


@dataclasses.dataclass(frozen=True)
class Screening:
    """What outlier detection is tried with.

    detector: fitted and calibrated; labelled: images of other data sets by name, uint8 [n, h, w, c]; left_out: test
    images of classes that were not trained on, or nothing; skipped: why other sets are not here, by name; images: how
    many test images outliers are made of, at most; seed: of what is drawn at random.
    """

    detector: Detector
    labelled: Mapping[str, np.ndarray]
    left_out: np.ndarray | None
    skipped: Mapping[str, str]
    images: int
    seed: int


@dataclasses.dataclass(frozen=True)
class Interpolation:
    """What interpolation is tried with.

    degrees: of mixing, rising, [n] in 0..1; pairs: how many of each kind; seed: of their choice; judge: scores paths
    [pairs, degrees, h, w, c], where a data set knows what lies between its images, and wants so many even degrees.
    """

    degrees: np.ndarray
    pairs: int
    seed: int
    judge: Callable[[np.ndarray], Mapping[str, float]] | None = None


@dataclasses.dataclass(frozen=True)
class Subject:
    """A fitted model, its data set, and what to compare it with.

    `batches` gives a split's batches, `read` its images and labels; `noises` is what denoising is tried on, as
    `noise.parse` takes them, the first of them in most detail; `class_names` is empty where images are unlabelled;
    `max_examples` is how many of them figures show, and `rival_images` on how many methods without learning are tried,
    after they were tuned on `baseline_tuning_images` of the validation split, with `cache_dir` for what was chosen;
    `kmeans_n_init` is how often k-means is begun, nothing for what time allows, and `tsne_images` how many images are
    on the maps of latent vectors, 0 for a map without t-SNE; `screening` is what outlier detection is tried with,
    `interpolation` what interpolation is.
    """

    trained: Trained
    batches: Batches
    read: Callable[[str], tuple[np.ndarray, np.ndarray]]
    noises: Sequence[str]
    class_names: Sequence[str]
    max_examples: int
    others: Mapping[str, Trained] = dataclasses.field(default_factory=dict)
    rival_images: int = 0
    baseline_tuning_images: int = 64
    cache_dir: Path | None = None
    kmeans_n_init: int | None = None
    tsne_images: int = TSNE_IMAGES
    screening: Screening | None = None
    interpolation: Interpolation | None = None


def measure(subject: Subject, corruption: Recipe | None) -> dict[str, np.ndarray]:
    """Returns the qualities of the model's outputs for the test split, [n] by name."""

    @tf.function(reduce_retracing=True)
    def qualities(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        output = subject.trained.model(batch["noisy"])
        return {name: of(batch["image"], output) for name, of in QUALITIES.items()}

    measured = [qualities(batch) for batch in subject.batches("test", corruption)]
    return {name: np.concatenate([each[name] for each in measured]) for name in QUALITIES}


def chosen(subject: Subject) -> np.ndarray:
    """Returns the positions of the test images that are shown: the first of each class, as many of all, by class."""
    _, labels = subject.read("test")
    share = -(-subject.max_examples // max(len(subject.class_names), 1))
    first = [np.flatnonzero(labels == label)[:share] for label in np.unique(labels)]
    return np.concatenate(first)[: subject.max_examples]


def examples(subject: Subject, corruption: Recipe | None, positions: Sequence[int]) -> dict[str, np.ndarray]:
    """Returns some test images, and what the model made of them.

    image, noisy, output: [n, height, width, channels]; latent: [n, latent_dim], where the model has latent vectors.
    """
    model = subject.trained.model
    batch = next(iter(subject.batches("test", corruption, positions).unbatch().batch(len(positions))))
    shown = {"image": batch["image"], "noisy": batch["noisy"], "output": model(batch["noisy"])}
    if hasattr(model, "encode"):
        shown["latent"] = model.encode(batch["noisy"])
    return {name: values.numpy() for name, values in shown.items()}


def captions(subject: Subject, positions: Sequence[int]) -> list[str]:
    """Returns the names of some test images' classes; nothing where they are unlabelled."""
    _, labels = subject.read("test")
    return [subject.class_names[labels[position]] for position in positions] if subject.class_names else []


def rows_by_class(subject: Subject, qualities: dict[str, np.ndarray]) -> list[Row]:
    """Returns a row for each class that has test images: class, images, mse, psnr, ssim; none for unlabelled images."""
    _, labels = subject.read("test")
    rows = []
    for label, name in enumerate(subject.class_names):
        members = labels == label
        if members.any():
            means = {key: float(values[members].mean(dtype="float64")) for key, values in qualities.items()}
            rows.append({"class": name, "images": int(members.sum())} | means)
    return rows
