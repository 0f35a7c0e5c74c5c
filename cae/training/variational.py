"""The training step of a variational autoencoder (Kingma and Welling 2014; with beta, Higgins et al. 2017).

An image is encoded as a normal distribution of latent vectors; one is drawn from it and decoded. The loss is minus the
evidence lower bound, per pixel: the error of reconstruction, and how far the distribution is from a standard normal.
"""

import math

import keras
import tensorflow as tf

from cae.metrics import PerImage
from cae.training.state import State
from cae.training.step import Batch, Gradients, Losses, Part

PARTS = ("loss", "reconstruction", "divergence")


def differentiate(
    state: State, batch: Batch, seed: tf.Tensor, part: Part, *, loss_of: PerImage, beta: float
) -> tuple[Losses, list[Gradients]]:
    """Returns a part's share of the mean losses, and of the gradients of their sum."""
    model = state.model
    draws = part.cut(tf.random.stateless_normal([part.images, model.latent_dim], seed))
    with tf.GradientTape() as tape:
        mean, log_variance = model.posterior(batch["noisy"])
        latents = mean + tf.exp(0.5 * log_variance) * draws
        output = model.decode(latents, training=True)

        parts = _parts(loss_of(batch["image"], output), mean, log_variance, batch["image"], beta)
        means = {name: tf.reduce_sum(values) / part.images for name, values in parts.items()}
        scaled_loss = state.optimizer.scale_loss(means["loss"])

    gradients = tape.gradient(scaled_loss, model.trainable_variables)

    return means, [gradients]


def errors(
    model: keras.Model, batch: Batch, output: tf.Tensor, *, loss_of: PerImage, beta: float
) -> dict[str, tf.Tensor]:
    """Returns the parts of the loss for each image, [batch] by name; the output is what the mean is decoded to."""
    mean, log_variance = model.posterior(batch["noisy"])
    return _parts(loss_of(batch["image"], output), mean, log_variance, batch["image"], beta)


def divergence(mean: tf.Tensor, log_variance: tf.Tensor) -> tf.Tensor:
    """Returns the Kullback-Leibler divergence of normal distributions from the standard normal, in nats: [batch].

    mean, log_variance: [batch, latent_dim]. The formula is that of Kingma and Welling 2014, appendix B.
    """
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - 1.0 - log_variance, axis=1)


def _parts(
    reconstruction: tf.Tensor, mean: tf.Tensor, log_variance: tf.Tensor, images: tf.Tensor, beta: float
) -> dict[str, tf.Tensor]:
    apart = divergence(mean, log_variance)
    # A loss is a mean over the pixels, of which the divergence of an image takes its share.
    loss = reconstruction + beta * apart / math.prod(images.shape[1:])
    return {"loss": loss, "reconstruction": reconstruction, "divergence": apart}
