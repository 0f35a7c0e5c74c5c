"""The functions that are exported: what a model and its detector compute, as functions of tensors."""

import contextlib
import dataclasses
import functools
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from cae import cli, models
from cae.config import Config
from cae.errors import UserError
from cae.export.graph_detector import GraphDetector

Arrays = Mapping[str, np.ndarray]
"""Arrays by the name of an input or output."""


@dataclasses.dataclass(frozen=True)
class ExportFunction:
    """A function of named tensors that returns named tensors.

    Attributes:
      name: A key of `FUNCTIONS`.
      call: The function; its parameters are named as the inputs.
      inputs: Its inputs; dimensions that are free are None.
    """

    name: str
    call: Callable[..., dict[str, tf.Tensor]]
    inputs: tuple[tf.TensorSpec, ...]

    @functools.cached_property
    def graph(self) -> tf.types.experimental.PolymorphicFunction:
        """The function as a graph."""
        return tf.function(self.call, input_signature=self.inputs, autograph=False)

    @property
    def outputs(self) -> dict[str, tf.TensorSpec]:
        """Shapes and dtypes of the outputs, in the order of the graph's outputs, which is that of their names."""
        return dict(sorted(self.graph.get_concrete_function().structured_outputs.items()))

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Calls the function without a graph, as a user of the model does."""
        return {name: value.numpy() for name, value in self.call(**tensors(arrays)).items()}

    def with_image_shape(self, image_shape: Sequence[int]) -> "ExportFunction":
        """Returns the function of images of one (height, width, channels)."""
        inputs = [tf.TensorSpec([None, *image_shape], each.dtype, each.name) if each.name == "images" else each
                  for each in self.inputs]  # fmt: skip
        return dataclasses.replace(self, inputs=tuple(inputs))


@dataclasses.dataclass(frozen=True)
class Exported:
    """A function in a file of some format, which can be run.

    Attributes:
      format: A key of `FORMATS`.
      function: The function, with the shapes that the file takes.
      path: The file, or the folder of a SavedModel, relative to the folder of the export.
      call: Runs it: arrays by the names of inputs to arrays by the names of outputs.
      precision: What its weights are stored in.
    """

    format: str
    function: ExportFunction
    path: str
    call: Callable[..., dict[str, np.ndarray]]
    precision: str = "float32"


@contextlib.contextmanager
def refuse_by_name(format: str, function: ExportFunction) -> Iterator[None]:
    """A context in which whatever a converter raises becomes one line for the user.

    Raises:
      UserError: The function can't be converted.
    """
    try:
        yield
    except Exception as error:  # Converters raise errors of many kinds.
        if cli.ends_program(error):
            raise
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise UserError(f"--format={format}: {function.name} can't be converted: {reason}") from error


def tensors(arrays: Arrays) -> dict[str, tf.Tensor]:
    """Returns arrays as tensors."""
    return {name: tf.constant(array) for name, array in arrays.items()}


def hold_variables(model: keras.Model) -> tf.Module:
    """Returns a module that saves a model's variables; of layers in lists TensorFlow would find none."""
    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    return module


def rebuild_in_float32(config: Config, model: keras.Model, image_shape: tuple[int, int, int]) -> keras.Model:
    """Returns a run's model with the same weights and layers that compute in float32, whatever it was trained in."""
    rebuilt = models.build_model(dataclasses.replace(config, precision="float32"), image_shape)
    rebuilt.set_weights(model.get_weights())
    return rebuilt


def make_functions(
    names: Sequence[str], model: keras.Model, free_sides: bool, detector: GraphDetector | None = None
) -> list[ExportFunction]:
    """Returns functions of a model.

    Args:
      names: Keys of `FUNCTIONS`: such as the model has, and detect only with a detector.
      model: The model, in float32.
      free_sides: Whether the model takes images of any height and width.
      detector: The detector.
    """
    height, width, channels = model.image_shape
    sides = (None, None) if free_sides else (height, width)
    images = tf.TensorSpec([None, *sides, channels], tf.float32, "images")
    detected = tf.TensorSpec([None, height, width, channels], tf.float32, "images")
    codes, alpha = (tf.TensorSpec([None, getattr(model, "latent_dim", 0)], tf.float32, "codes"),
                    tf.TensorSpec([], tf.float32, "alpha"))  # fmt: skip
    calls = {
        "denoise": (lambda images: {"denoised": model(images)}, (images,)),
        "encode": (lambda images: {"codes": model.encode(images)}, (images,)),
        "decode": (lambda codes: {"images": model.decode(codes)}, (codes,)),
        "reconstruct": (lambda images: {"reconstructed": model.decode(model.encode(images))}, (images,)),
        "detect": (detector, (detected, alpha)),
    }
    return [ExportFunction(name, *calls[name]) for name in names]
