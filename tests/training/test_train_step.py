import copy
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from trainings import FinalState

from cae import metrics, models
from cae.config import Config
from cae.training import distribution
from cae.training.objectives import OBJECTIVES, Reconstruction, get_objective
from cae.training.train_state import EpochMetrics, TrainState
from cae.training.train_step import MAX_CONSECUTIVE_NONFINITE_STEPS, make_evaluate, make_train_steps, train_step

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 0], tf.int64)


def make_batches(count, random, size=8):
    """Batches that are the same whenever they are iterated over."""
    images = random.random((count, size, *SHAPE), np.float32)
    return tf.data.Dataset.from_tensor_slices({"image": images, "input": images[::-1].copy()})


def new_state(strategy, config):
    return TrainState.create(strategy, config, SHAPE, total_steps=10)


@pytest.fixture
def run_steps(state_cache):
    """Takes steps from a new state; returns the final state, the sum of the losses, and how many were applied."""

    def run(strategy, config, data, count):
        state = state_cache.state(strategy, config)
        train_steps = state_cache.make_train_steps(strategy, state, get_objective(config), 8)
        distributed = iter(distribution.distribute_dataset(strategy, data, infinite=True))
        losses, applied = train_steps(distributed, tf.constant(count))
        assert state.global_step == count
        return FinalState.of(state), float(losses["loss"]), int(applied)

    return run


class Scale(keras.Model):
    """An output that is the input times one weight."""

    def __init__(self):
        super().__init__()
        self.factor = self.add_weight(shape=(), initializer="zeros")

    def call(self, images, training=False):
        return images * self.factor


def test_one_step_worked_out_by_hand():
    model = Scale()
    state = TrainState(model, keras.optimizers.SGD(0.5))
    batch = {"input": tf.fill([2, *SHAPE], 0.5), "image": tf.ones([2, *SHAPE])}
    model(batch["input"])
    # Loss (1 - w / 2)^2 at w = 0 is 1; its derivative -(1 - w / 2) is -1; w becomes 0 + 0.5 * 1.
    losses, applied = train_step(state, Reconstruction(Config()), batch, SEED, 2)
    assert applied
    assert float(losses["loss"]) == pytest.approx(1)
    assert float(model.factor) == pytest.approx(0.5)


class ScaleWithPenalty(Reconstruction):
    """An objective of the documented form: one more loss term by one method."""

    loss_names = ("loss", "penalty_loss")

    def losses(self, model, batch, rng=None, critic=None):
        output, losses = super().losses(model, batch, rng)
        penalty_loss = tf.repeat(tf.square(model.factor - 1), tf.shape(output)[0])
        return output, {"loss": losses["loss"] + 2 * penalty_loss, "penalty_loss": penalty_loss}


def test_loss_term_needs_one_method():
    model = Scale()
    state = TrainState(model, keras.optimizers.SGD(0.5), epoch_metrics=EpochMetrics(ScaleWithPenalty.loss_names))
    batch = {"input": tf.fill([8, *SHAPE], 0.5), "image": tf.ones([8, *SHAPE])}
    model(batch["input"])
    objective, strategy = ScaleWithPenalty(Config()), tf.distribute.get_strategy()
    train_steps = make_train_steps(strategy, state, objective, 8)
    train_steps(iter(tf.data.Dataset.from_tensors(batch)), tf.constant(1))
    # At w = 0 both are 1, and the derivative is -1 + 2 * -2; w becomes 0.5 * 5.
    assert state.epoch_metrics.means() == pytest.approx({"loss": 3, "penalty_loss": 1})
    assert float(model.factor) == pytest.approx(2.5)
    evaluated = make_evaluate(strategy, model, objective)(tf.data.Dataset.from_tensors(batch))
    # (1 - 2.5 / 2)^2 and (2.5 - 1)^2.
    assert evaluated["loss"] == pytest.approx(0.0625 + 2 * 2.25) and evaluated["penalty_loss"] == pytest.approx(2.25)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_evaluation_has_the_training_loss(state_cache, tiny, random, name):
    changes = {"vae": {"model": "vae"}, "acai": {"regularizer": "acai"}}
    config = dataclasses.replace(tiny, **changes.get(name, {}))
    objective, state = get_objective(config), state_cache.state(tf.distribute.get_strategy(), config)
    output, losses = objective.losses(state.model, next(iter(make_batches(1, random))))
    assert output.shape == (8, *SHAPE)
    assert "loss" in losses and losses.keys() <= set(objective.loss_names)
    assert all(each.shape == (8,) for each in losses.values())
    assert set(objective.trains) <= set(objective.loss_names)


def test_model_gets_the_input_and_is_compared_with_the_image(tiny, random):
    state = new_state(tf.distribute.get_strategy(), tiny)
    batch = next(iter(make_batches(1, random)))
    expected = np.mean((state.model(batch["input"], training=True) - batch["image"]) ** 2)
    losses, _ = train_step(state, get_objective(tiny), batch, SEED, 8)
    assert float(losses["loss"]) == pytest.approx(expected)


def test_training_lowers_the_loss(run_steps, tiny, random):
    data = make_batches(1, random).repeat(60)
    _, first, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 1)
    _, sixty, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 60)
    assert sixty / 60 < 0.8 * first


def test_number_of_steps_per_call_does_not_matter(run_steps, tiny, random):
    data = make_batches(6, random)
    one_call, _, _ = run_steps(tf.distribute.get_strategy(), tiny, data, 6)
    strategy = tf.distribute.get_strategy()
    state = new_state(strategy, tiny)
    train_steps = make_train_steps(strategy, state, get_objective(tiny), 8)
    iterator = iter(data)
    for count in (1, 2, 3):
        train_steps(iterator, tf.constant(count))
    assert train_steps.experimental_get_tracing_count() == 1
    for one, other in zip(one_call.weights, state.model.get_weights()):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one_call.loss_sums, state.epoch_metrics.loss_sums)


@pytest.fixture(params=["one replica", "two replicas"])
def strategy(request, mirrored):
    return mirrored if request.param == "two replicas" else tf.distribute.get_strategy()


def with_nan(data, batch, image, key="input", value=np.nan):
    """The same batches, one image of one of them being NaN, or another value."""
    batches = [copy.deepcopy(each) for each in data.as_numpy_iterator()]
    batches[batch][key][image] = value
    return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(lambda *values: np.stack(values), *batches))


# The square of an error of 1e25 is larger than any float32, its gradient is not.
@pytest.mark.parametrize(("image", "key", "value"), [(0, "input", np.nan), (7, "input", np.nan), (7, "image", 1e25)])
def test_nonfinite_step_changes_nothing(run_steps, tiny, strategy, random, image, key, value):
    """On two replicas the first image is on the first one, and the last image on the second one."""
    data = make_batches(3, random)
    two, loss, _ = run_steps(strategy, tiny, data.take(2), 2)
    three, same_loss, applied = run_steps(strategy, tiny, with_nan(data, 2, image, key, value), 3)
    assert applied == 2 and same_loss == pytest.approx(loss)
    assert (three.nonfinite_steps, three.consecutive_skipped) == (1, 1)
    for one, other in zip([*two.weights, *two.optimizer], [*three.weights, *three.optimizer], strict=True):
        np.testing.assert_array_equal(one, other)


def test_training_continues_after_a_nonfinite_step(run_steps, tiny, random):
    state, _, applied = run_steps(tf.distribute.get_strategy(), tiny, with_nan(make_batches(4, random), 1, 3), 4)
    # The optimizer counts its updates in its first variable.
    assert applied == 3 and state.consecutive_skipped == 0 and int(state.optimizer[0]) == 3


def test_steps_end_after_many_consecutive_nonfinite_ones(state_cache, tiny, random):
    data = with_nan(make_batches(1, random), 0, 0).repeat(MAX_CONSECUTIVE_NONFINITE_STEPS + 5)
    state = state_cache.state(tf.distribute.get_strategy(), tiny)
    train_steps = state_cache.make_train_steps(tf.distribute.get_strategy(), state, get_objective(tiny), 8)
    train_steps(iter(data), tf.constant(MAX_CONSECUTIVE_NONFINITE_STEPS + 5))
    skipped = int(state.epoch_metrics.consecutive_skipped.numpy())
    assert state.global_step == skipped == MAX_CONSECUTIVE_NONFINITE_STEPS


@pytest.fixture
def float16():
    return Config(latent_dim=4, base_filters=4, precision="mixed_float16", batch_size=8)


def test_overflow_on_the_second_replica_alone_keeps_the_weights_finite(float16, mirrored, random):
    # Gradients of the second half overflow float16, those of the first are 0.
    images = random.random((1, 8, *SHAPE), np.float32)
    images[:, :4] = 0
    data = tf.data.Dataset.from_tensor_slices({"image": 1e30 * images, "input": images})
    state = new_state(mirrored, float16)
    before, scale = state.model.get_weights(), float(state.optimizer.dynamic_scale.numpy())
    train_steps = make_train_steps(mirrored, state, get_objective(float16), 8)
    train_steps(iter(distribution.distribute_dataset(mirrored, data)), tf.constant(1))
    for one, other in zip(before, state.model.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert float(state.optimizer.dynamic_scale.numpy()) == scale / 2


@pytest.mark.parametrize("num_images", [9, 17])
def test_evaluation_is_exact_for_any_last_batch(tiny, random, strategy, num_images):
    model = new_state(strategy, tiny).model
    image, noisy = random.random((2, num_images, *SHAPE), np.float32)
    data = tf.data.Dataset.from_tensor_slices({"image": image, "input": noisy / 2}).batch(8)
    objective = get_objective(dataclasses.replace(tiny, loss="binary_crossentropy"))
    evaluated = make_evaluate(strategy, model, objective)(data)
    output = model(noisy / 2)
    expected = {"loss": metrics.binary_crossentropy} | metrics.METRICS
    assert evaluated == pytest.approx(
        {name: float(np.mean(metric(image, output))) for name, metric in expected.items()}, rel=1e-4
    )


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_can_be_trained(run_steps, random, name):
    config = Config(model=name, latent_dim=4, base_filters=4, batch_size=8)
    _, _, applied = run_steps(tf.distribute.get_strategy(), config, make_batches(2, random), 2)
    assert applied == 2


def test_replicas_without_an_image_of_a_batch_change_no_mean(tiny, mirrored, random):
    config = dataclasses.replace(tiny, model="unet")
    with mirrored.scope():
        model = models.build_model(config, (16, 16, 1))
    images = tf.constant(random.random((1, 20, 17, 1), np.float32))
    batches = tf.data.Dataset.from_tensors({"image": images, "input": images / 2})
    evaluated = make_evaluate(mirrored, model, get_objective(config))(batches)
    # An untrained U-Net returns black images, and no second image counts.
    assert evaluated["mse"] == pytest.approx(float(tf.reduce_mean(images**2)), rel=1e-6)
