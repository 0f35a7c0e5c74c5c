"""Families of models, one module each.

To add one, write a `keras.Model` of images [batch, height, width, channels] to images in 0..1 and name it in
`FAMILIES`. One that squeezes images into latent vectors has `encode` and `decode` as well, as `conv.ConvAutoencoder`;
one that images can be drawn from has `posterior` and `sample`, as `vae.VariationalAutoencoder`.
"""

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from etils import epy

from cae.config import Config
from cae.errors import UserError, unknown_name

# Models need TensorFlow, which takes seconds to import; a family is looked up by name before.
with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from cae.models import conv, critic, dncnn, unet, vae


@dataclasses.dataclass(frozen=True)
class Family:
    """A module, the name of its class, and whether the models have latent vectors, and a prior that they come from.

    The class is made of image_shape, width and output_activation, and of latent_dim where they have.
    """

    module: ModuleType
    model: str
    has_latents: bool
    has_prior: bool = False


FAMILIES = {
    "conv": Family(conv, "ConvAutoencoder", has_latents=True),
    "vae": Family(vae, "VariationalAutoencoder", has_latents=True, has_prior=True),
    "unet": Family(unet, "UNet", has_latents=False),
    "dncnn": Family(dncnn, "DnCNN", has_latents=False),
}
"""What `--model` can name."""


def find(name: str, said: Mapping[str, Any] | None = None) -> Family:
    """Returns the family of that name; raises `UserError` for another name, or for a setting that has no meaning.

    said: the settings that a person named, and their values.
    """
    if name not in FAMILIES:
        raise unknown_name("--model", name, FAMILIES)
    family, said = FAMILIES[name], said or {}
    if "latent_dim" in said and not family.has_latents:
        having = ", ".join(other for other, each in FAMILIES.items() if each.has_latents)
        raise UserError(
            f"--latent_dim has no meaning for --model={name}, which has no latent vector; {having} have one"
        )
    if "beta" in said and not family.has_prior:
        having = ", ".join(other for other, each in FAMILIES.items() if each.has_prior)
        raise UserError(f"--beta has no meaning for --model={name}, which has no prior; {having} has one")
    if said.get("regularizer") and (family.has_prior or not family.has_latents):
        why = "has a prior already" if family.has_prior else "has no latent vector"
        raise UserError(f"--regularizer={said['regularizer']} is for --model=conv; {name} {why}")
    return family


def build(settings: Config, image_shape: tuple[int, int, int]) -> "keras.Model":
    """Returns the model that the settings name, with all its variables made, for images [height, width, channels].

    Its layers compute in the settings' precision, which becomes Keras' own; its weights are a function of the seed.
    """
    keras.config.set_dtype_policy(settings.precision)
    keras.utils.set_random_seed(settings.seed)
    family = find(settings.model)
    sizes = {"latent_dim": settings.latent_dim} if family.has_latents else {}
    model = getattr(family.module, family.model)(
        image_shape=image_shape,
        width=settings.width,
        output_activation="sigmoid" if settings.loss == "cross_entropy" else "linear",
        **sizes,
    )
    model(tf.zeros([1, *image_shape]))  # `Model.build` would leave the layers inside without variables.
    return model


def build_critic(settings: Config, image_shape: tuple[int, int, int]) -> "keras.Model":
    """Returns the critic that a regularizer trains a model against, with all its variables made."""
    model = critic.Critic(image_shape, settings.width)
    model(tf.zeros([1, *image_shape]))
    return model
