"""Neighbor2Neighbor (Huang et al. 2021): a denoiser trained on noisy images alone, by pairs of subsampled images.

Of each cell of 2x2 pixels, one goes to one image of half the size, and a neighbor of it to another one: two images of
nearly the same content, whose noise is independent if it is so from pixel to pixel. One is restored to the other, as
in Noise2Noise; a regularizer makes up for the difference in content.
"""

import keras
import tensorflow as tf

from cae.models.layers import space_to_depth
from cae.training.distribution import Batch
from cae.training.objectives import MicrobatchRng, Objective

REGULARIZER_WEIGHT = 1.0
"""The mean of the weights, 0 to 2, by which the authors raise it during training on Gaussian noise."""

NEIGHBORS = ((0, 1), (1, 0), (0, 2), (2, 0), (1, 3), (3, 1), (2, 3), (3, 2))
"""Ordered pairs of pixels of a cell that share a side; pixels are counted row by row."""


class Neighbor2Neighbor(Objective):
    """Minimizes the loss of one subsampled noisy image against another one; no clean image is used."""

    def losses(
        self, model: keras.Model, batch: Batch, rng: MicrobatchRng | None = None, critic: keras.Model | None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes the loss of each image; in an evaluation the output is that for the whole image."""
        noisy = batch["input"]
        sides = noisy.shape[1:3] if rng else tf.unstack(tf.shape(noisy)[1:3])
        places = self.sample_uniform(rng, tf.shape(noisy)[0], *(side // 2 for side in sides))
        first, second = subsample(noisy, places)
        restored = model(first, training=rng is not None)
        whole = tf.stop_gradient(model(noisy, training=rng is not None))
        content_change = tf.subtract(*subsample(whole, places))
        regularizer = tf.reduce_mean(tf.square(restored - second - content_change), axis=(1, 2, 3))
        return whole, {"loss": self.loss_fn(second, restored) + REGULARIZER_WEIGHT * regularizer}


def subsample(images: tf.Tensor, places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns two images of half the size, of two neighboring pixels of each cell.

    Args:
      images: [batch, height, width, channels]; the last row and column of an odd size are left out.
      places: Random values in 0..1, 1 excluded, [batch, height // 2, width // 2], which choose among `NEIGHBORS`.
    """
    shape = tf.shape(places)
    cells = space_to_depth(images[:, : 2 * shape[1], : 2 * shape[2]])
    cells = tf.reshape(cells, [*tf.unstack(shape), 4, images.shape[-1]])
    pairs = tf.gather(tf.constant(NEIGHBORS), tf.cast(places * len(NEIGHBORS), tf.int32))
    return tuple(tf.gather(cells, pairs[..., side], batch_dims=3, axis=3) for side in (0, 1))
