"""The training step of adversarially constrained interpolation (ACAI; Berthelot, Raffel, Roy and Goodfellow 2018,
"Understanding and Improving Interpolation in Autoencoders via an Adversarial Regularizer").

A critic is shown images that were decoded from a mixture of two latent vectors and learns to tell the degree of mixing
(equation 1); the autoencoder learns to reproduce images, and to make the critic guess 0 (equation 2).
"""

import tensorflow as tf

from cae.metrics import PerImage
from cae.training.state import State
from cae.training.step import Batch, Gradients, Losses, Part

PARTS = ("loss", "reconstruction", "critic_on_mixed", "critic")

BLEND = 0.2
"""How much of the real image is blended into its reconstruction for the critic to call real: gamma in the paper."""


def differentiate(
    state: State, batch: Batch, seed: tf.Tensor, part: Part, *, loss_of: PerImage, weight: float
) -> tuple[Losses, list[Gradients]]:
    """Returns a part's share of the mean losses, and of the gradients of the autoencoder's and of the critic's.

    weight: lambda in the paper, whose images lie in -1..1 and have four times the squared error of ours in 0..1. Images
    are mixed with their neighbours in the part, so that as many parts as share the batch out evenly mix the same.
    critic_on_mixed: the mean square of the critic's guesses on mixed images, which the autoencoder brings down.
    """
    degrees = part.cut(tf.random.stateless_uniform([part.images], seed, 0.0, 0.5))
    model, critic = state.model, state.critic
    with tf.GradientTape(persistent=True) as tape:
        latents = model.encode(batch["noisy"])
        mixed_latents = mixed(latents, degrees)
        output, mixed_output = tf.split(model.decode(tf.concat([latents, mixed_latents], 0), training=True), 2)
        # The critic calls real what is like the data, and the better for errors of the reconstruction alone.
        real = tf.stop_gradient(output + BLEND * (batch["image"] - output))
        on_mixed, on_real = tf.split(critic.model(tf.concat([mixed_output, real], 0)), 2)

        reconstruction = tf.reduce_sum(loss_of(batch["image"], output)) / part.images
        fooling = tf.reduce_sum(tf.square(on_mixed)) / part.images
        loss = reconstruction + weight * fooling
        critic_loss = tf.reduce_sum(tf.square(on_mixed - degrees) + tf.square(on_real)) / part.images
        scaled_loss = state.optimizer.scale_loss(loss)
        scaled_critic_loss = critic.optimizer.scale_loss(critic_loss)

    gradients = tape.gradient(scaled_loss, model.trainable_variables)
    critic_gradients = tape.gradient(scaled_critic_loss, critic.model.trainable_variables)

    losses = {"loss": loss, "reconstruction": reconstruction, "critic_on_mixed": fooling, "critic": critic_loss}
    return losses, [gradients, critic_gradients]


def mixed(latents: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Returns latent vectors [batch, latent_dim], each with so much of itself, [batch], and the rest its neighbour's.

    The first two are neighbours, the next two, and so on; the last of an odd number is mixed with itself.
    """
    count = tf.shape(latents)[0]
    neighbours = tf.minimum(tf.bitwise.bitwise_xor(tf.range(count), 1), count - 1)
    degrees = degrees[:, None]
    return degrees * latents + (1.0 - degrees) * tf.gather(latents, neighbours)
