"""Adversarially constrained autoencoder interpolation (ACAI; Berthelot, Raffel, Roy and Goodfellow 2018,
"Understanding and Improving Interpolation in Autoencoders via an Adversarial Regularizer").

A critic learns to predict the weight alpha of interpolated images (equation 1); the autoencoder learns to reconstruct
images, and to make the critic predict 0 (equation 2).
"""

import keras
import tensorflow as tf

from cae.config import Config
from cae.training.distribution import Batch
from cae.training.objectives import MicrobatchRng, Reconstruction

GAMMA = 0.2
"""Weight of the image in the mix with its reconstruction that the critic learns to call real: gamma in the paper."""


class ACAI(Reconstruction):
    """Trains the autoencoder by reconstruction and adversarial loss, and the critic by its own loss.

    The weight is lambda in the paper, where images lie in -1..1 and have four times the squared error of ours in 0..1.
    Images are interpolated with neighbors within their microbatch, so that the result depends on the number of
    microbatches, but not on which replica computes which.
    """

    loss_names = ("loss", "reconstruction_loss", "adversarial_loss", "critic_loss")
    trains = {"loss": "model", "critic_loss": "critic"}

    def __init__(self, config: Config):
        super().__init__(config)
        self.start_weight, self.end_weight = config.regularizer_weight, config.regularizer_end_weight

    def loss_weights(self, progress: tf.Tensor | float) -> dict[str, tf.Tensor | float]:
        """Returns the weights of the losses, of which that of the adversarial loss may change linearly."""
        weight = self.start_weight
        if self.end_weight is not None:
            weight += progress * (self.end_weight - self.start_weight)
        return {"reconstruction_loss": 1.0, "adversarial_loss": weight}

    def losses(
        self, model: keras.Model, batch: Batch, rng: MicrobatchRng | None = None, critic: keras.Model | None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes the losses of each image; in an evaluation the reconstruction loss alone."""
        if rng is None:
            return super().losses(model, batch)
        image, alpha = batch["image"], rng.sample(tf.random.stateless_uniform, minval=0.0, maxval=0.5)
        latents = model.encode(batch["input"])
        interpolated = interpolate_with_neighbors(latents, alpha)
        output, fake = tf.split(model.decode(tf.concat([latents, interpolated], 0), training=True), 2)
        # The critic calls real what resembles the data, and the more so for errors of reconstruction alone.
        real = tf.stop_gradient(output + GAMMA * (image - output))
        alpha_of_fake, alpha_of_real = tf.split(critic(tf.concat([fake, real], 0)), 2)
        return output, {
            "reconstruction_loss": self.loss_fn(image, output),
            "adversarial_loss": tf.square(alpha_of_fake),
            "critic_loss": tf.square(alpha_of_fake - alpha) + tf.square(alpha_of_real),
        }


def interpolate_with_neighbors(latents: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """Returns alpha times each latent vector plus 1 - alpha times its neighbor.

    The first two are neighbors, the next two, and so on; the last of an odd number is its own neighbor.

    Args:
      latents: [batch, latent_dim].
      alpha: [batch].
    """
    count = tf.shape(latents)[0]
    neighbors = tf.minimum(tf.bitwise.bitwise_xor(tf.range(count), 1), count - 1)
    alpha = alpha[:, None]
    return alpha * latents + (1.0 - alpha) * tf.gather(latents, neighbors)
