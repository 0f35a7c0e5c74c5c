"""What every family of models has to hold to."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.errors import UserError

SHAPES = [(28, 28, 1), (32, 32, 3), (11, 11, 1), (27, 33, 1), (105, 64, 3)]


def new_model(family, shape=(28, 28, 1), **changes):
    """Builds a small model."""
    return models.build(dataclasses.replace(Config(latent_dim=5, width=4, model=family), **changes), shape)


@functools.cache
def settled_model(family, shape=(28, 28, 1), **changes):
    """Returns a model whose weights are not those of a start, where some outputs are 0 whatever comes in.

    It is the same for the same arguments, and only read.
    """
    model, random = new_model(family, shape, **changes), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * random.standard_normal(variable.shape))
    return model


@pytest.fixture(params=models.FAMILIES)
def family(request):
    """The name of each family in turn."""
    return request.param


@pytest.fixture
def has_latents(family):
    return models.FAMILIES[family].has_latents


@pytest.fixture
def build(family):
    """Builds a model of each family in turn."""
    return functools.partial(new_model, family)


@pytest.fixture
def settled(family):
    """Returns a model of each family in turn, with weights that are not those of a start."""
    return functools.partial(settled_model, family)


@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_sides_become_images_of_the_same(settled, shape, random):
    images = random.random((3, *shape), np.float32)
    assert settled(shape)(images).shape == images.shape


def test_families_say_whether_they_have_latent_vectors(settled, has_latents, random):
    model, images = settled(), random.random((3, 28, 28, 1), np.float32)
    assert hasattr(model, "encode") == hasattr(model, "decode") == has_latents
    if has_latents:
        latents = model.encode(images)
        assert latents.shape == (3, 5)
        np.testing.assert_array_equal(model(images), model.decode(latents))


def test_denoisers_without_latent_vectors_take_images_of_other_sides(settled, has_latents, random):
    if has_latents:
        pytest.skip("made for images of one size")
    graph = tf.function(settled(), input_signature=None)
    for sides in ((28, 28), (40, 17), (9, 64)):
        images = random.random((2, *sides, 1), np.float32)
        assert graph(images).shape == images.shape


def test_moving_a_picture_moves_what_is_far_from_its_border(settled, has_latents, random):
    if has_latents:
        pytest.skip("made for images of one size")
    model, image = settled(), np.zeros((1, 160, 160, 1), np.float32)
    image[:, 72:88, 72:88] = random.random((1, 16, 16, 1))
    moved = np.roll(image, (8, 16), axis=(1, 2))
    there, here = model(moved).numpy()[:, 72:96, 80:104], model(image).numpy()[:, 64:88, 64:88]
    np.testing.assert_allclose(there, here, atol=1e-5)


def test_graph_and_eager_agree(settled, random):
    model, images = settled(), random.random((2, 28, 28, 1), np.float32)
    np.testing.assert_allclose(tf.function(model)(images), model(images), atol=1e-5)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_every_variable_gets_a_gradient(settled, loss, random):
    model = settled(loss=loss)
    with tf.GradientTape() as tape:
        output = model(random.random((2, 28, 28, 1), np.float32), training=True)
        value = tf.reduce_sum(output**2)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(value, model.trainable_variables)):
        assert gradient is not None and np.any(gradient != 0), variable.path


def test_a_few_steps_lower_the_error(build, random):
    model, images = build(), random.random((16, 28, 28, 1), np.float32)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    target = np.repeat(np.repeat(images[:, ::4, ::4], 4, axis=1), 4, axis=2)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            error = tf.reduce_mean((model(images, training=True) - target) ** 2)
        optimizer.apply(tape.gradient(error, model.trainable_variables), model.trainable_variables)
        return error

    errors = [float(step()) for _ in range(20)]
    assert errors[-1] < 0.95 * errors[0]


def test_a_linear_output_is_in_range_but_in_training(build, settled, random):
    model = build()
    model.set_weights(settled().get_weights())
    for variable in model.trainable_variables[-4:]:
        variable.assign(10 * variable)
    images = random.random((4, 28, 28, 1), np.float32)
    free, shown = model(images, training=True).numpy(), model(images).numpy()
    assert free.min() < 0 and free.max() > 1
    np.testing.assert_array_equal(shown, free.clip(0, 1))


def test_cross_entropy_wants_probabilities(settled, random):
    output = settled(loss="cross_entropy")(random.random((4, 28, 28, 1), np.float32), training=True).numpy()
    assert output.min() > 0 and output.max() < 1


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_outputs_are_float32_in_every_precision(build, has_latents, precision, random):
    try:
        model = build(precision=precision)
        images = random.random((2, 28, 28, 1), np.float32)
        assert model(images).dtype == tf.float32
        assert not has_latents or model.encode(images).dtype == tf.float32
        assert {variable.dtype for variable in model.variables} == {"float32"}
    finally:
        keras.config.set_dtype_policy("float32")


def test_weights_are_a_function_of_the_seed(build):
    one, same, other = build(), build(), build(seed=1)
    for a, b in zip(one.get_weights(), same.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights()))


def test_a_saved_model_comes_back_the_same(settled, tmp_path, random):
    model, images = settled((27, 33, 3)), random.random((2, 27, 33, 3), np.float32)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(images), model(images))


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(UserError, match=r"unknown --model 'cnov'.*did you mean 'conv'"):
        models.find("cnov")


def test_a_setting_without_a_meaning_is_refused():
    with pytest.raises(UserError, match=r"--latent_dim has no meaning for --model=unet.*; conv, vae have"):
        models.find("unet", said={"width": 8, "latent_dim": 8})
    models.find("unet", said={"width": 8})
    models.find("conv", said={"latent_dim": 8})


def test_a_prior_needs_no_regularizer_and_only_a_prior_has_a_beta():
    with pytest.raises(UserError, match="--regularizer=acai is for --model=conv; vae has a prior already"):
        models.find("vae", said={"regularizer": "acai"})
    with pytest.raises(UserError, match="--beta has no meaning for --model=conv, which has no prior; vae has one"):
        models.find("conv", said={"beta": 2.0})
    models.find("vae", said={"beta": 2.0})
    models.find("conv", said={"regularizer": "acai"})


def test_a_posterior_keeps_to_finite_variances(random):
    model = settled_model("vae", (12, 12, 1))
    mean, log_variance = model.posterior(1e6 * random.random((3, 12, 12, 1), np.float32))
    assert mean.shape == log_variance.shape == (3, 5)
    assert np.abs(log_variance).max() <= 10


@pytest.mark.parametrize("shape", SHAPES)
def test_a_critic_says_one_number_an_image(shape, random):
    critic = models.build_critic(Config(width=4, regularizer="acai"), shape)
    assert critic(random.random((3, *shape), np.float32)).shape == (3,)
