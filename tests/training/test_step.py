import copy
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae import metrics, models
from cae.config import Config
from cae.training import objectives
from cae.training.state import State, build_state
from cae.training.step import train_step
from cae.training.steps import make_measure, make_train_steps

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 0], tf.int64)


def batches(count, random, size=8):
    """Batches that are the same every time that they are gone through."""
    images = random.random((count, size, *SHAPE), np.float32)
    data = {"image": images, "noisy": images[::-1].copy(), "label": np.zeros((count, size, 1), np.float32)}
    return tf.data.Dataset.from_tensor_slices(data)


def state_of(strategy, settings):
    return build_state(strategy, settings, SHAPE, steps=10)


def run_steps(strategy, settings, data, count):
    state = state_of(strategy, settings)
    train_steps = make_train_steps(strategy, state, objectives.find(settings), 8)
    distributed = iter(strategy.experimental_distribute_dataset(data))
    losses, good = train_steps(distributed, tf.constant(count))
    assert state.steps == count
    return state, float(losses["loss"]), int(good)


class Scale(keras.Model):
    """An output that is the input times one weight."""

    def __init__(self):
        super().__init__()
        self.factor = self.add_weight(shape=(), initializer="zeros")

    def call(self, images, training=False):
        return images * self.factor


def test_one_step_is_what_calculus_says():
    model = Scale()
    state = State.new(model, keras.optimizers.SGD(0.5))
    batch = {"noisy": tf.fill([2, *SHAPE], 0.5), "image": tf.ones([2, *SHAPE])}
    model(batch["noisy"])
    # Loss (1 - w / 2)^2 at w = 0 is 1; its derivative -(1 - w / 2) is -1; w becomes 0 + 0.5 * 1.
    losses = train_step(state, batch, SEED, 2, loss_of=metrics.squared_error)
    assert float(losses["loss"]) == pytest.approx(1)
    assert float(model.factor) == pytest.approx(0.5)


def test_the_model_sees_the_noisy_image_and_is_held_to_the_clean_one(tiny, random):
    strategy = tf.distribute.get_strategy()
    state = state_of(strategy, tiny)
    batch = next(iter(batches(1, random)))
    expected = np.mean((state.model(batch["noisy"], training=True) - batch["image"]) ** 2)
    losses = train_step(state, batch, SEED, 8, loss_of=metrics.squared_error)
    assert float(losses["loss"]) == pytest.approx(expected)


def test_training_brings_the_loss_down(tiny, random):
    data = batches(1, random).repeat(60)
    _, first, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 1)
    _, sixty, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 60)
    assert sixty / 60 < 0.8 * first


def test_two_replicas_do_what_one_does(tiny, random, mirrored):
    data = batches(6, random)
    alone, loss, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 6)
    both, same_loss, _ = run_steps(mirrored, tiny, data, 6)
    assert same_loss == pytest.approx(loss, rel=1e-6)
    for one, other in zip(alone.model.get_weights(), both.model.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_many_steps_at_once_are_the_same_steps(tiny, random):
    data = batches(6, random)
    together, _, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 6)
    strategy = tf.distribute.get_strategy()
    state = state_of(strategy, tiny)
    train_steps = make_train_steps(strategy, state, objectives.find(tiny), 8)
    iterator = iter(data)
    for count in (1, 2, 3):
        train_steps(iterator, tf.constant(count))
    assert train_steps.experimental_get_tracing_count() == 1
    for one, other in zip(together.model.get_weights(), state.model.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_the_first_loss_that_is_not_finite_is_found(tiny, random):
    data = list(batches(5, random).as_numpy_iterator())
    data[3] = copy.deepcopy(data[3])
    data[3]["noisy"][0] = np.nan
    stacked = tf.nest.map_structure(lambda *parts: np.stack(parts), *data)
    _, _, good = run_steps(tf.distribute.get_strategy(), tiny, tf.data.Dataset.from_tensor_slices(stacked), 5)
    assert good == 3


@pytest.fixture
def float16():
    yield Config(latent_dim=4, width=4, precision="mixed_float16", batch_size=8)
    keras.config.set_dtype_policy("float32")


@pytest.fixture(params=["one replica", "two replicas"])
def strategy(request, mirrored):
    return mirrored if request.param == "two replicas" else tf.distribute.get_strategy()


def test_float16_trains(float16, strategy, random):
    _, loss, good = run_steps(strategy, float16, batches(4, random), 4)
    assert good == 4 and 0 < loss / 4 < 1


def test_an_overflow_on_the_second_replica_alone_leaves_the_weights_finite(float16, mirrored, random):
    # Gradients of the second half overflow float16, those of the first are none.
    images = random.random((1, 8, *SHAPE), np.float32)
    images[:, :4] = 0
    data = tf.data.Dataset.from_tensor_slices({"image": 1e30 * images, "noisy": images})
    state = state_of(mirrored, float16)
    before, scale = state.model.get_weights(), float(state.optimizer.dynamic_scale.numpy())
    train_steps = make_train_steps(mirrored, state, objectives.find(float16), 8)
    train_steps(iter(mirrored.experimental_distribute_dataset(data)), tf.constant(1))
    for one, other in zip(before, state.model.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert float(state.optimizer.dynamic_scale.numpy()) == scale / 2


@pytest.mark.parametrize("images", [9, 17])
def test_a_measurement_is_exact_whatever_the_last_batch(tiny, random, strategy, images):
    model = state_of(strategy, tiny).model
    clean = random.random((images, *SHAPE), np.float32)
    data = tf.data.Dataset.from_tensor_slices({"image": clean, "noisy": clean}).batch(8)
    distributed = strategy.experimental_distribute_dataset(data)
    objective = objectives.find(dataclasses.replace(tiny, loss="cross_entropy"))
    measured = make_measure(strategy, model, objective)(distributed)
    output = model(clean)
    expected = {"loss": metrics.cross_entropy} | metrics.QUALITIES
    assert measured == pytest.approx({k: float(np.mean(of(clean, output))) for k, of in expected.items()}, rel=1e-4)


def test_models_of_the_table_can_be_fitted(random):
    for family in models.FAMILIES:
        settings = Config(model=family, latent_dim=4, width=4, batch_size=8)
        _, _, good = run_steps(tf.distribute.get_strategy(), settings, batches(2, random), 2)
        assert good == 2
