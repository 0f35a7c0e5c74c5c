"""SavedModel: a folder that TensorFlow loads without Keras; a signature for each function."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cae.export.functions import Exported, ExportFunction, hold_variables, tensors

NAME = "saved_model"


def write(functions: Sequence[ExportFunction], model: keras.Model, folder: Path, images: np.ndarray) -> list[Exported]:
    """Writes all functions to one SavedModel; those of images also as NAME_uint8, of values in 0..255.

    Args:
      functions: The functions.
      model: The model that they call.
      folder: The folder of the export.
      images: Training images, float32 in 0..1, for formats that need some.

    Returns:
      The functions as the file computes them.
    """
    signatures = {}
    for each in functions:
        signatures[each.name] = each.graph
        if any(spec.name == "images" for spec in each.inputs):
            signatures[f"{each.name}_uint8"] = _uint8_graph(each)
    signatures = {name: graph.get_concrete_function() for name, graph in signatures.items()}
    tf.saved_model.save(hold_variables(model), str(folder / NAME), signatures)
    loaded = tf.saved_model.load(str(folder / NAME))
    return [Exported(NAME, each, NAME, _runner(loaded, each.name)) for each in functions]


def _uint8_graph(function: ExportFunction) -> tf.types.experimental.PolymorphicFunction:
    """Returns the function of uint8 images; it calls the graph of floats, so that constants are saved once."""
    specs = [tf.TensorSpec(each.shape, tf.uint8, each.name) if each.name == "images" else each
             for each in function.inputs]  # fmt: skip

    def call(images: tf.Tensor, *others: tf.Tensor) -> dict[str, tf.Tensor]:
        return function.graph(tf.cast(images, tf.float32) / 255, *others)

    return tf.function(call, input_signature=specs, autograph=False)


def _runner(loaded: tf.Module, name: str):
    signature = loaded.signatures[name]

    def call(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in signature(**tensors(arrays)).items()}

    call.loaded = loaded  # Its signatures do not keep it.
    return call
