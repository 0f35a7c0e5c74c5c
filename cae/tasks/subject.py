"""What every task is given: a fitted model and the images to try it on; and how both are put together."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from cae.data.noise import Corruption
from cae.metrics import QUALITIES
from cae.report.page import Row


@dataclasses.dataclass(frozen=True)
class Subject:
    """A fitted model and its data set's test split.

    `batches` gives the split with a corruption, or with none, the same noise every time; `noise` is the corruption that
    denoising is tried on and `noise_name` says it in words; `class_names` is empty where images are unlabelled;
    `max_examples` is how many of them figures show.
    """

    model: keras.Model
    batches: Callable[[Corruption | None], tf.data.Dataset]
    noise: Corruption
    noise_name: str
    class_names: Sequence[str]
    max_examples: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a model made of a split.

    qualities: those of the output against the target, and `input_qualities` those of the model's input, [n] by name;
    classes: int [n]; examples: {image, noisy, output: [k, height, width, channels], latent: [k, latent_dim]} of the
    examples at `chosen`, [k].
    """

    qualities: dict[str, np.ndarray]
    input_qualities: dict[str, np.ndarray]
    classes: np.ndarray
    chosen: np.ndarray
    examples: dict[str, np.ndarray]


def try_out(subject: Subject, corruption: Corruption | None) -> Outcome:
    """Runs the model over the test split. Images are dropped once measured, but for the examples."""
    model = subject.model

    @tf.function(reduce_retracing=True)
    def measured(batch: dict[str, tf.Tensor]) -> dict[str, dict[str, tf.Tensor]]:
        latent = model.encode(batch["noisy"])
        output = model.decode(latent)
        return {
            "qualities": {name: of(batch["image"], output) for name, of in QUALITIES.items()},
            "input_qualities": {name: of(batch["image"], batch["noisy"]) for name, of in QUALITIES.items()},
            "pictures": {"image": batch["image"], "noisy": batch["noisy"], "output": output, "latent": latent},
            "classes": {"class": tf.argmax(batch["label"], axis=1)},
        }

    seen, kept, taken = [], [], {}
    for batch in subject.batches(corruption):
        result = tf.nest.map_structure(lambda tensor: tensor.numpy(), measured(batch))
        pictures, classes = result.pop("pictures"), result["classes"]["class"]
        for position in _fresh(classes, taken, _share(subject)):
            number = sum(len(each["classes"]["class"]) for each in seen) + position
            kept.append((classes[position], number, {name: values[position] for name, values in pictures.items()}))
        seen.append(result)
    kept.sort(key=lambda example: example[:2])
    joined = tf.nest.map_structure(lambda *parts: np.concatenate(parts), *seen)
    kept = kept[: subject.max_examples]
    examples = {name: np.stack([pictures[name] for *_, pictures in kept]) for name in kept[0][2]}
    chosen = np.array([number for _, number, _ in kept])
    return Outcome(joined["qualities"], joined["input_qualities"], joined["classes"]["class"], chosen, examples)


def rows_by_class(outcome: Outcome, class_names: Sequence[str]) -> list[Row]:
    """Returns a row for each class that has images: class, images, mse, psnr, ssim; none for unlabelled images."""
    rows = []
    for label, name in enumerate(class_names):
        members = outcome.classes == label
        if members.any():
            means = {key: float(values[members].mean(dtype="float64")) for key, values in outcome.qualities.items()}
            rows.append({"class": name, "images": int(members.sum())} | means)
    return rows


def _share(subject: Subject) -> int:
    """Returns how many examples a class may have, so that all of them get to be seen."""
    return -(-subject.max_examples // max(len(subject.class_names), 1))


def _fresh(classes: np.ndarray, taken: dict[int, int], share: int) -> list[int]:
    """Returns the positions of images whose class has examples left to give, and counts them in `taken`."""
    positions = []
    for position, each in enumerate(classes.tolist()):
        if taken.get(each, 0) < share:
            taken[each] = taken.get(each, 0) + 1
            positions.append(position)
    return positions
