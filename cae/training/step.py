"""The training step: forward, loss, gradient, update."""

import keras
import tensorflow as tf

from cae.metrics import PerImage
from cae.training import distribution
from cae.training.state import State

Batch = dict[str, tf.Tensor]

PARTS = ("loss",)


def train_step(
    state: State, batch: Batch, seed: tf.Tensor, global_batch_size: int, *, loss_of: PerImage
) -> dict[str, tf.Tensor]:
    """Takes one step on a replica's share of a batch and returns its part of the mean loss; nothing is drawn."""
    with tf.GradientTape() as tape:
        output = state.model(batch["noisy"], training=True)

        loss = tf.reduce_sum(loss_of(batch["image"], output)) / global_batch_size
        scaled_loss = state.optimizer.scale_loss(loss)

    gradients = tape.gradient(scaled_loss, state.model.trainable_variables)

    update(state.model, state.optimizer, gradients)
    return {"loss": loss}


def update(model: keras.Model, optimizer: keras.optimizers.Optimizer, gradients: list[tf.Tensor]) -> None:
    """Applies a replica's gradients of the scaled loss, summed over the replicas; none of them where one overflows."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        gradients = distribution.overflow_everywhere(gradients)
    optimizer.apply(gradients, model.trainable_variables)


def errors(model: keras.Model, batch: Batch, output: tf.Tensor, *, loss_of: PerImage) -> dict[str, tf.Tensor]:
    """Returns the loss of each image, [batch], given the model's output for it."""
    return {"loss": loss_of(batch["image"], output)}
