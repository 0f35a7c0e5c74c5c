"""What a model is trained to minimize. To add an objective, write a class with one method and name it in `OBJECTIVES`:

    class SparseReconstruction(Objective):
        loss_names = ("loss", "reconstruction_loss", "sparsity_loss")

        def losses(self, model, batch, rng=None, critic=None):
            latents = model.encode(batch["input"])
            output = model.decode(latents, training=rng is not None)
            reconstruction_loss, sparsity_loss = self.loss_fn(batch["image"], output), tf.reduce_mean(abs(latents), 1)
            loss = reconstruction_loss + 0.01 * sparsity_loss
            losses = {"loss": loss, "reconstruction_loss": reconstruction_loss, "sparsity_loss": sparsity_loss}
            return output, losses

`train_step` does the rest: means over the global batch, loss scaling, gradients and updates.
"""

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from cae.config import Config
from cae.metrics import get_loss
from cae.models import get_model_spec
from cae.models.base import GenerativeAutoencoder
from cae.training.distribution import Batch, Broadcast

_EVALUATION_STREAM = 0
"""The second half of the seed of random values in an evaluation."""


@dataclasses.dataclass(frozen=True)
class MicrobatchRng:
    """Random values for the images of one microbatch.

    Attributes:
      seed: The step's seed, int64 [2].
      index: Which microbatch of the global batch it is.
      num_microbatches: Number of equal microbatches in the global batch.
      global_batch_size: Number of images in the global batch.
    """

    seed: tf.Tensor
    index: tf.Tensor | int
    num_microbatches: int
    global_batch_size: int

    def sample(self, fn: Callable[..., tf.Tensor], *shape: int, **kwargs: Any) -> tf.Tensor:
        """Returns [microbatch, *shape] by `fn`, such as `tf.random.stateless_normal`, given `kwargs`.

        Values are sampled for the global batch and sliced: those of an image do not depend on the microbatches.
        """
        values = fn([self.global_batch_size, *shape], self.seed, **kwargs)
        size = self.global_batch_size // self.num_microbatches
        return tf.slice(values, [self.index * size] + [0] * len(shape), [size, *shape])


class Objective:
    """The base class of objectives; subclasses define `losses`.

    Attributes:
      loss_names: The names of the training losses.
      trains: Which network's gradients are taken of which loss: 'model' and, where there is one, 'critic'.
      loss_fn: The reconstruction loss of each image.
      seed: The seed of all random values.
      jit_compile: Whether losses and gradients are compiled by XLA.
    """

    loss_names: tuple[str, ...] = ("loss",)
    trains: Mapping[str, str] = {"loss": "model"}

    def __init__(self, config: Config):
        self.loss_fn = get_loss(config.loss)
        self.seed, self.jit_compile = config.seed, config.jit_compile

    def loss_weights(self, progress: tf.Tensor | float) -> Mapping[str, tf.Tensor | float]:
        """Returns the weights of the losses of which 'loss' is the weighted sum; none where `losses` returns 'loss'.

        Args:
          progress: The fraction of the run's steps that were taken before, float32 [] in 0..1.
        """
        return {}

    def trained_variables(self, network: keras.Model) -> list[keras.Variable]:
        """Returns the variables of a network of `trains` that are trained, all unless a subclass names some."""
        return network.trainable_variables

    def sample_uniform(self, rng: MicrobatchRng | None, batch_size: tf.Tensor, *shape: int | tf.Tensor) -> tf.Tensor:
        """Returns random values in 0..1, 1 excluded, [batch_size, *shape].

        Without `rng`, in an evaluation, they are the same for all images and in each evaluation, so that they do not
        depend on how images are distributed to replicas.
        """
        if rng:
            return rng.sample(tf.random.stateless_uniform, *shape)
        values = tf.random.stateless_uniform([1, *shape], [self.seed, _EVALUATION_STREAM])
        return tf.tile(values, [batch_size, *[1] * len(shape)])

    def is_initialized(self, model: keras.Model) -> bool:
        """Returns whether the model was prepared, as most need not be."""
        return True

    def initialize(self, model: keras.Model, images: Iterable[tf.Tensor], broadcast: Broadcast) -> None:
        """Prepares the model before the first step that minimizes this objective; most objectives need no preparation.

        Args:
          model: The model.
          images: Batches of clean training images in 0..1, evenly spaced.
          broadcast: Returns the chief's arrays in all workers, each of which has to call it.
        """

    def losses(
        self, model: keras.Model, batch: Batch, rng: MicrobatchRng | None = None, critic: keras.Model | None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes the losses of each image.

        Args:
          model: The model.
          batch: `image`, the target, and `input`: [batch, height, width, channels] in 0..1.
          rng: Random values of a training step; None in an evaluation, which is deterministic.
          critic: The second network of an objective that trains one.

        Returns:
          The output [batch, height, width, channels], and losses [batch] by name; in an evaluation 'loss' at least.
        """
        raise NotImplementedError


class Reconstruction(Objective):
    """Minimizes the reconstruction loss; against a noisy target, if there is one, it is Noise2Noise (Lehtinen 2018)."""

    def losses(
        self, model: keras.Model, batch: Batch, rng: MicrobatchRng | None = None, critic: keras.Model | None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes the reconstruction loss of each image."""
        output = model(batch["input"], training=rng is not None)
        return output, {"loss": self.loss_fn(batch.get("noisy_target", batch["image"]), output)}


OBJECTIVES = {
    "reconstruction": ("cae.training.objectives", "Reconstruction"),
    "acai": ("cae.training.acai", "ACAI"),
    "vae": ("cae.training.vae", "EvidenceLowerBound"),
    "deep_cluster": ("cae.training.deep_cluster", "AutoencoderPretraining"),
    "pseudo_labels": ("cae.training.deep_cluster", "PseudoLabelClassification"),
    "neighbor2neighbor": ("cae.training.neighbor2neighbor", "Neighbor2Neighbor"),
    "noise2noise": ("cae.training.objectives", "Reconstruction"),
    "noise2void": ("cae.training.noise2void", "Noise2Void"),
}
"""The module and the class of each objective."""


def get_objective(config: Config) -> Objective:
    """Returns the objective that a configuration starts with, by its model and its regularizer."""
    spec = get_model_spec(config.model)
    if spec.has_clusters:
        return make_objective("deep_cluster", config)
    is_generative = issubclass(spec.model_class, GenerativeAutoencoder)
    by_flag = config.regularizer or config.objective or "reconstruction"
    return make_objective("vae" if is_generative else by_flag, config)


def make_objective(name: str, config: Config) -> Objective:
    """Returns an objective of `OBJECTIVES`."""
    module, class_name = OBJECTIVES[name]
    return getattr(importlib.import_module(module), class_name)(config)
