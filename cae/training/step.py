"""The training step: forward, loss and gradient on each part of a batch, then one update by their sum."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from cae.metrics import PerImage
from cae.training import distribution
from cae.training.state import Player, State

Batch = dict[str, tf.Tensor]

Losses = dict[str, tf.Tensor]

Gradients = list[tf.Tensor]

PARTS = ("loss",)


@dataclasses.dataclass(frozen=True)
class Part:
    """Which part of a global batch of `images` it is, of how many equal ones; parts are counted from 0."""

    number: tf.Tensor | int
    of: int
    images: int

    def cut(self, values: tf.Tensor) -> tf.Tensor:
        """Returns what belongs to this part of values [images, ...] that were drawn for all of them."""
        size = self.images // self.of
        return tf.slice(values, [self.number * size] + [0] * (values.shape.rank - 1), [size, *values.shape[1:]])


def differentiate(
    state: State, batch: Batch, seed: tf.Tensor, part: Part, *, loss_of: PerImage
) -> tuple[Losses, list[Gradients]]:
    """Returns a part's share of the mean loss, and of its gradients; nothing is drawn."""
    with tf.GradientTape() as tape:
        output = state.model(batch["noisy"], training=True)

        loss = tf.reduce_sum(loss_of(batch["image"], output)) / part.images
        scaled_loss = state.optimizer.scale_loss(loss)

    gradients = tape.gradient(scaled_loss, state.model.trainable_variables)

    return {"loss": loss}, [gradients]


def train_step(
    state: State,
    batch: Batch,
    seed: tf.Tensor,
    global_batch_size: int,
    differentiate: Callable[[State, Batch, tf.Tensor, Part], tuple[Losses, list[Gradients]]],
    parts: int = 1,
) -> tuple[Losses, tf.Tensor]:
    """Takes one step on a replica's share of a batch; returns its share of the mean losses, and whether it learned.

    parts: into how many the global batch is cut. Sums over parts and over replicas are in float64, in which a few
    float32 numbers add up to the same whatever their order, so that the step is the same to the last bit whichever
    replica has which part.
    """
    losses, gradients = distribution.summed_over_parts(
        batch, parts, lambda piece, number: differentiate(state, piece, seed, Part(number, parts, global_batch_size))
    )
    gradients = distribution.summed_over_replicas(gradients)

    players = [state, *([state.critic] if state.critic else [])]
    learned = [update(player, each) for player, each in zip(players, gradients, strict=True)]
    return losses, tf.reduce_all(learned)


def update(player: State | Player, gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """Applies gradients of the scaled loss, the same on all replicas, and returns whether it did.

    Where one number is not finite nothing changes but the scale of the loss.
    """
    gradients = [tf.cast(each, variable.dtype) for each, variable in zip(gradients, player.model.trainable_variables)]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
    distribution.apply_where(finite, player.optimizer, gradients, player.model.trainable_variables)
    return finite


def errors(model: keras.Model, batch: Batch, output: tf.Tensor, *, loss_of: PerImage) -> dict[str, tf.Tensor]:
    """Returns the loss of each image, [batch], given the model's output for it."""
    return {"loss": loss_of(batch["image"], output)}
