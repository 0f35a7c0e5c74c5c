"""LiteRT (TensorFlow Lite): a file for each function and precision."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from etils import epy

from cae import runtime
from cae.export.functions import Arrays, Exported, ExportFunction, hold_variables, refuse_by_name

# An extra, which not every installation has.
with epy.lazy_imports():
    from ai_edge_litert import interpreter as litert

NAME, PRECISIONS = "litert", ("float32", "float16", "int8")
"""The format, and what its weights are stored in; int8 computes in integers, too."""

QUANTIZED = ("encode", "decode", "denoise")
"""Functions in all precisions; `reconstruct` is two of them, and `detect` compares float32 values."""


def write(functions: Sequence[ExportFunction], model: keras.Model, folder: Path, images: np.ndarray) -> list[Exported]:
    """Writes functions to litert/NAME_PRECISION.tflite; arguments and results are those of `saved_model.write`.

    Images have the height and width of the training images, since LiteRT's operations have to know them.
    """
    (folder / NAME).mkdir()
    exported = []
    for function in (each.with_image_shape(images.shape[1:]) for each in functions):
        samples = {"codes": model.encode(images).numpy()} if function.name == "decode" else {"images": images}
        for precision in PRECISIONS if function.name in QUANTIZED else PRECISIONS[:1]:
            path = f"{NAME}/{function.name}_{precision}.tflite"
            with refuse_by_name(NAME, function), runtime.silence_stderr(), warnings.catch_warnings(action="ignore"):
                (folder / path).write_bytes(_convert(function, model, precision, samples))
                runner = _make_runner(folder / path, function)
            exported.append(Exported(NAME, function, path, runner, precision))
    return exported


def _make_runner(path: Path, function: ExportFunction) -> Callable[..., dict[str, np.ndarray]]:
    """Returns a function that runs a file, after a first call, which writes to stderr how it does that."""
    runner = litert.Interpreter(str(path)).get_signature_runner()
    runner(**{spec.name: np.zeros([size or 1 for size in spec.shape], np.float32) for spec in function.inputs})
    return runner


def _convert(function: ExportFunction, model: keras.Model, precision: str, samples: Arrays) -> bytes:
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


def _batches_of_one(samples: Arrays) -> Iterator[Arrays]:
    for values in zip(*samples.values()):
        yield {name: value[None] for name, value in zip(samples, values)}
