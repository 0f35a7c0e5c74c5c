import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cae import metrics
from cae.training import vae
from cae.training.objectives import get_objective
from cae.training.train_state import TrainState
from cae.training.train_step import train_step

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 5], tf.int64)


@pytest.fixture
def vae_config(tiny):
    return dataclasses.replace(tiny, model="vae")


@pytest.fixture
def state(vae_config):
    return TrainState.create(tf.distribute.get_strategy(), vae_config, SHAPE, total_steps=10)


@pytest.fixture
def batch(random):
    image, noisy = random.random((2, 8, *SHAPE), np.float32)
    return {"image": tf.constant(image), "input": tf.constant(noisy)}


@pytest.mark.parametrize("mean, log_var", [(0.0, 0.0), (1.5, 0.0), (0.0, 1.0), (-0.5, -2.0)])
def test_kl_divergence_is_the_integral(mean, log_var):
    x = np.linspace(-30, 30, 200_001)
    std = np.exp(log_var / 2)
    posterior = np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))
    log_prior = -0.5 * x**2 - 0.5 * np.log(2 * np.pi)
    log_posterior = -0.5 * ((x - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))
    expected = np.trapezoid(posterior * (log_posterior - log_prior), x)
    kl = vae.kl_divergence(tf.constant([[mean, 0.0]]), tf.constant([[log_var, 0.0]]))
    assert float(kl[0]) == pytest.approx(expected, abs=1e-5)


def test_loss_is_reconstruction_plus_beta_times_divergence_per_pixel(state, vae_config, batch):
    mean, log_var = state.model.posterior(batch["input"])
    kl = vae.kl_divergence(mean, log_var).numpy()
    epsilon = tf.random.stateless_normal([8, 4], SEED)
    output = state.model.decode(mean + tf.exp(log_var / 2) * epsilon, training=True)
    mse = metrics.squared_error(batch["image"], output).numpy()
    objective = get_objective(dataclasses.replace(vae_config, beta=3.0))
    losses, _ = train_step(state, objective, batch, SEED, 8)
    assert float(losses["kl_loss"]) == pytest.approx(kl.mean(), rel=1e-4)
    assert float(losses["reconstruction_loss"]) == pytest.approx(mse.mean(), rel=1e-4)
    assert float(losses["loss"]) == pytest.approx((mse + 3 * kl / 256).mean(), rel=1e-4)


def test_evaluation_is_deterministic(state, vae_config, batch, random):
    # A new model has the same posterior for all images.
    state.model.set_weights([each + random.normal(0, 0.1, each.shape) for each in state.model.get_weights()])
    objective = get_objective(vae_config)
    output, losses = objective.losses(state.model, batch)
    np.testing.assert_array_equal(output, state.model(batch["input"]))
    np.testing.assert_array_equal(output, state.model.decode(state.model.encode(batch["input"])))
    np.testing.assert_allclose(losses["reconstruction_loss"], metrics.squared_error(batch["image"], output), rtol=1e-5)
    assert set(losses) == set(objective.loss_names)
    kl = vae.kl_divergence(*state.model.posterior(batch["input"]))
    np.testing.assert_allclose(losses["kl_loss"], kl, rtol=1e-4)
    np.testing.assert_allclose(losses["loss"], losses["reconstruction_loss"] + vae_config.beta * kl / 256, rtol=1e-4)


def test_large_beta_lowers_the_divergence(state, vae_config, batch):
    state.lr_scale.assign(10)
    objective = get_objective(dataclasses.replace(vae_config, beta=100.0))
    train = tf.function(lambda seed: train_step(state, objective, batch, seed, 8)[0]["kl_loss"])
    kl_losses = [float(train(tf.constant([0, step], tf.int64))) for step in range(60)]
    assert kl_losses[-1] < 0.2 * kl_losses[0]


def test_samples_of_the_prior_are_a_function_of_the_seed(state):
    one, same, other = (state.model.sample(5, seed).numpy() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (5, *SHAPE) and not np.array_equal(one, other)
    expected = state.model.decode(tf.random.stateless_normal([5, 4], [0, 0]))
    np.testing.assert_array_equal(one, expected)
