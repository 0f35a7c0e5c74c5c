"""Random crops and centers of images of any sizes as graph functions, of which `cae.data.pipeline` makes batches."""

import sys
from collections.abc import Callable, Sequence

import tensorflow as tf

from cae.data.full_resolution import Crops, FullResolutionSplit

_CROP_STREAM = 3
"""Separates the places of crops from the noise of the same step."""


def make_center_gather(
    split: FullResolutionSplit, max_side: int = sys.maxsize
) -> Callable[[tf.Tensor], tuple[tf.Tensor, ...]]:
    """Returns what takes images by index within a graph, whole or their centers; those of a batch have one size.

    Args:
      split: The images.
      max_side: Of larger images the center of this height and width is taken.

    Returns:
      A function of indices, int64 [batch]: targets, uint8 [batch, height, width, channels]; labels of 0, int64 [batch];
      of pairs also inputs.
    """

    def gather(indices: tf.Tensor) -> tuple[tf.Tensor, ...]:
        take = lambda indices: split.take_centers(indices, max_side)  # noqa: E731
        stacks = tf.numpy_function(take, [indices], tf.uint8, stateful=False)
        image, *inputs = _unstack(stacks, split, [*indices.shape, None, None])
        return image, tf.zeros_like(indices), *inputs

    return gather


def make_crop_sample(
    split: FullResolutionSplit, crops: Crops
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]:
    """Returns what cuts crops at random places out of images within a graph.

    Returns:
      A function of indices, int64 [batch], which begin again after the last image, and a seed [2]: targets, uint8
      [batch, size, size, channels]; of pairs also inputs.
    """

    def sample(indices: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        seed = tf.random.experimental.stateless_fold_in(seed, _CROP_STREAM)
        places = tf.random.stateless_uniform([*indices.shape, 4], seed)
        take = lambda indices, places: split.take_crops(indices, places, crops)  # noqa: E731
        stacks = tf.numpy_function(take, [indices % len(split), places], tf.uint8, stateful=False)
        return _unstack(stacks, split, [*indices.shape, crops.size, crops.size])

    return sample


def _unstack(stacks: tf.Tensor, split: FullResolutionSplit, shape: Sequence[int | None]) -> tuple[tf.Tensor, ...]:
    """Returns each take of stacks [batch, takes, height, width, channels], whose shape without channels is given."""
    num_takes, *_, channels = split.stacks[0].shape
    return tuple(tf.ensure_shape(stacks[:, take], [*shape, channels]) for take in range(num_takes))
