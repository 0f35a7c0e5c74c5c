"""LiteRT (TensorFlow Lite): a file for each function and precision."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from etils import epy

from cae.export.functions import Exported, ExportFunction, hold_variables

# An extra, which not every installation has.
with epy.lazy_imports():
    from ai_edge_litert import interpreter as litert

NAME, PRECISIONS = "litert", ("float32", "float16", "int8")

QUANTIZED = ("encode", "decode", "denoise")
"""Functions that are written in all precisions; `reconstruct` is the same as the first two in a row."""


def write(
    functions: Sequence[ExportFunction], model: keras.Model, folder: Path, images: np.ndarray
) -> tuple[list[Exported], list[str]]:
    """Writes functions to litert/NAME_PRECISION.tflite; arguments and results are those of `saved_model.write`.

    Images have the height and width of the training images, since LiteRT's operations need them.
    """
    (folder / NAME).mkdir()
    exported, left_out = [], []
    for each in functions:
        if each.name not in QUANTIZED:
            continue
        function = each.with_image_shape(images.shape[1:])
        samples = {"codes": model.encode(images).numpy()} if each.name == "decode" else {"images": images}
        for precision in PRECISIONS:
            path = f"{NAME}/{each.name}_{precision}.tflite"
            (folder / path).write_bytes(_convert(function, model, precision, samples))
            exported.append(Exported(NAME, function, path, _runner(folder / path), precision))
    return exported, left_out


def _convert(function: ExportFunction, model: keras.Model, precision: str, samples: dict[str, np.ndarray]) -> bytes:
    """Returns the content of a file."""
    concrete = function.graph.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], hold_variables(model))
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        # The ranges of activations are those of these images.
        converter.representative_dataset = lambda: _batches_of_one(samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def _batches_of_one(samples: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    for values in zip(*samples.values()):
        yield {name: value[None] for name, value in zip(samples, values)}


def _runner(path: Path) -> Callable[..., dict[str, np.ndarray]]:
    return litert.Interpreter(str(path)).get_signature_runner()
