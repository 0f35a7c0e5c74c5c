"""Floating-point operations: how many a model's step has, and how many of them this machine does in a second."""

import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from cae.metrics import PerImage

SIDE = 2048
"""Of the square matrices that the machine's peak is measured with: 17 billion operations a product."""


def of_forward(model: keras.Model, images: tf.TensorSpec) -> int:
    """Returns the operations of a forward pass in convolutions and matrix products; a multiply-add is two."""
    return of_graph(tf.function(model).get_concrete_function(images).graph)


def of_step(model: keras.Model, images: tf.TensorSpec, loss_of: PerImage) -> int:
    """Returns the operations of forward pass and gradient; the update, a few for each weight, is not counted."""

    @tf.function
    def gradients(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(loss_of(images, model(images, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    return of_graph(gradients.get_concrete_function(images).graph)


def of_graph(graph: tf.Graph) -> int:
    """Returns the operations of convolutions, their gradients and matrix products that a graph's results need."""
    needed, waiting = set(), [result.op for result in graph.outputs]
    while waiting:
        operation = waiting.pop()
        if operation not in needed:
            needed.add(operation)
            waiting += [each.op for each in operation.inputs]
    return sum(_COUNTS[operation.type](operation) for operation in needed if operation.type in _COUNTS)


def product(*_: object, dtype: str) -> Callable[[], tuple[int, float]]:
    """Returns what multiplies two large matrices by TensorFlow and returns the operations and the seconds it took."""
    left, right = (tf.cast(tf.random.stateless_normal([SIDE, SIDE], [0, seed]), dtype) for seed in range(2))
    multiply = tf.function(lambda: tf.cast((left @ right)[0, 0], tf.float32))

    def run() -> tuple[int, float]:
        start = time.perf_counter()
        multiply().numpy()
        return 2 * SIDE**3, time.perf_counter() - start

    return run


def numpy_product(*_: object) -> Callable[[], tuple[int, float]]:
    """Returns the same by NumPy, float32: on some processors its library is the faster one."""
    left = np.random.default_rng(0).random((SIDE, SIDE), np.float32)

    def run() -> tuple[int, float]:
        start = time.perf_counter()
        np.matmul(left, left)
        return 2 * SIDE**3, time.perf_counter() - start

    return run


def _of_convolution(outside: tf.Tensor, kernel: tf.Tensor) -> int:
    """Returns the operations of a convolution, or of either gradient: the whole kernel at each of its output's places.

    outside: the convolution's output, or the gradient there, [batch, height, width, filters].
    """
    return 2 * math.prod(outside.shape[:3]) * math.prod(kernel.shape)


def _of_product(operation: tf.Operation) -> int:
    inner = operation.inputs[0].shape[0 if operation.get_attr("transpose_a") else 1]
    return 2 * math.prod(operation.outputs[0].shape) * inner


_COUNTS = {
    "MatMul": _of_product,
    "Conv2D": lambda each: _of_convolution(each.outputs[0], each.inputs[1]),
    "Conv2DBackpropInput": lambda each: _of_convolution(each.inputs[2], each.inputs[1]),
    "Conv2DBackpropFilter": lambda each: _of_convolution(each.inputs[2], each.outputs[0]),
}
