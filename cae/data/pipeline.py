"""Batches of images; the batch of a step is a function of the seed and the step.

Training batches are {image, input}, evaluation batches {image, input, label}: `image` is the target and `input` what
the model sees, both float32 [batch, height, width, channels], equal without a corruption or a pair, and in 0..1 unless
noise is not clipped; `label` is int64 [batch]. `one_hot_labels` makes labels one-hot. Where a model is trained without
clean images, `noisy_target` is `image` with other noise than `input`.

Where a data set has `crops`, training batches are crops of images, and in evaluation each image is a batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from cae.data.crops import make_center_gather, make_crop_sample
from cae.data.full_resolution import FullResolutionSplit
from cae.data.image_dataset import ImageDataset
from cae.data.noise import Corruption
from cae.data.records import RecordSplit
from cae.data.splits import ArraySplit, Split

# Each use of randomness has its own stream, so that no two are correlated by accident.
_TRAINING_NOISE, _EVALUATION_NOISE, _TARGET_NOISE = 0, 1, 4

TRAIN_EVAL_EXAMPLES = 1000
"""Number of training images that are evaluated as validation images are, to show overfitting; no more than of those."""

MAX_SAMPLE_EXAMPLES = 100_000
"""Number of training images from which clusters are computed."""

EVAL_BATCH_SIZE, NUM_PREFETCHED = 256, 4

MAX_VALIDATION_SIDE, NUM_SUMMARY_EXAMPLES = 512, 8
"""Of larger images the center is validated; and of how many images TensorBoard shows the center."""

Gather = Callable[[tf.Tensor], tuple[tf.Tensor, ...]]
"""Takes indices, int64 [batch], within a graph, and returns images, uint8, and labels, int64; of pairs also inputs."""

Sample = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]
"""Takes indices, int64 [batch], and a seed [2] within a graph; returns training images, uint8, and inputs of pairs."""


@dataclasses.dataclass(frozen=True)
class TrainData:
    """The data that a model is trained on.

    Attributes:
      train: Takes a first and a last step, and returns the batches from the one up to, not including, the other.
      make_validation: Returns `validation`; it and the next two are traced when they are first needed.
      make_train_eval: Returns `train_eval`.
      make_sample: Returns `sample`.
      num_images: Number of images in an epoch.
      batch_size: Number of images in a training batch.
      examples: A batch of validation images of one size, where those of `validation` differ.
    """

    train: Callable[[int, int], tf.data.Dataset]
    make_validation: Callable[[], tf.data.Dataset]
    make_train_eval: Callable[[], tf.data.Dataset]
    make_sample: Callable[[], tf.data.Dataset]
    num_images: int
    batch_size: int
    examples: tf.data.Dataset | None = None

    @functools.cached_property
    def validation(self) -> tf.data.Dataset:
        """Batches of the validation split."""
        return self.make_validation()

    @functools.cached_property
    def train_eval(self) -> tf.data.Dataset:
        """Batches of the first training images, to be evaluated as `validation` is."""
        return self.make_train_eval()

    @functools.cached_property
    def sample(self) -> tf.data.Dataset:
        """Batches of at most `MAX_SAMPLE_EXAMPLES` clean training images, evenly spaced."""
        return self.make_sample()

    def num_steps(self, epochs: int) -> int:
        """Returns the number of steps in which every image occurs `epochs` times; the last batch may exceed that."""
        return -(-epochs * self.num_images // self.batch_size)


def make_train_data(
    dataset: ImageDataset, corruption: Corruption | None, batch_size: int, seed: int, noisy_target: bool = False
) -> TrainData:
    """Returns the batches of a data set's train and validation splits; `noisy_target` says whether they have one."""
    if dataset.crops:
        return _make_crop_data(dataset, corruption, batch_size, seed, noisy_target)
    train, num_images = dataset.splits["train"], len(dataset.splits["train"])
    gather, gather_validation = make_gather(train), make_gather(dataset.splits["validation"])
    options = corruption, batch_size, seed, noisy_target

    num_validation = len(dataset.splits["validation"])

    def evaluate(gather: Gather, count: int) -> Callable[[], tf.data.Dataset]:
        return lambda: evaluation_batches(gather, range(count), *options)

    return TrainData(
        train=_make_train_batches(lambda indices, seed: gather(indices)[:1], num_images, *options),
        make_validation=evaluate(gather_validation, num_validation),
        make_train_eval=evaluate(gather, min(TRAIN_EVAL_EXAMPLES, num_images, num_validation)),
        make_sample=lambda: evaluation_batches(
            gather, range(0, num_images, -(-num_images // MAX_SAMPLE_EXAMPLES)), None, EVAL_BATCH_SIZE, seed
        ),
        num_images=num_images,
        batch_size=batch_size,
    )


def _make_crop_data(
    dataset: ImageDataset, corruption: Corruption | None, batch_size: int, seed: int, noisy_target: bool
) -> TrainData:
    """Returns the batches of a data set of images: crops to train on, and images to evaluate."""
    train, validation, crops = dataset.splits["train"], dataset.splits["validation"], dataset.crops
    num_images, indices = len(train) * crops.per_image, range(len(validation))

    def evaluate(split: FullResolutionSplit, indices: range, max_side: int, batch_size: int = 1) -> tf.data.Dataset:
        return evaluation_batches(
            make_center_gather(split, max_side), indices, corruption, batch_size, seed, noisy_target
        )

    return TrainData(
        train=_make_train_batches(
            make_crop_sample(train, crops), num_images, corruption, batch_size, seed, noisy_target
        ),
        make_validation=lambda: evaluate(validation, indices, MAX_VALIDATION_SIDE),
        make_train_eval=lambda: evaluate(train, indices[: len(train)], MAX_VALIDATION_SIDE),
        make_sample=lambda: evaluate(train, range(len(train)), crops.size, EVAL_BATCH_SIZE),
        num_images=num_images,
        batch_size=batch_size,
        examples=evaluate(validation, indices[:NUM_SUMMARY_EXAMPLES], crops.size, NUM_SUMMARY_EXAMPLES),
    )


def _make_train_batches(sample: Sample, *options: Any) -> Callable[[int, int], tf.data.Dataset]:
    """Returns `TrainData.train`; the options are those of `training_batches`."""
    return lambda first, last: training_batches(tf.data.Dataset.range(first, last), sample, *options)


def make_eval_batches(
    dataset: ImageDataset, seed: int, batch_size: int = EVAL_BATCH_SIZE
) -> Callable[..., tf.data.Dataset]:
    """Returns a function that gives a split's batches under a corruption, with the same noise every time.

    Returns:
      `batches(split, corruption, indices=None)`: a split's name, a corruption or None, and the indices of the images,
      by default of all that `dataset.load` returns.
    """

    def batches(split: str, corruption: Corruption | None, indices: Sequence[int] | None = None) -> tf.data.Dataset:
        if dataset.crops:
            indices = range(len(dataset.splits[split])) if indices is None else indices
            return evaluation_batches(make_center_gather(dataset.splits[split]), indices, corruption, 1, seed)
        images, labels = dataset.load(split)
        gather = make_gather(ArraySplit(len(images), split, lambda: [(images, labels)]))
        indices = range(len(images)) if indices is None else indices
        return evaluation_batches(gather, indices, corruption, batch_size, seed)

    return batches


def one_hot_labels(batches: tf.data.Dataset, num_classes: int) -> tf.data.Dataset:
    """Returns evaluation batches whose `label` is one-hot: float32 [batch, num_classes]."""
    return batches.map(lambda batch: batch | {"label": tf.one_hot(batch["label"], num_classes)})


def make_gather(split: Split) -> Gather:
    """Returns what takes a split's images and labels by index: from records, or from memory."""
    if isinstance(split, RecordSplit):

        def gather(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            images, labels = tf.numpy_function(split.take, [indices], (tf.uint8, tf.int64), stateful=False)
            shape = [*indices.shape, *split.records.image_shape]
            return tf.ensure_shape(images, shape), tf.ensure_shape(labels, indices.shape)

        return gather
    with tf.device("CPU"):
        images, labels = map(tf.constant, split.load())
    return lambda indices: (tf.gather(images, indices), tf.gather(labels, indices))


def training_batches(
    steps: tf.data.Dataset,
    sample: Sample,
    num_images: int,
    corruption: Corruption | None,
    batch_size: int,
    seed: int,
    noisy_target: bool = False,
) -> tf.data.Dataset:
    """Returns the batches of some steps, int64.

    Each epoch has every image once, in a new order, and each step new noise. Epochs follow each other without a gap:
    every batch is full, and one may contain the end of an epoch and the start of the next. The first batch takes the
    same time whatever its step.
    """

    def make_batch(step: tf.Tensor) -> dict[str, tf.Tensor]:
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        epochs = positions // num_images
        shuffles = tf.stack([tf.fill([batch_size], tf.constant(seed, tf.int64)), epochs, 0 * epochs], axis=1)
        # A seed for each position: `tf.random.experimental.index_shuffle` takes one for all.
        indices = tf.raw_ops.RandomIndexShuffle(
            index=positions % num_images, seed=shuffles, max_index=num_images - 1, rounds=4
        )
        step_seed = _fold_in(seed, _TRAINING_NOISE, step)
        image, *inputs = map(_scale, sample(indices, step_seed))
        batch = {"image": image, "input": corruption(image, step_seed) if corruption else [image, *inputs][-1]}
        return batch | ({"noisy_target": corruption(image, _other_seed(step_seed))} if noisy_target else {})

    return _deterministic(steps.map(make_batch, tf.data.AUTOTUNE))


def evaluation_batches(
    gather: Gather,
    indices: Sequence[int],
    corruption: Corruption | None,
    batch_size: int,
    seed: int,
    noisy_target: bool = False,
) -> tf.data.Dataset:
    """Returns the images at some indices, in order; the last batch has the rest.

    An image's noise is a function of the seed and its index, whatever the batch size: all methods that are evaluated
    with a corruption see the same images.
    """

    def make_batch(indices: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels, labels, *inputs = gather(indices)
        image = _scale(pixels)
        corrupted = _scale(inputs[0]) if inputs else image
        if corruption:
            corrupted = corrupt(image, indices, lambda seed: seed)
        batch = {"image": image, "input": tf.ensure_shape(corrupted, image.shape), "label": labels}
        return batch | ({"noisy_target": corrupt(image, indices, _other_seed)} if noisy_target else {})

    def corrupt(images: tf.Tensor, indices: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
        def corrupt_one(image_and_index: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            image, index = image_and_index
            return corruption(image[None], change(_fold_in(seed, _EVALUATION_NOISE, index)))[0]

        return tf.map_fn(corrupt_one, (images, indices), fn_output_signature=tf.float32)

    if isinstance(indices, range):
        dataset = tf.data.Dataset.range(indices.start, indices.stop, indices.step)
    else:
        dataset = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64))
    # Images may be large: the next one is read while one is evaluated.
    num_parallel, num_prefetched = (1, 1) if batch_size == 1 else (tf.data.AUTOTUNE, NUM_PREFETCHED)
    return _deterministic(dataset.batch(batch_size).map(make_batch, num_parallel), num_prefetched)


def _scale(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0


def _fold_in(seed: int, stream: int, index: tf.Tensor) -> tf.Tensor:
    """Returns a seed [2] that is a function of all three."""
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, stream], tf.int64), index)


def _other_seed(seed: tf.Tensor) -> tf.Tensor:
    """Returns the seed of the target's noise by that of the input's."""
    return tf.random.experimental.stateless_fold_in(seed, _TARGET_NOISE)


def _deterministic(dataset: tf.data.Dataset, num_prefetched: int = NUM_PREFETCHED) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Replicas take slices of the same batch; there are no files to distribute.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(num_prefetched).with_options(options)
