"""Methods of Keras' that are no part of its interface, and that cae/training/optimizer.py overrides.

Where Keras renames one, what overrides it is never called, and nothing fails: gradients would be summed twice, or
convolutions left to Adam. pyproject.toml lets no other minor version in than those that were tried.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.training import optimizer

HOOKS = [
    (keras.optimizers.Adam, "_all_reduce_sum_gradients", ["self", "grads_and_vars"]),
    (keras.optimizers.Muon, "_all_reduce_sum_gradients", ["self", "grads_and_vars"]),
    (keras.optimizers.Muon, "_should_use_adamw", ["self", "variable"]),
    (keras.optimizers.Muon, "zeropower_via_newtonschulz5", ["self", "x", "steps"]),
    (keras.optimizers.Muon, "lr_adjust", ["self", "x"]),
]


@pytest.mark.parametrize("owner, name, parameters", HOOKS, ids=lambda each: getattr(each, "__name__", str(each)))
def test_keras_has_what_is_overridden(owner, name, parameters):
    hook, where = getattr(owner, name, None), f"keras {keras.__version__}: keras.optimizers.{owner.__name__}.{name}"
    assert hook is not None, f"{where} is gone, which cae/training/optimizer.py overrides"
    found = list(inspect.signature(hook).parameters)
    assert found == parameters, f"{where} takes {found}; cae/training/optimizer.py overrides one of {parameters}"


def test_every_private_method_that_is_overridden_is_in_the_list():
    hooks = {name for _, name, _ in HOOKS}
    for ours in (optimizer.SummedBefore, optimizer.Adam, optimizer.Muon):
        own = {name for name, value in vars(ours).items() if inspect.isfunction(value)}
        assert own <= hooks, f"{ours.__name__} overrides {own - hooks}: name it in HOOKS"


def test_rms_rate_is_there():
    assert optimizer.Muon(0.1).rms_rate == 0.2, f"keras {keras.__version__}: Muon.rms_rate, which lr_adjust reads"


def applied(strategy, made):
    """Returns what one step of SGD by a gradient of 1 on every replica makes of 0."""
    with strategy.scope():
        variable, sgd = keras.Variable(np.zeros(3, np.float32)), made(1.0)
        sgd.build([variable])
    strategy.run(lambda: sgd.apply([tf.ones(3)], [variable]))
    return variable.numpy()


class Ours(optimizer.SummedBefore, keras.optimizers.SGD):
    """Plain gradient descent, whose steps show what is summed."""


def test_gradients_that_are_summed_are_not_summed_again(mirrored):
    """Keras' own sums the ones of both replicas; where overriding had no effect, so would ours."""
    np.testing.assert_array_equal(applied(mirrored, keras.optimizers.SGD), [-2, -2, -2])
    np.testing.assert_array_equal(applied(mirrored, Ours), [-1, -1, -1])


@pytest.mark.parametrize("name", ["_should_use_adamw", "zeropower_via_newtonschulz5", "lr_adjust"])
def test_keras_calls_what_muon_overrides(name, random):
    called = []

    def noting(self, *arguments):
        called.append(name)
        return getattr(optimizer.Muon, name)(self, *arguments)

    noted = type("Noted", (optimizer.Muon,), {name: noting})(0.1, weight_decay=None)
    variable = keras.Variable(np.zeros((3, 3, 16, 16), np.float32))
    noted.apply([tf.constant(random.standard_normal(variable.shape), tf.float32)], [variable])
    assert called, f"keras {keras.__version__} never calls {name}, which cae/training/optimizer.py overrides"
