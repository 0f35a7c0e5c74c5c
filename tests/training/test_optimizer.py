import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.config import Config
from cae.training import distribution, objectives, optimizer
from cae.training.build import build_state
from cae.training.steps import make_train_steps

MUON = Config(optimizer="muon", learning_rate=0.01)


def stepped(settings, gradient, start):
    """Returns what one step makes of a variable."""
    variable = keras.Variable(start)
    made = optimizer.make_optimizer(settings, 10, tf.Variable(1.0))
    made.apply([tf.constant(gradient, tf.float32)], [variable])
    return variable.numpy()


@pytest.mark.parametrize("shape", [(24, 32), (3, 3, 16, 20)])
def test_muon_makes_the_update_of_a_matrix_orthogonal(shape, random):
    change = -stepped(MUON, random.standard_normal(shape), np.zeros(shape, np.float32)).reshape(-1, shape[-1])
    # Each singular value is about 1, times 0.2 sqrt(the larger side), times the learning rate.
    values = np.linalg.svd(change, compute_uv=False) / (0.01 * 0.2 * np.sqrt(max(change.shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_goes_the_way_of_the_gradient(random):
    gradient = random.standard_normal((3, 3, 16, 16))
    assert np.sum(stepped(MUON, gradient, np.zeros(gradient.shape, np.float32)) * gradient) < 0


@pytest.mark.parametrize("shape", [(), (7,), (3, 3, 4, 32), (3, 3, 32, 4), (40, 10)])
def test_muon_leaves_vectors_and_small_kernels_to_adam(shape, random):
    start, gradient = np.ones(shape, np.float32), random.standard_normal(shape)
    adam = dataclasses.replace(MUON, optimizer="adam")
    np.testing.assert_allclose(stepped(MUON, gradient, start), stepped(adam, gradient, start), rtol=1e-4)


def test_muon_learns_the_same_on_one_replica_and_on_two(mirrored, random):
    images = random.random((24, 16, 16, 1), np.float32)
    data = tf.data.Dataset.from_tensor_slices({"image": images, "noisy": images[::-1].copy()}).batch(8)
    weights = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        state = build_state(strategy, dataclasses.replace(MUON, width=16, latent_dim=16), (16, 16, 1), 10)
        train_steps = make_train_steps(strategy, state, objectives.find(MUON), 8)
        train_steps(iter(distribution.shared_out(strategy, data)), tf.constant(3))
        weights.append(state.model.get_weights())
    for one, two in zip(*weights):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_cosine_rises_and_falls_to_nothing():
    made = optimizer.make_optimizer(Config(learning_rate=0.004, lr_schedule="cosine"), 1000, tf.Variable(1.0))
    rate = [float(made._learning_rate(step)) for step in range(1001)]
    assert rate[0] == 0 and rate[50] == pytest.approx(0.004) == max(rate)
    assert rate[525] == pytest.approx(0.002) and rate[1000] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("epochs, peak", [(100, 0.002), (7, 0.004), (50, 0.00252), (200, 0.001587)])
def test_the_peak_is_lower_in_a_longer_run(epochs, peak):
    # 0.002 times the cube root of 100 / epochs, and no more than 2.
    settings = Config(learning_rate=0.002, lr_schedule="cosine", epochs=epochs)
    rate = [
        float(optimizer.make_optimizer(settings, 100, tf.Variable(1.0))._learning_rate(step)) for step in range(101)
    ]
    assert max(rate) == pytest.approx(peak, rel=1e-3)


def test_a_constant_stays():
    made = optimizer.make_optimizer(Config(learning_rate=0.004, epochs=5), 1000, tf.Variable(1.0))
    assert float(made.learning_rate) == pytest.approx(0.004)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("name", ["adam", "muon"])
def test_a_factor_slows_a_step_down(schedule, name):
    factor = tf.Variable(1.0)
    settings = Config(learning_rate=0.01, lr_schedule=schedule, optimizer=name)
    made = optimizer.make_optimizer(settings, 10, factor)
    variable = keras.Variable(np.zeros(3, np.float32))
    made.build([variable])
    before = float(made.learning_rate)
    factor.assign(0.25)
    assert float(made.learning_rate) == pytest.approx(before / 4)
    made.apply([tf.ones(3)])
    # The first step of Adam is as long as the learning rate, in each number.
    np.testing.assert_allclose(variable.numpy(), 3 * [-0.25 * before], rtol=1e-4)
