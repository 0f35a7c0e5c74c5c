import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from cae import metrics
from cae.training import objectives, variational
from cae.training.build import build_state
from cae.training.step import train_step

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 5], tf.int64)


def objective(beta):
    return functools.partial(variational.differentiate, loss_of=metrics.squared_error, beta=beta)


@pytest.fixture
def vae(tiny):
    return dataclasses.replace(tiny, model="vae")


@pytest.fixture
def state(vae):
    return build_state(tf.distribute.get_strategy(), vae, SHAPE, steps=10)


@pytest.fixture
def batch(random):
    image, noisy = random.random((2, 8, *SHAPE), np.float32)
    return {"image": tf.constant(image), "noisy": tf.constant(noisy)}


@pytest.mark.parametrize("mean, log_variance", [(0.0, 0.0), (1.5, 0.0), (0.0, 1.0), (-0.5, -2.0)])
def test_the_divergence_is_the_integral(mean, log_variance):
    x = np.linspace(-30, 30, 200_001)
    deviation = np.exp(log_variance / 2)
    ours = np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
    prior = -0.5 * x**2 - 0.5 * np.log(2 * np.pi)
    log_ours = -0.5 * ((x - mean) / deviation) ** 2 - np.log(deviation * np.sqrt(2 * np.pi))
    expected = np.trapezoid(ours * (log_ours - prior), x)
    found = variational.divergence(tf.constant([[mean, 0.0]]), tf.constant([[log_variance, 0.0]]))
    assert float(found[0]) == pytest.approx(expected, abs=1e-5)


def test_the_loss_is_the_error_and_betas_share_of_the_divergence(state, batch):
    mean, log_variance = state.model.posterior(batch["noisy"])
    apart = variational.divergence(mean, log_variance).numpy()
    draws = tf.random.stateless_normal([8, 4], SEED)
    output = state.model.decode(mean + tf.exp(log_variance / 2) * draws, training=True)
    error = metrics.squared_error(batch["image"], output).numpy()
    parts, _ = train_step(state, batch, SEED, 8, objective(3.0))
    assert float(parts["divergence"]) == pytest.approx(apart.mean(), rel=1e-4)
    assert float(parts["reconstruction"]) == pytest.approx(error.mean(), rel=1e-4)
    assert float(parts["loss"]) == pytest.approx((error + 3 * apart / 256).mean(), rel=1e-4)


def test_what_is_measured_draws_nothing(state, vae, batch, random):
    # A new model has the same posterior for all images.
    state.model.set_weights([each + random.normal(0, 0.1, each.shape) for each in state.model.get_weights()])
    objective = objectives.find(vae)
    output = state.model(batch["noisy"])
    found = objective.errors(state.model, batch, output)
    np.testing.assert_allclose(found["reconstruction"], metrics.squared_error(batch["image"], output), rtol=1e-5)
    assert set(found) == set(objective.parts)
    apart = variational.divergence(*state.model.posterior(batch["noisy"]))
    np.testing.assert_allclose(found["divergence"], apart, rtol=1e-4)
    np.testing.assert_allclose(found["loss"], found["reconstruction"] + vae.beta * apart / 256, rtol=1e-4)
    np.testing.assert_array_equal(output, state.model.decode(state.model.encode(batch["noisy"])))


def test_a_large_beta_brings_the_divergence_down(state, batch):
    state.rate_factor.assign(10)
    train = tf.function(lambda seed: train_step(state, batch, seed, 8, objective(100.0)))
    told = [float(train(tf.constant([0, n], tf.int64))[0]["divergence"]) for n in range(60)]
    assert told[-1] < 0.2 * told[0]


def test_samples_come_from_the_prior_by_the_seed(state):
    one, same, other = (state.model.sample(5, seed).numpy() for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert one.shape == (5, *SHAPE) and not np.array_equal(one, other)
    expected = state.model.decode(tf.random.stateless_normal([5, 4], [0, 0]))
    np.testing.assert_array_equal(one, expected)
