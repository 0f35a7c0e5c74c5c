"""Base classes of models by what a model can do: encode and decode images, and sample new ones."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf


@contextlib.contextmanager
def dtype_policy_scope(policy: str | keras.DTypePolicy) -> Iterator[None]:
    """Layers that are created within the context compute in a precision; Keras' dtype policy is restored after it."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


class ImageModel(keras.Model):
    """A model that maps images [batch, height, width, channels] in 0..1 to images of the same shape.

    The arguments of its constructor are attributes, which Keras saves with the model.

    Attributes:
      image_shape: (height, width, channels).
      base_filters: Filters of the first features; deeper ones have multiples of it.
      output_activation: 'linear' or 'sigmoid'.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], base_filters: int = 32, output_activation: str = "linear", **kwargs
    ):
        super().__init__(**kwargs)
        self.image_shape, self.base_filters = tuple(image_shape), base_filters
        self.output_activation = output_activation

    def get_config(self):
        names = ("image_shape", "base_filters", "output_activation")
        return super().get_config() | {name: getattr(self, name) for name in names}

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """Returns the model with layers of the precision that it was saved with, whatever Keras' dtype policy is."""
        policy = keras.dtype_policies.deserialize(config["dtype"])
        with dtype_policy_scope(policy):
            return cls(**config | {"dtype": policy})


class Autoencoder(ImageModel):
    """A model with a latent vector for each image; subclasses define `encode` and `decode`.

    Attributes:
      latent_dim: Dimensions of a latent vector; the second argument of the constructor.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int = 32, base_filters: int = 32, **kwargs):
        super().__init__(image_shape, base_filters, **kwargs)
        self.latent_dim = latent_dim

    def get_config(self):
        return super().get_config() | {"latent_dim": self.latent_dim}

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the latent vectors [batch, latent_dim] of images [batch, height, width, channels] in 0..1."""
        raise NotImplementedError

    def decode(self, latents: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the images of latent vectors, in 0..1; in training a linear output may leave that range."""
        raise NotImplementedError

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.decode(self.encode(images), training=training)


class GenerativeAutoencoder(Autoencoder):
    """An autoencoder whose latent vectors have a standard normal prior; subclasses define `posterior` and `decode`."""

    def posterior(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the mean and the logarithm of the variance of images' latent vectors, [batch, latent_dim] each."""
        raise NotImplementedError

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the posterior's mean."""
        return self.posterior(images)[0]

    def sample(self, num_images: int, seed: int) -> tf.Tensor:
        """Returns images decoded from samples of the prior, which are a function of the seed."""
        return self.decode(tf.random.stateless_normal([num_images, self.latent_dim], [seed, 0]))
