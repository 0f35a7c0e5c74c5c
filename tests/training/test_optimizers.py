import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.config import Config
from cae.training import distribution
from cae.training.objectives import get_objective
from cae.training.optimizers import make_optimizer
from cae.training.train_state import TrainState
from cae.training.train_step import make_train_steps

MUON = Config(optimizer="muon", learning_rate=0.01)


def after_one_step(config, gradient, start):
    """Returns the value of a variable after one step."""
    variable = keras.Variable(start)
    optimizer = make_optimizer(config, 10, tf.Variable(1.0))
    optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    return variable.numpy()


def learning_rates(config, total_steps):
    optimizer = make_optimizer(config, total_steps, tf.Variable(1.0))
    return [float(optimizer._learning_rate(step)) for step in range(total_steps + 1)]


@pytest.mark.parametrize("shape", [(24, 32), (3, 3, 16, 20)])
def test_muon_update_of_a_matrix_is_orthogonal(shape, random):
    update = -after_one_step(MUON, random.standard_normal(shape), np.zeros(shape, np.float32)).reshape(-1, shape[-1])
    # Each singular value is about 1, times 0.2 sqrt(the larger side), times the learning rate.
    values = np.linalg.svd(update, compute_uv=False) / (0.01 * 0.2 * np.sqrt(max(update.shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_muon_descends_along_the_gradient(random):
    gradient = random.standard_normal((3, 3, 16, 16))
    assert np.sum(after_one_step(MUON, gradient, np.zeros(gradient.shape, np.float32)) * gradient) < 0


@pytest.mark.parametrize("shape", [(), (7,), (3, 3, 4, 32), (3, 3, 32, 4), (40, 10)])
def test_muon_leaves_vectors_and_small_kernels_to_adam(shape, random):
    start, gradient = np.ones(shape, np.float32), random.standard_normal(shape)
    adam = dataclasses.replace(MUON, optimizer="adam")
    np.testing.assert_allclose(after_one_step(MUON, gradient, start), after_one_step(adam, gradient, start), rtol=1e-4)


def test_muon_learns_the_same_on_one_and_on_two_replicas(mirrored, random):
    images = random.random((24, 16, 16, 1), np.float32)
    data = tf.data.Dataset.from_tensor_slices({"image": images, "input": images[::-1].copy()}).batch(8)
    config, weights = dataclasses.replace(MUON, base_filters=16, latent_dim=16), []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        state = TrainState.create(strategy, config, (16, 16, 1), 10)
        train_steps = make_train_steps(strategy, state, get_objective(config), 8)
        train_steps(iter(distribution.distribute_dataset(strategy, data)), tf.constant(3))
        weights.append(state.model.get_weights())
    for one, two in zip(*weights):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_cosine_schedule_warms_up_and_decays_to_zero():
    rates = learning_rates(Config(learning_rate=0.004, lr_schedule="cosine"), 1000)
    assert rates[0] == 0 and rates[50] == pytest.approx(0.004) == max(rates)
    assert rates[525] == pytest.approx(0.002) and rates[1000] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("epochs, peak", [(100, 0.002), (7, 0.004), (50, 0.00252), (200, 0.001587)])
def test_peak_is_lower_in_a_longer_run(epochs, peak):
    # 0.002 times the cube root of 100 / epochs, which is at most 2.
    config = Config(learning_rate=0.002, lr_schedule="cosine", epochs=epochs)
    assert max(learning_rates(config, 100)) == pytest.approx(peak, rel=1e-3)


def test_constant_schedule_is_constant():
    assert learning_rates(Config(learning_rate=0.004, epochs=5), 100) == pytest.approx(101 * [0.004])


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("name", ["adam", "muon"])
def test_lr_scale_applies_to_the_next_step(schedule, name):
    lr_scale = tf.Variable(1.0)
    config = Config(learning_rate=0.01, lr_schedule=schedule, optimizer=name)
    optimizer = make_optimizer(config, 10, lr_scale)
    variable = keras.Variable(np.zeros(3, np.float32))
    optimizer.build([variable])
    before = float(optimizer.learning_rate)
    lr_scale.assign(0.25)
    assert float(optimizer.learning_rate) == pytest.approx(before / 4)
    optimizer.apply([tf.ones(3)])
    # Adam's first update is as large as the learning rate, in each component.
    np.testing.assert_allclose(variable.numpy(), 3 * [-0.25 * before], rtol=1e-4)
