"""Noise2Void (Krull, Buchholz and Jug 2019): a denoiser trained on noisy images alone, by blind spots.

Some pixels of the noisy image are replaced by neighbors, and the model has to restore them. Noise that is independent
from pixel to pixel cannot be predicted from the others, the image can: the model learns to return the image.
"""

import keras
import tensorflow as tf

from cae.training.distribution import Batch
from cae.training.objectives import MicrobatchRng, Objective

CELL_SIZE = 8
"""One pixel is replaced in each cell of about this height and width: 1.6% of them, spread evenly."""

RADIUS = 2
"""A neighbor is from the window of 5x5 around a pixel, without its center."""


class Noise2Void(Objective):
    """Minimizes the reconstruction loss of replaced pixels against the noisy image; no clean image is used."""

    def losses(
        self, model: keras.Model, batch: Batch, rng: MicrobatchRng | None = None, critic: keras.Model | None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes the loss of each image; in an evaluation the output is that for the image with all its pixels."""
        noisy = batch["input"]
        shape = tf.shape(noisy)
        num_cells = tuple(-(-side // CELL_SIZE) for side in (noisy.shape[1:3] if rng else (shape[1], shape[2])))
        places = self.sample_uniform(rng, shape[0], *num_cells, 3)
        pixels, neighbors = choose_pixels(places, (shape[1], shape[2]))
        blind = tf.tensor_scatter_nd_update(noisy, pixels, tf.gather_nd(noisy, neighbors))
        restored = model(blind, training=rng is not None)
        loss = self.loss_fn(tf.gather_nd(noisy, pixels), tf.gather_nd(restored, pixels))
        return restored if rng else model(noisy, training=False), {"loss": loss}


def choose_pixels(places: tf.Tensor, size: tuple[int | tf.Tensor, int | tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Chooses a pixel in each cell of images, and one of its neighbors.

    Args:
      places: Random values in 0..1, 1 excluded, [batch, rows, columns, 3]: where the pixel is in its cell, vertically
        and horizontally, and which of the 24 neighbors is chosen.
      size: Height and width of the images, 2 `RADIUS` or more.

    Returns:
      Indices of the pixels and of the neighbors, int32 [batch, rows, columns, 3]: image, row and column. A neighbor
      that would lie outside is the one on the opposite side of the pixel, and so never the pixel itself.
    """
    shape = tf.shape(places)
    width = 2 * RADIUS + 1
    order = tf.cast(places[..., 2] * (width**2 - 1), tf.int32)
    order += tf.cast(order >= width**2 // 2, tf.int32)  # Without the center.
    images = tf.broadcast_to(tf.range(shape[0])[:, None, None], shape[:3])
    pixels, neighbors = [images], [images]
    for axis, offset in enumerate((order // width - RADIUS, order % width - RADIUS)):
        cells = tf.reshape(tf.range(shape[1 + axis]), [-1, 1] if axis == 0 else [1, -1])
        side, count = size[axis], shape[1 + axis]
        first, last = cells * side // count, (cells + 1) * side // count
        position = first + tf.cast(places[..., axis] * tf.cast(last - first, tf.float32), tf.int32)
        shifted = position + offset
        pixels.append(position)
        neighbors.append(tf.where((shifted < 0) | (shifted >= side), position - offset, shifted))
    return tf.stack(pixels, axis=-1), tf.stack(neighbors, axis=-1)
