"""Methods of Keras that are not part of its API, and that cae/training/optimizers.py overrides.

If Keras renames one, the override is never called, and nothing fails: gradients would be summed twice, or convolutions
left to Adam. pyproject.toml allows no other minor versions than those that were tried.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.training import optimizers

HOOKS = [
    (keras.optimizers.Adam, "_all_reduce_sum_gradients", ["self", "grads_and_vars"]),
    (keras.optimizers.Muon, "_all_reduce_sum_gradients", ["self", "grads_and_vars"]),
    (keras.optimizers.Muon, "_should_use_adamw", ["self", "variable"]),
    (keras.optimizers.Muon, "zeropower_via_newtonschulz5", ["self", "x", "steps"]),
    (keras.optimizers.Muon, "lr_adjust", ["self", "x"]),
]


@pytest.mark.parametrize("owner, name, parameters", HOOKS, ids=lambda each: getattr(each, "__name__", str(each)))
def test_keras_has_the_overridden_method(owner, name, parameters):
    hook, where = getattr(owner, name, None), f"keras {keras.__version__}: keras.optimizers.{owner.__name__}.{name}"
    assert hook is not None, f"{where}, which cae/training/optimizers.py overrides, does not exist"
    actual = list(inspect.signature(hook).parameters)
    assert actual == parameters, f"{where} takes {actual}; cae/training/optimizers.py overrides one of {parameters}"


def test_every_overridden_method_is_in_the_list():
    hooks = {name for _, name, _ in HOOKS}
    for cls in (optimizers.PreReducedGradientsMixin, optimizers.Adam, optimizers.Muon):
        overridden = {name for name, value in vars(cls).items() if inspect.isfunction(value)}
        assert overridden <= hooks, f"{cls.__name__} overrides {overridden - hooks}: name it in HOOKS"


def test_muon_has_an_rms_rate():
    assert optimizers.Muon(0.1).rms_rate == 0.2, f"keras {keras.__version__}: Muon.rms_rate, which lr_adjust reads"


def after_one_step(strategy, make_sgd):
    """Returns what a step by a gradient of 1 on every replica makes of 0, at a learning rate of 1."""
    with strategy.scope():
        variable, sgd = keras.Variable(np.zeros(3, np.float32)), make_sgd(1.0)
        sgd.build([variable])
    strategy.run(lambda: sgd.apply([tf.ones(3)], [variable]))
    return variable.numpy()


class PreReducedSGD(optimizers.PreReducedGradientsMixin, keras.optimizers.SGD):
    """Gradient descent, whose updates show what is summed."""


def test_reduced_gradients_are_not_summed_again(mirrored):
    """Keras sums the gradients of both replicas; without effect of the override, so would the mixin."""
    np.testing.assert_array_equal(after_one_step(mirrored, keras.optimizers.SGD), [-2, -2, -2])
    np.testing.assert_array_equal(after_one_step(mirrored, PreReducedSGD), [-1, -1, -1])


@pytest.mark.parametrize("name", ["_should_use_adamw", "zeropower_via_newtonschulz5", "lr_adjust"])
def test_keras_calls_the_overrides_of_muon(name, random):
    calls = []

    def record(self, *arguments):
        calls.append(name)
        return getattr(optimizers.Muon, name)(self, *arguments)

    recording = type("RecordingMuon", (optimizers.Muon,), {name: record})(0.1, weight_decay=None)
    variable = keras.Variable(np.zeros((3, 3, 16, 16), np.float32))
    recording.apply([tf.constant(random.standard_normal(variable.shape), tf.float32)], [variable])
    assert calls, f"keras {keras.__version__} never calls {name}, which cae/training/optimizers.py overrides"
