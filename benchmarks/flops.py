"""Floating-point operations (FLOPs): those of a model's step, and the peak GEMM throughput of this machine."""

import math
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks.common import measure_seconds
from cae import models
from cae.config import Config
from cae.data import datasets
from cae.metrics import PerImageLoss, get_loss

# The side of the square matrices whose product measures the peak.
GEMM_SIDE = 2048
GEMM_FLOPS = 2 * GEMM_SIDE**3


def count_per_image(config: Config) -> dict[str, int]:
    """Returns the FLOPs per image of a configuration's training step, `steps`, and forward pass, `forward`."""
    image_shape = datasets.open_dataset(config).image_shape
    model, image = models.build_model(config, image_shape), tf.TensorSpec([1, *image_shape])
    return {"steps": count_step(model, image, get_loss(config.loss)), "forward": count_forward(model, image)}


def count_forward(model: keras.Model, images: tf.TensorSpec) -> int:
    """Returns the FLOPs of a forward pass in convolutions and matrix products; a multiply-add is two."""
    return count_graph(tf.function(model).get_concrete_function(images).graph)


def count_step(model: keras.Model, images: tf.TensorSpec, loss_fn: PerImageLoss) -> int:
    """Returns the FLOPs of forward pass and gradient; the update, a few per weight, is not counted."""

    @tf.function
    def compute_gradients(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(loss_fn(images, model(images, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    return count_graph(compute_gradients.get_concrete_function(images).graph)


def count_graph(graph: tf.Graph) -> int:
    """Returns the FLOPs of the convolutions, their gradients and the matrix products that a graph's outputs need."""
    needed, pending = set(), [output.op for output in graph.outputs]
    while pending:
        operation = pending.pop()
        if operation not in needed:
            needed.add(operation)
            pending += [tensor.op for tensor in operation.inputs]
    return sum(_FLOPS[operation.type](operation) for operation in needed if operation.type in _FLOPS)


def _count_convolution(output: tf.Tensor, kernel: tf.Tensor) -> int:
    """Returns the FLOPs of a convolution, or of one of its gradients: the whole kernel at each position of the output.

    Args:
      output: The convolution's output, or the gradient with respect to it, [batch, height, width, filters].
      kernel: The kernel, or its gradient.
    """
    return 2 * math.prod(output.shape[:3]) * math.prod(kernel.shape)


def _count_matmul(operation: tf.Operation) -> int:
    inner = operation.inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
    return 2 * math.prod(operation.outputs[0].shape) * inner


_FLOPS = {
    "MatMul": _count_matmul,
    "Conv2D": lambda conv: _count_convolution(conv.outputs[0], conv.inputs[1]),
    "Conv2DBackpropInput": lambda conv: _count_convolution(conv.inputs[2], conv.inputs[1]),
    "Conv2DBackpropFilter": lambda conv: _count_convolution(conv.inputs[2], conv.outputs[0]),
}


def multiply(*_: object, dtype: str) -> Callable[[], float]:
    """Returns a function that multiplies two matrices by TensorFlow and returns the FLOPs per second."""
    left, right = (tf.cast(tf.random.stateless_normal([GEMM_SIDE] * 2, [0, seed]), dtype) for seed in range(2))
    graph = tf.function(lambda: tf.cast((left @ right)[0, 0], tf.float32))
    return lambda: GEMM_FLOPS / measure_seconds(lambda: graph().numpy())


def multiply_numpy(*_: object) -> Callable[[], float]:
    """Returns the same by NumPy, float32, whose BLAS is the faster one on some processors."""
    matrix = np.random.default_rng(0).random((GEMM_SIDE, GEMM_SIDE), np.float32)
    return lambda: GEMM_FLOPS / measure_seconds(np.matmul, matrix, matrix)
