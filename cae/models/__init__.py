"""The registry of models. To add one, write its class in a module of this package and name it in `MODELS`:

    @keras.saving.register_keras_serializable("cae")
    class DenseAutoencoder(Autoencoder):
        def __init__(self, image_shape, **kwargs):
            super().__init__(image_shape, **kwargs)
            self.encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(self.latent_dim)])
            self.decoder = keras.Sequential(
                [keras.layers.Dense(math.prod(image_shape)), keras.layers.Reshape(image_shape)]
            )

        def encode(self, images):
            return self.encoder(images)

        def decode(self, latents, training=False):
            return apply_output_activation(self.decoder(latents), self.output_activation, training)

    MODELS["dense"] = ModelSpec("cae.models.dense", "DenseAutoencoder", flags=("latent_dim", "regularizer"))

A denoiser without latent vectors is an `ImageModel`, a model that can be sampled a `GenerativeAutoencoder`.
"""

import contextlib
import dataclasses
import importlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epy

from cae.config import Config, parse_num_clusters
from cae.errors import UserError, unknown_choice_error

# TensorFlow takes seconds to import, and flags are checked before.
with epy.lazy_imports():
    import keras
    import tensorflow as tf

    from cae.models import base, critic


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Where a model's class is, and which flags apply to it.

    Attributes:
      module: The name of its module.
      class_name: The class; its arguments are image_shape, base_filters, output_activation, and latent_dim if that
        flag applies.
      flags: The flags that apply to some models only: latent_dim to an `Autoencoder`, beta to a
        `GenerativeAutoencoder`, num_clusters and classifier_epochs to a `DeepCluster`, regularizer and objective to
        what can be trained with one.
      free_sides: Whether it takes images of any height and width.
    """

    module: str
    class_name: str
    flags: tuple[str, ...] = ()
    free_sides: bool = False

    @property
    def model_class(self) -> type["keras.Model"]:
        """The class, whose import imports TensorFlow."""
        return getattr(importlib.import_module(self.module), self.class_name)

    @property
    def has_latents(self) -> bool:
        """Whether the class is an `Autoencoder`, without importing it."""
        return "latent_dim" in self.flags

    @property
    def has_clusters(self) -> bool:
        """Whether the class is a `DeepCluster`, without importing it."""
        return "num_clusters" in self.flags

    @property
    def capabilities(self) -> set[str]:
        """What anomaly scores may need of a trained model: latents, embeddings."""
        names = {"latents": self.has_latents, "embeddings": self.has_clusters}
        return {name for name, is_there in names.items() if is_there}


MODELS = {
    "conv": ModelSpec("cae.models.conv", "ConvAutoencoder", flags=("latent_dim", "regularizer", "objective")),
    "vae": ModelSpec("cae.models.vae", "VariationalAutoencoder", flags=("latent_dim", "beta")),
    "deep_cluster": ModelSpec(
        "cae.models.deep_cluster", "DeepCluster", flags=("latent_dim", "num_clusters", "classifier_epochs")
    ),
    "unet": ModelSpec("cae.models.unet", "UNet", flags=("objective",), free_sides=True),
    "resunet": ModelSpec("cae.models.resunet", "ResUNet", flags=("objective",), free_sides=True),
    "dncnn": ModelSpec("cae.models.dncnn", "DnCNN", flags=("objective",), free_sides=True),
}
"""The values of --model."""


def get_model_spec(name: str) -> ModelSpec:
    """Returns the model of that name; raises `UserError` for an unknown one."""
    if name not in MODELS:
        raise unknown_choice_error("--model", name, MODELS)
    return MODELS[name]


def check_image_sizes(config: Config) -> None:
    """Raises `UserError` for an unknown model, or for one of a fixed image size where it gets images of several."""
    halves = config.objective == "neighbor2neighbor"  # It trains on images of half the size.
    if not get_model_spec(config.model).free_sides and (halves or config.crop_size is not None):
        able = " or ".join(name for name, spec in MODELS.items() if spec.free_sides)
        flag = f"--objective={config.objective}" if halves else f"--crop_size={config.crop_size}"
        raise UserError(f"{flag} needs a model for images of any size, --model={able}, not {config.model}")


def check_model_flags(name: str, explicit: Mapping[str, Any]) -> None:
    """Raises `UserError` for an unknown model, or for a flag that does not apply to it.

    Args:
      name: The value of --model.
      explicit: The flags that were set, and their values.
    """
    spec = get_model_spec(name)
    for flag in ("latent_dim", "beta", "regularizer", "objective", "num_clusters", "classifier_epochs"):
        if explicit.get(flag) is not None and flag not in spec.flags:
            able = ", ".join(other for other, each in MODELS.items() if flag in each.flags)
            raise UserError(f"--{flag}={explicit[flag]} does not apply to --model={name}; it applies to {able}")


def check_cluster_config(config: Config, num_images: int | None = None) -> str | None:
    """Checks the configuration of a `DeepCluster` model, and returns a warning where there is a reason for one.

    Args:
      config: The configuration.
      num_images: Number of training images, if it is known.

    Raises:
      UserError: No epoch is left for the autoencoder, which is trained before the classifier, or there are fewer images
        than clusters.
    """
    if not get_model_spec(config.model).has_clusters:
        return None
    if config.classifier_epochs >= config.epochs:
        raise UserError(
            f"--classifier_epochs={config.classifier_epochs} must be less than --epochs={config.epochs}: the"
            " autoencoder is trained in the epochs before"
        )
    if num_images is not None and num_images < max(parse_num_clusters(config.num_clusters)):
        raise UserError(
            f"--num_clusters={config.num_clusters}: {num_images} training images have {num_images} clusters at most"
        )
    if config.noise:
        return None
    return (
        f"--model={config.model} learns to ignore what --noise changes, and there is none; name a distortion that keeps"
        " the class of an image, such as affine:0.4"
    )


def build_model(config: Config, image_shape: tuple[int, int, int]) -> "keras.Model":
    """Returns the model of a configuration with all its variables.

    Its layers compute in the configured precision, and its weights are a function of the seed; no global state is
    changed.

    Args:
      config: The run's configuration.
      image_shape: (height, width, channels) of its images.
    """
    with build_scope(config):
        model = _create_model(config, image_shape)
        model(tf.zeros([1, *image_shape]))  # `Model.build` would leave the layers of a subclass without variables.
        return model


def build_critic(config: Config, image_shape: tuple[int, int, int]) -> "keras.Model":
    """Returns the critic that a regularizer trains, with all its variables; like `build_model`."""
    with build_scope(config):
        _create_model(config, image_shape)  # Takes its seeds, so that the critic gets others.
        model = critic.Critic(image_shape, config.base_filters)
        model(tf.zeros([1, *image_shape]))
        return model


@contextlib.contextmanager
def build_scope(config: Config) -> Iterator[None]:
    """Layers that are created within the context have the precision and the seed of a configuration.

    Keras takes the seeds of initializers from Python's random state, which is restored after the context, as Keras'
    dtype policy is.
    """
    state = random.getstate()
    random.seed(config.seed)
    try:
        with base.dtype_policy_scope(config.precision):
            yield
    finally:
        random.setstate(state)


def register_classes() -> None:
    """Imports the class of every model, which `keras.saving.load_model` needs for files that `Model.save` wrote."""
    for spec in MODELS.values():
        _ = spec.model_class


def _create_model(config: Config, image_shape: tuple[int, int, int]) -> "keras.Model":
    spec = get_model_spec(config.model)
    return spec.model_class(
        image_shape=image_shape,
        base_filters=config.base_filters,
        output_activation="sigmoid" if config.loss == "binary_crossentropy" else "linear",
        **({"latent_dim": config.latent_dim} if spec.has_latents else {}),
        **({"num_clusters": parse_num_clusters(config.num_clusters)} if spec.has_clusters else {}),
    )
