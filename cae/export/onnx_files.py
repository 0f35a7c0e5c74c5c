"""ONNX: a file for each function, verified by ONNX's checker and run by ONNX Runtime."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from etils import epy

from cae.export.functions import Exported, ExportFunction, refuse_by_name

# Extras, which not every installation has.
with epy.lazy_imports():
    import onnx
    import onnxruntime
    import tf2onnx

NAME, OPSET = "onnx", 17
"""The format, and the version of ONNX's operators."""


def write(functions: Sequence[ExportFunction], model: keras.Model, folder: Path, images: np.ndarray) -> list[Exported]:
    """Writes each function to onnx/NAME.onnx; arguments and results are those of `saved_model.write`."""
    (folder / NAME).mkdir()
    exported = []
    for each in functions:
        with refuse_by_name(NAME, each):
            exported.append(_write(each, folder, f"{NAME}/{each.name}.onnx"))
    return exported


def _write(function: ExportFunction, folder: Path, path: str) -> Exported:
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    graph = _keep_shape(function).graph
    proto, _ = tf2onnx.convert.from_function(graph, function.inputs, opset=OPSET)
    _name_free_dimensions(proto.graph)
    proto.graph.name, proto.doc_string = function.name, ""
    del proto.graph.value_info[:]  # Shapes between nodes, with names of dimensions that mean nothing.
    onnx.save(proto, folder / path)
    # The converter only logs an operation that it does not know.
    onnx.checker.check_model(str(folder / path), full_check=True)
    session = onnxruntime.InferenceSession(str(folder / path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def call(**arrays: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, arrays)))

    return Exported(NAME, function, path, call)


def _keep_shape(function: ExportFunction) -> ExportFunction:
    """Returns a function that maps images of any size to images, with outputs reshaped to the shape of its images.

    tf2onnx writes the transposition of one channel as a Reshape to five dimensions and a Squeeze; where that is the
    last operation it may lose the Squeeze, which depends on the order of Python's sets and so differs between runs.
    """
    if not (function.name == "denoise" and None in function.inputs[0].shape[1:]):
        return function

    def call(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.reshape(value, tf.shape(images)) for name, value in function.call(images).items()}

    return dataclasses.replace(function, call=call)


def _name_free_dimensions(graph: "onnx.GraphProto") -> None:
    """Gives free dimensions of inputs and outputs their names instead of numbers of the converter."""
    for value in [*graph.input, *graph.output]:
        for dimension, name in zip(value.type.tensor_type.shape.dim, ("batch", "height", "width", "channels")):
            if not dimension.dim_value:
                dimension.dim_param = name
