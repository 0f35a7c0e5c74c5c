"""Forward passes of images through a trained model, batch by batch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from etils import epy

from cae.data.arrays import to_float
from cae.inference import batch_slices

# Both take seconds to import, and programs look up the names of scores before they need them.
with epy.lazy_imports():
    import keras
    import tensorflow as tf

# Pixels of a batch. Each switch between the threads of TensorFlow, FAISS and BLAS costs time, so batches are large.
BATCH_PIXELS = 2048 * 28 * 28


@dataclasses.dataclass(frozen=True)
class ModelOutputs:
    """A batch of images and their forward pass.

    Attributes:
      image: float32 [batch, height, width, channels] in 0..1.
      output: The model's reconstruction, like `image`.
      latent: [batch, latent_dim]; None for a model without latent vectors.
      reconstruct: Returns the same model's outputs for other images.
      embeddings: `DeepCluster.embeddings` by name; empty for other models.
    """

    image: tf.Tensor
    output: tf.Tensor
    latent: tf.Tensor | None
    reconstruct: Callable[[tf.Tensor], tf.Tensor]
    embeddings: Mapping[str, tf.Tensor] = dataclasses.field(default_factory=dict)


# Images, uint8 or floats in 0..1, [n, height, width, channels], to batches.
ForwardBatches = Callable[[np.ndarray], Iterator[ModelOutputs]]


def make_forward(model: keras.Model) -> ForwardBatches:
    """Returns a function that yields a model's outputs for images batch by batch."""

    @tf.function(reduce_retracing=True)
    def forward(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None, dict[str, tf.Tensor]]:
        return compute_outputs(model, images)

    def forward_batches(images: np.ndarray) -> Iterator[ModelOutputs]:
        for batch in make_batches(images):
            output, latent, embeddings = forward(batch)
            yield ModelOutputs(batch, output, latent, lambda other: forward(other)[0], embeddings)

    return forward_batches


def compute_outputs(model: keras.Model, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None, dict[str, tf.Tensor]]:
    """Returns what a model computes of images, [batch, height, width, channels] in 0..1.

    Returns:
      The `output`, `latent` and `embeddings` of `ModelOutputs`.
    """
    if not hasattr(model, "encode"):
        return model(images), None, {}
    latents = model.encode(images)
    embeddings = model.embeddings(images, latents) if hasattr(model, "embeddings") else {}
    return model.decode(latents), latents, embeddings


def make_batches(images: np.ndarray) -> Iterator[tf.Tensor]:
    """Yields images, uint8 or floats in 0..1, in batches of `BATCH_PIXELS`, float32 in 0..1."""
    batch_size = max(1, BATCH_PIXELS // math.prod(images.shape[1:3]))
    for batch in batch_slices(len(images), batch_size, "scoring"):
        yield tf.constant(to_float(images[batch]))
