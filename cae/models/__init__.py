"""Families of models, one module each.

To add one, write a `keras.Model` of images [batch, height, width, channels] to images in 0..1 and name it in
`FAMILIES`. One that squeezes images into latent vectors has `encode` and `decode` as well, as `conv.ConvAutoencoder`.
"""

import dataclasses
from collections.abc import Container
from types import ModuleType

from etils import epy

from cae.config import Config
from cae.errors import UserError, unknown_name

# Models need TensorFlow, which takes seconds to import; a family is looked up by name before.
with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from cae.models import conv, dncnn, unet


@dataclasses.dataclass(frozen=True)
class Family:
    """A module, the name of its class, and whether the models have latent vectors.

    The class is made of image_shape, width and output_activation, and of latent_dim where they have.
    """

    module: ModuleType
    model: str
    has_latents: bool


FAMILIES = {
    "conv": Family(conv, "ConvAutoencoder", has_latents=True),
    "unet": Family(unet, "UNet", has_latents=False),
    "dncnn": Family(dncnn, "DnCNN", has_latents=False),
}
"""What `--model` can name."""


def find(name: str, said: Container[str] = ()) -> Family:
    """Returns the family of that name; raises `UserError` for another name, or for a setting that has no meaning."""
    if name not in FAMILIES:
        raise unknown_name("--model", name, FAMILIES)
    if "latent_dim" in said and not FAMILIES[name].has_latents:
        having = ", ".join(other for other, family in FAMILIES.items() if family.has_latents)
        raise UserError(f"--latent_dim has no meaning for --model={name}, which has no latent vector; {having} has one")
    return FAMILIES[name]


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
