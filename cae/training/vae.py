"""The loss of a variational autoencoder (Kingma and Welling 2014; with beta, Higgins et al. 2017)."""

import math

import tensorflow as tf

from cae.config import Config
from cae.models.base import GenerativeAutoencoder
from cae.training.distribution import Batch
from cae.training.objectives import MicrobatchRng, Objective


class EvidenceLowerBound(Objective):
    """Minimizes minus the evidence lower bound, per pixel: reconstruction loss and beta times the KL divergence."""

    loss_names = ("loss", "reconstruction_loss", "kl_loss")

    def __init__(self, config: Config):
        super().__init__(config)
        self.beta = config.beta

    def losses(
        self, model: GenerativeAutoencoder, batch: Batch, rng: MicrobatchRng | None = None, critic: None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes the losses of each image; an evaluation decodes the posterior's mean instead of a sample."""
        mean, log_var = model.posterior(batch["input"])
        latents = mean
        if rng is not None:  # The reparameterization trick.
            latents = mean + tf.exp(0.5 * log_var) * rng.sample(tf.random.stateless_normal, model.latent_dim)
        output = model.decode(latents, training=rng is not None)
        reconstruction_loss, kl_loss = self.loss_fn(batch["image"], output), kl_divergence(mean, log_var)
        # Losses are means over pixels, and so is each pixel's share of the image's divergence.
        loss = reconstruction_loss + self.beta * kl_loss / math.prod(batch["image"].shape[1:])
        return output, {"loss": loss, "reconstruction_loss": reconstruction_loss, "kl_loss": kl_loss}


def kl_divergence(mean: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """Returns the Kullback-Leibler divergence of normal distributions from the standard normal, in nats: [batch].

    The formula is that of Kingma and Welling 2014, appendix B.

    Args:
      mean: [batch, latent_dim].
      log_var: The logarithm of the variance, [batch, latent_dim].
    """
    return 0.5 * tf.reduce_sum(tf.square(mean) + tf.exp(log_var) - 1.0 - log_var, axis=1)
