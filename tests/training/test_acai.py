import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.training import acai
from cae.training.objectives import Reconstruction
from cae.training.train_state import TrainState
from cae.training.train_step import make_train_steps, train_step

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 5], tf.int64)


@pytest.fixture
def acai_config(tiny):
    return dataclasses.replace(tiny, regularizer="acai", regularizer_weight=0.5, noise=None)


@pytest.fixture
def batch(random):
    images = random.random((8, *SHAPE), np.float32)
    return {"image": tf.constant(images), "input": tf.constant(images[::-1].copy())}


def new_state(config):
    return TrainState.create(tf.distribute.get_strategy(), config, SHAPE, total_steps=10)


def test_latent_vectors_are_interpolated_with_their_neighbors():
    latents = tf.constant([[0.0, 0.0], [8.0, 4.0], [1.0, 1.0], [3.0, 5.0], [9.0, 9.0]])
    interpolated = acai.interpolate_with_neighbors(latents, tf.constant([0.25, 0.5, 0.0, 1.0, 0.3]))
    # A quarter of the first and three of the second; the fifth is its own neighbor.
    np.testing.assert_allclose(interpolated, [[6, 3], [4, 2], [3, 5], [3, 5], [9, 9]], rtol=1e-6)


def test_autoencoder_with_weight_zero_learns_as_without_a_critic(acai_config, batch):
    acai_config = dataclasses.replace(acai_config, regularizer_weight=0.0)
    plain, regularized = dataclasses.replace(new_state(acai_config), critic=None), new_state(acai_config)
    plain_losses, _ = train_step(plain, Reconstruction(acai_config), batch, SEED, 8)
    losses, _ = train_step(regularized, acai.ACAI(acai_config), batch, SEED, 8)
    assert float(losses["reconstruction_loss"]) == pytest.approx(float(plain_losses["loss"]), rel=1e-6)
    for one, other in zip(plain.model.get_weights(), regularized.model.get_weights()):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_losses_are_those_of_the_paper(acai_config, batch):
    state = new_state(acai_config)
    model, critic = state.model, state.critic.model
    latents = model.encode(batch["input"])
    alpha = tf.random.stateless_uniform([8], SEED, 0.0, 0.5)
    assert float(tf.reduce_min(alpha)) >= 0 and float(tf.reduce_max(alpha)) <= 0.5
    output = model.decode(latents, training=True)
    of_fake = critic(model.decode(acai.interpolate_with_neighbors(latents, alpha), training=True)).numpy()
    of_real = critic(0.2 * batch["image"] + 0.8 * output).numpy()
    mse = np.mean((output - batch["image"]) ** 2)
    losses, _ = train_step(state, acai.ACAI(acai_config), batch, SEED, 8)
    assert set(losses) == set(acai.ACAI.loss_names)
    assert float(losses["critic_loss"]) == pytest.approx(np.mean((of_fake - alpha) ** 2 + of_real**2), rel=1e-4)
    assert float(losses["adversarial_loss"]) == pytest.approx(np.mean(of_fake**2), rel=1e-4)
    assert float(losses["loss"]) == pytest.approx(mse + 0.5 * np.mean(of_fake**2), rel=1e-4)


def test_weight_approaches_its_end_linearly(acai_config, batch):
    config = dataclasses.replace(acai_config, regularizer_weight=0.5, regularizer_end_weight=0.1)
    objective = acai.ACAI(config)
    assert [objective.loss_weights(each)["adversarial_loss"] for each in (0.0, 0.25, 1.0)] == pytest.approx(
        [0.5, 0.4, 0.1]
    )
    assert acai.ACAI(acai_config).loss_weights(0.5)["adversarial_loss"] == 0.5
    # A run of 10 steps.
    state, strategy = new_state(config), tf.distribute.get_strategy()
    train_steps = make_train_steps(strategy, state, objective, 8)
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    for step in range(10):
        losses, _ = train_steps(batches, tf.constant(1))
        weight = 0.5 - 0.04 * step
        expected = losses["reconstruction_loss"] + weight * losses["adversarial_loss"]
        assert float(losses["loss"]) == pytest.approx(float(expected), rel=1e-5)


def test_each_network_is_trained_by_its_own_loss_alone(acai_config, batch):
    def changes(model_lr, critic_lr):
        state = new_state(acai_config)
        state.optimizer, state.critic.optimizer = keras.optimizers.SGD(model_lr), keras.optimizers.SGD(critic_lr)
        before = [state.model.get_weights(), state.critic.model.get_weights()]
        train_step(state, acai.ACAI(acai_config), batch, SEED, 8)
        after = [state.model.get_weights(), state.critic.model.get_weights()]
        return [any(not np.array_equal(a, b) for a, b in zip(*pair)) for pair in zip(before, after)]

    assert changes(0.01, 0.0) == [True, False]
    assert changes(0.0, 0.01) == [False, True]


@pytest.mark.parametrize("network", ["model", "critic"])
def test_no_network_is_updated_where_the_gradients_of_one_are_not_finite(acai_config, batch, network):
    state = new_state(dataclasses.replace(acai_config, precision="mixed_float16"))
    trained = {"model": state, "critic": state.critic}
    scales = {name: float(each.optimizer.dynamic_scale) for name, each in trained.items()}
    trained[network].optimizer.dynamic_scale.assign(3e38)
    before = {name: each.model.get_weights() for name, each in trained.items()}
    _, applied = train_step(state, acai.ACAI(acai_config), batch, SEED, 8)
    assert not bool(applied)
    for name, each in trained.items():
        assert all(np.array_equal(*pair) for pair in zip(before[name], each.model.get_weights()))
        assert name == network or float(each.optimizer.dynamic_scale) == scales[name] / 2


def test_critic_learns_to_tell_interpolated_from_real_images(acai_config, batch):
    state = new_state(acai_config)
    state.optimizer = keras.optimizers.SGD(0.0)  # The autoencoder stays as it is.
    state.critic.optimizer = keras.optimizers.Adam(0.003)
    state.optimizer.build(state.model.trainable_variables)
    state.critic.optimizer.build(state.critic.model.trainable_variables)
    objective = acai.ACAI(acai_config)
    train = tf.function(lambda seed: train_step(state, objective, batch, seed, 8)[0]["critic_loss"])
    losses = [float(train(tf.constant([0, step], tf.int64))) for step in range(150)]
    # The best constant prediction, 1/8, has a loss of 1/48 + 1/64 + 1/64 = 0.052.
    assert np.mean(losses[-30:]) < 0.04
