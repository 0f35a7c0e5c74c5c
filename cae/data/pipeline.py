"""Images to batches, a step's batch being a function of the seed and the step.

A batch is {image, noisy: float32 [batch, height, width, channels] in 0..1, label: float32 [batch, classes], one-hot}.
Without noise the first two are the same; unlabelled images are all of one class.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from cae.data.noise import Corruption
from cae.data.records import Stretch
from cae.data.sources import Source, first_of

# Each use of randomness has a stream of its own, so that no two of them are alike by accident.
_TRAINING_NOISE, _EVALUATION_NOISE = 0, 1

SAMPLE = 1000
"""How many training images are measured the way validation images are, to show what is fitted but not learned."""


@dataclasses.dataclass(frozen=True)
class Feed:
    """What a model is fitted to.

    `training` gives the batches of the steps from one up to another; `validation` all of that split; `sample` the first
    training images, to be measured as those are; `images` is how many an epoch has.
    """

    training: Callable[[int, int], tf.data.Dataset]
    validation: tf.data.Dataset
    sample: tf.data.Dataset
    images: int
    batch_size: int

    def steps(self, epochs: int) -> int:
        """Returns how many steps show every image `epochs` times, the last of them maybe some images more."""
        return -(-epochs * self.images // self.batch_size)

    def epochs(self, steps: int) -> int:
        """Returns how many whole epochs so many steps have shown."""
        return steps * self.batch_size // self.images


def feed(source: Source, corrupt: Corruption | None, batch_size: int, seed: int) -> Feed:
    """Returns a data set's training and validation splits as batches."""
    images, labels = _split(source, "train")
    common = {"classes": max(len(source.class_names), 1), "corrupt": corrupt, "batch_size": batch_size, "seed": seed}

    def training(first_step: int, last_step: int) -> tf.data.Dataset:
        return training_batches(images, labels, first_step=first_step, last_step=last_step, **common)

    return Feed(
        training=training,
        validation=evaluation_batches(*_split(source, "validation"), **common),
        sample=evaluation_batches(images[:SAMPLE], labels if labels is None else labels[:SAMPLE], **common),
        images=len(images),
        batch_size=batch_size,
    )


def _split(source: Source, name: str) -> tuple[np.ndarray | Stretch, np.ndarray | None]:
    return (source.streamed.split(name), None) if source.streamed else source.read(name)


def held_out(source: Source, seed: int) -> Callable[..., tf.data.Dataset]:
    """Returns what gives a split's batches under a corruption, or under none: the same noise every time.

    It takes (split, corruption or nothing, positions of the images that are wanted, or nothing for all that
    `source.read` returns).
    """
    classes = max(len(source.class_names), 1)

    def batches(split: str, corrupt: Corruption | None, only: Sequence[int] | None = None) -> tf.data.Dataset:
        images, labels = (first_of(source.streamed, split), None) if source.streamed else source.read(split)
        common = {"classes": classes, "corrupt": corrupt, "batch_size": 256, "seed": seed}
        return evaluation_batches(images, labels, only=only, **common)

    return batches


def training_batches(
    images: np.ndarray | Stretch,
    labels: np.ndarray | None,
    *,
    classes: int,
    corrupt: Corruption | None,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
) -> tf.data.Dataset:
    """Returns the batches of the steps from `first_step` up to, not including, `last_step`.

    Images come in a fresh order every epoch, each of them once, with fresh noise every step. The epochs follow each
    other without a gap, so that every batch is full: one may hold the end of an epoch and the start of the next.
    Starting late costs nothing. images: uint8 [n, height, width, channels]; labels: int64 [n]; or records, which have
    both, and nothing: the batches are the same.
    """
    total, take = len(images), _taker(images, labels)

    def batch_of(step: tf.Tensor) -> dict[str, tf.Tensor]:
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        epochs = positions // total
        shuffles = tf.stack([tf.fill([batch_size], tf.constant(seed, tf.int64)), epochs, 0 * epochs], axis=1)
        # A seed for each position: `tf.random.experimental.index_shuffle` takes but one for all.
        indices = tf.raw_ops.RandomIndexShuffle(index=positions % total, seed=shuffles, max_index=total - 1, rounds=4)
        pixels, numbers = take(indices)
        clean = _scaled(pixels)
        noisy = corrupt(clean, _noise_seed(seed, _TRAINING_NOISE, step)) if corrupt else clean
        return {"image": clean, "noisy": noisy, "label": tf.one_hot(numbers, classes)}

    return _deterministic(tf.data.Dataset.range(first_step, last_step).map(batch_of, tf.data.AUTOTUNE).prefetch(4))


def evaluation_batches(
    images: np.ndarray | Stretch,
    labels: np.ndarray | None,
    *,
    classes: int,
    corrupt: Corruption | None,
    batch_size: int,
    seed: int,
    only: Sequence[int] | None = None,
) -> tf.data.Dataset:
    """Returns every image once, in order, or those at the positions `only`; the last batch holds what is left.

    An image's noise is a function of the seed and its position, whatever the batch size: every method that is
    evaluated with a noise sees the same noisy images. images, labels: as `training_batches` takes them.
    """
    take = _taker(images, labels)

    def batch_of(indices: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels, numbers = take(indices)
        clean = _scaled(pixels)
        noisy = tf.map_fn(corrupted, (clean, indices), fn_output_signature=tf.float32) if corrupt else clean
        return {"image": clean, "noisy": noisy, "label": tf.one_hot(numbers, classes)}

    def corrupted(image_and_index: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, index = image_and_index
        return corrupt(image[None], _noise_seed(seed, _EVALUATION_NOISE, index))[0]

    indices = tf.data.Dataset.range(len(images))
    if only is not None:
        indices = tf.data.Dataset.from_tensor_slices(np.asarray(only, np.int64))
    indices = indices.batch(batch_size)
    return _deterministic(indices.map(batch_of, tf.data.AUTOTUNE).prefetch(4))


def _taker(
    images: np.ndarray | Stretch, labels: np.ndarray | None
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns what gives the images and labels at positions, int64 [n], within a graph."""
    if isinstance(images, Stretch):

        def read(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            pixels, numbers = tf.numpy_function(images.take, [positions], (tf.uint8, tf.int64), stateful=False)
            return tf.ensure_shape(pixels, [*positions.shape, *images.image_shape]), tf.ensure_shape(
                numbers, positions.shape
            )

        return read
    with tf.device("CPU"):
        images, labels = tf.constant(images), tf.constant(labels)
    return lambda positions: (tf.gather(images, positions), tf.gather(labels, positions))


def _scaled(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0


def _noise_seed(seed: int, stream: int, position: tf.Tensor) -> tf.Tensor:
    """Returns a seed [2] that is a function of all three."""
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, stream], tf.int64), position)


def _deterministic(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Replicas take slices of the same batch; files, which are what is sharded otherwise, there are none.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.with_options(options)
