"""Families of autoencoders, one module each.

To add one, write a `keras.Model` with `encode`, `decode` and `call` as `conv.ConvAutoencoder` has them, and name it in
`FAMILIES`.
"""

from etils import epy

from cae.config import Config
from cae.errors import unknown_name

# Models need TensorFlow, which takes seconds to import; a family is looked up by name before.
with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from cae.models import conv

FAMILIES = {"conv": (conv, "ConvAutoencoder")}
"""What `--model` can name: a module and its class, made of image_shape, latent_dim, width and output_activation."""


def check(name: str) -> None:
    """Raises `UserError` for a name that is no family's."""
    if name not in FAMILIES:
        raise unknown_name("--model", name, FAMILIES)


def build(settings: Config, image_shape: tuple[int, int, int]) -> "keras.Model":
    """Returns the model that the settings name, with all its variables made, for images [height, width, channels].

    Its layers compute in the settings' precision, which becomes Keras' own; its weights are a function of the seed.
    """
    keras.config.set_dtype_policy(settings.precision)
    keras.utils.set_random_seed(settings.seed)
    check(settings.model)
    model = getattr(*FAMILIES[settings.model])(
        image_shape=image_shape,
        latent_dim=settings.latent_dim,
        width=settings.width,
        output_activation="sigmoid" if settings.loss == "cross_entropy" else "linear",
    )
    model(tf.zeros([1, *image_shape]))  # `Model.build` would leave the layers inside without variables.
    return model
