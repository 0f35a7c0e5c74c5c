import copy
import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from fits import Ended

from cae import metrics, models
from cae.config import Config
from cae.training import distribution, objectives
from cae.training.build import build_state
from cae.training.state import State
from cae.training.step import differentiate, train_step
from cae.training.steps import MOST_IN_A_ROW, make_measure, make_train_steps

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 0], tf.int64)
PLAIN = functools.partial(differentiate, loss_of=metrics.squared_error)


def batches(count, random, size=8):
    """Batches that are the same every time that they are gone through."""
    images = random.random((count, size, *SHAPE), np.float32)
    data = {"image": images, "noisy": images[::-1].copy(), "label": np.zeros((count, size, 1), np.float32)}
    return tf.data.Dataset.from_tensor_slices(data)


def state_of(strategy, settings):
    return build_state(strategy, settings, SHAPE, steps=10)


@pytest.fixture
def run_steps(builds):
    """Takes steps from a new state on; returns what it is then, the sum of the losses, and how many steps counted."""

    def run(strategy, settings, data, count):
        state = builds.state(strategy, settings)
        train_steps = builds.make_train_steps(strategy, state, objectives.find(settings), 8)
        distributed = iter(distribution.shared_out(strategy, data, endless=True))
        losses, good = train_steps(distributed, tf.constant(count))
        assert state.steps == count
        return Ended.of(state), float(losses["loss"]), int(good)

    return run


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
    losses, learned = train_step(state, batch, SEED, 2, PLAIN)
    assert learned
    assert float(losses["loss"]) == pytest.approx(1)
    assert float(model.factor) == pytest.approx(0.5)


def test_the_model_sees_the_noisy_image_and_is_held_to_the_clean_one(tiny, random):
    strategy = tf.distribute.get_strategy()
    state = state_of(strategy, tiny)
    batch = next(iter(batches(1, random)))
    expected = np.mean((state.model(batch["noisy"], training=True) - batch["image"]) ** 2)
    losses, _ = train_step(state, batch, SEED, 8, PLAIN)
    assert float(losses["loss"]) == pytest.approx(expected)


def test_training_brings_the_loss_down(run_steps, tiny, random):
    data = batches(1, random).repeat(60)
    _, first, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 1)
    _, sixty, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 60)
    assert sixty / 60 < 0.8 * first


def test_many_steps_at_once_are_the_same_steps(run_steps, tiny, random):
    data = batches(6, random)
    together, _, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 6)
    strategy = tf.distribute.get_strategy()
    state = state_of(strategy, tiny)
    train_steps = make_train_steps(strategy, state, objectives.find(tiny), 8)
    iterator = iter(data)
    for count in (1, 2, 3):
        train_steps(iterator, tf.constant(count))
    assert train_steps.experimental_get_tracing_count() == 1
    for one, other in zip(together.weights, state.model.get_weights()):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(together.sums, state.tally.sums)


@pytest.fixture(params=["one replica", "two replicas"])
def strategy(request, mirrored):
    return mirrored if request.param == "two replicas" else tf.distribute.get_strategy()


def spoiled(data, batch, image):
    """The same batches, one image of one of them being no number."""
    batches = [copy.deepcopy(each) for each in data.as_numpy_iterator()]
    batches[batch]["noisy"][image] = np.nan
    return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(lambda *parts: np.stack(parts), *batches))


@pytest.mark.parametrize("image", [0, 7])
def test_a_step_in_which_something_is_not_finite_changes_nothing(run_steps, tiny, strategy, random, image):
    """On two replicas the first image is the first one's, and the last the second one's."""
    data = batches(3, random)
    two, loss, _ = run_steps(strategy, tiny, data.take(2), 2)
    three, same_loss, good = run_steps(strategy, tiny, spoiled(data, 2, image), 3)
    assert good == 2 and same_loss == pytest.approx(loss)
    assert (three.skipped, three.in_a_row) == (1, 1)
    for one, other in zip([*two.weights, *two.optimizer], [*three.weights, *three.optimizer], strict=True):
        np.testing.assert_array_equal(one, other)


def test_learning_goes_on_after_such_a_step(run_steps, tiny, random):
    ended, _, good = run_steps(tf.distribute.get_strategy(), tiny, spoiled(batches(4, random), 1, 3), 4)
    # The optimizer counts the steps that it took in its first variable.
    assert good == 3 and ended.in_a_row == 0 and int(ended.optimizer[0]) == 3


def test_steps_end_where_nothing_is_learned_any_more(builds, tiny, random):
    data = spoiled(batches(1, random), 0, 0).repeat(MOST_IN_A_ROW + 5)
    state = builds.state(tf.distribute.get_strategy(), tiny)
    train_steps = builds.make_train_steps(tf.distribute.get_strategy(), state, objectives.find(tiny), 8)
    train_steps(iter(data), tf.constant(MOST_IN_A_ROW + 5))
    assert state.steps == int(state.tally.in_a_row.numpy()) == MOST_IN_A_ROW


@pytest.fixture
def float16():
    yield Config(latent_dim=4, width=4, precision="mixed_float16", batch_size=8)
    keras.config.set_dtype_policy("float32")


def test_an_overflow_on_the_second_replica_alone_leaves_the_weights_finite(float16, mirrored, random):
    # Gradients of the second half overflow float16, those of the first are none.
    images = random.random((1, 8, *SHAPE), np.float32)
    images[:, :4] = 0
    data = tf.data.Dataset.from_tensor_slices({"image": 1e30 * images, "noisy": images})
    state = state_of(mirrored, float16)
    before, scale = state.model.get_weights(), float(state.optimizer.dynamic_scale.numpy())
    train_steps = make_train_steps(mirrored, state, objectives.find(float16), 8)
    train_steps(iter(distribution.shared_out(mirrored, data)), tf.constant(1))
    for one, other in zip(before, state.model.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert float(state.optimizer.dynamic_scale.numpy()) == scale / 2


@pytest.mark.parametrize("images", [9, 17])
def test_a_measurement_is_exact_whatever_the_last_batch(tiny, random, strategy, images):
    model = state_of(strategy, tiny).model
    clean, noisy = random.random((2, images, *SHAPE), np.float32)
    data = tf.data.Dataset.from_tensor_slices({"image": clean, "noisy": noisy / 2}).batch(8)
    distributed = distribution.shared_out(strategy, data)
    objective = objectives.find(dataclasses.replace(tiny, loss="cross_entropy"))
    measured = make_measure(strategy, model, objective)(distributed)
    output = model(noisy / 2)
    expected = {"loss": metrics.cross_entropy} | metrics.QUALITIES
    assert measured == pytest.approx({k: float(np.mean(of(clean, output))) for k, of in expected.items()}, rel=1e-4)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_models_of_the_table_can_be_fitted(run_steps, random, family):
    settings = Config(model=family, latent_dim=4, width=4, batch_size=8)
    _, _, good = run_steps(tf.distribute.get_strategy(), settings, batches(2, random), 2)
    assert good == 2
