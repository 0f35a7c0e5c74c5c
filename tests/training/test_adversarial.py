import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae import metrics
from cae.training import adversarial, step
from cae.training.build import build_state

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 5], tf.int64)


@pytest.fixture
def acai(tiny):
    return dataclasses.replace(tiny, regularizer="acai", noise=None)


@pytest.fixture
def batch(random):
    images = random.random((8, *SHAPE), np.float32)
    return {"image": tf.constant(images), "noisy": tf.constant(images[::-1].copy())}


def objective(weight):
    return functools.partial(adversarial.differentiate, loss_of=metrics.squared_error, weight=weight)


def new_state(settings, strategy=None):
    return build_state(strategy or tf.distribute.get_strategy(), settings, SHAPE, steps=10)


def test_latent_vectors_are_mixed_with_their_neighbours():
    latents = tf.constant([[0.0, 0.0], [8.0, 4.0], [1.0, 1.0], [3.0, 5.0], [9.0, 9.0]])
    mixed = adversarial.mixed(latents, tf.constant([0.25, 0.5, 0.0, 1.0, 0.3]))
    # A quarter of the first and three of the second; the fifth has no neighbour but itself.
    np.testing.assert_allclose(mixed, [[6, 3], [4, 2], [3, 5], [3, 5], [9, 9]], rtol=1e-6)


def test_without_a_weight_the_autoencoder_learns_as_without_a_critic(acai, batch):
    plain, regularised = dataclasses.replace(new_state(acai), critic=None), new_state(acai)
    losses, _ = step.train_step(
        plain, batch, SEED, 8, functools.partial(step.differentiate, loss_of=metrics.squared_error)
    )
    parts, _ = step.train_step(regularised, batch, SEED, 8, objective(0.0))
    assert float(parts["reconstruction"]) == pytest.approx(float(losses["loss"]), rel=1e-6)
    for one, other in zip(plain.model.get_weights(), regularised.model.get_weights()):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_losses_are_those_of_the_paper(acai, batch):
    state = new_state(acai)
    latents = state.model.encode(batch["noisy"])
    degrees = tf.random.stateless_uniform([8], SEED, 0.0, 0.5)
    assert float(tf.reduce_min(degrees)) >= 0 and float(tf.reduce_max(degrees)) <= 0.5
    mixed = state.model.decode(adversarial.mixed(latents, degrees), training=True)
    output = state.model.decode(latents, training=True)
    on_mixed = state.critic.model(mixed).numpy()
    on_real = state.critic.model(0.2 * batch["image"] + 0.8 * output).numpy()
    error = np.mean((output - batch["image"]) ** 2)
    parts, _ = step.train_step(state, batch, SEED, 8, objective(0.5))
    assert set(parts) == set(adversarial.PARTS)
    assert float(parts["critic"]) == pytest.approx(np.mean((on_mixed - degrees) ** 2 + on_real**2), rel=1e-4)
    assert float(parts["critic_on_mixed"]) == pytest.approx(np.mean(on_mixed**2), rel=1e-4)
    assert float(parts["loss"]) == pytest.approx(error + 0.5 * np.mean(on_mixed**2), rel=1e-4)


def test_each_learns_only_what_is_its_own(acai, batch):
    def changed(model_rate, critic_rate):
        state = new_state(acai)
        state.optimizer, state.critic.optimizer = keras.optimizers.SGD(model_rate), keras.optimizers.SGD(critic_rate)
        before = [state.model.get_weights(), state.critic.model.get_weights()]
        step.train_step(state, batch, SEED, 8, objective(0.5))
        after = [state.model.get_weights(), state.critic.model.get_weights()]
        return [any(not np.array_equal(a, b) for a, b in zip(*pair)) for pair in zip(before, after)]

    assert changed(0.01, 0.0) == [True, False]
    assert changed(0.0, 0.01) == [False, True]


def test_a_critic_learns_to_tell_mixed_from_real(acai, batch):
    state = new_state(acai)
    state.optimizer = keras.optimizers.SGD(0.0)  # The autoencoder does not defend itself.
    state.critic.optimizer = keras.optimizers.Adam(0.003)
    state.optimizer.build(state.model.trainable_variables)
    state.critic.optimizer.build(state.critic.model.trainable_variables)
    train = tf.function(lambda seed: step.train_step(state, batch, seed, 8, objective(0.5))[0]["critic"])
    losses = [float(train(tf.constant([0, number], tf.int64))) for number in range(150)]
    # The best constant guess, 1/8, costs 1/48 + 1/64 + 1/64 = 0.052.
    assert np.mean(losses[-30:]) < 0.04
