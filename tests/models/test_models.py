"""What every model has to satisfy."""

import dataclasses
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.errors import UserError
from cae.models.base import Autoencoder, GenerativeAutoencoder

SHAPES = [(28, 28, 1), (32, 32, 3), (11, 11, 1), (27, 33, 1), (105, 64, 3)]


def new_model(name, shape=(28, 28, 1), **changes):
    """Builds a small model."""
    config = dataclasses.replace(Config(latent_dim=5, base_filters=4, model=name), **changes)
    return models.build_model(config, shape)


@functools.cache
def perturbed_model(name, shape=(28, 28, 1), **changes):
    """Returns a model with other weights than initial ones, with which some outputs are 0 for any input.

    It is the same for the same arguments, and only read.
    """
    model, random = new_model(name, shape, **changes), np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * random.standard_normal(variable.shape))
    return model


@pytest.fixture(params=models.MODELS)
def name(request):
    """Each model's name in turn."""
    return request.param


@pytest.fixture
def has_latents(name):
    return models.MODELS[name].has_latents


@pytest.fixture
def build(name):
    """Builds each model in turn."""
    return functools.partial(new_model, name)


@pytest.fixture
def perturbed(name):
    """Returns each model in turn, with other weights than initial ones."""
    return functools.partial(perturbed_model, name)


@pytest.mark.parametrize("shape", SHAPES)
def test_output_has_the_shape_of_the_input(perturbed, shape, random):
    images = random.random((3, *shape), np.float32)
    assert perturbed(shape)(images).shape == images.shape


def test_flags_agree_with_the_base_class(name):
    spec = models.MODELS[name]
    assert spec.has_latents == ("latent_dim" in spec.flags) == issubclass(spec.model_class, Autoencoder)
    assert spec.free_sides != spec.has_latents
    assert ("beta" in spec.flags) == issubclass(spec.model_class, GenerativeAutoencoder)


def test_autoencoders_decode_what_they_encode(perturbed, has_latents, random):
    if not has_latents:
        pytest.skip("has no latent vectors")
    model, images = perturbed(), random.random((3, 28, 28, 1), np.float32)
    latents = model.encode(images)
    assert latents.shape == (3, 5)
    np.testing.assert_array_equal(model(images), model.decode(latents))


def test_denoisers_without_latent_vectors_take_images_of_any_size(perturbed, has_latents, random):
    if has_latents:
        pytest.skip("made for images of one size")
    model = perturbed()
    graph = tf.function(model, input_signature=[tf.TensorSpec([None, None, None, 1])])
    for size in ((28, 28), (40, 17), (9, 64), (1, 1), (1, 31)):
        images = random.random((2, *size, 1), np.float32)
        np.testing.assert_allclose(graph(images), model(images), atol=1e-5)


def test_denoisers_without_latent_vectors_are_shift_equivariant(perturbed, has_latents, random):
    if has_latents:
        pytest.skip("made for images of one size")
    model, image = perturbed(), np.zeros((1, 256, 256, 1), np.float32)
    image[:, 120:136, 120:136] = random.random((1, 16, 16, 1))
    shifted = np.roll(image, (8, 16), axis=(1, 2))
    output_of_shifted, output = model(shifted).numpy()[:, 120:144, 128:152], model(image).numpy()[:, 112:136, 112:136]
    np.testing.assert_allclose(output_of_shifted, output, atol=1e-5)


def test_graph_and_eager_agree(perturbed, random):
    model, images = perturbed(), random.random((2, 28, 28, 1), np.float32)
    np.testing.assert_allclose(tf.function(model)(images), model(images), atol=1e-5)


@pytest.mark.parametrize("loss", ["mse", "binary_crossentropy"])
def test_every_variable_gets_a_gradient(perturbed, loss, random):
    model = perturbed(loss=loss)
    with tf.GradientTape() as tape:
        output = model(random.random((2, 28, 28, 1), np.float32), training=True)
        value = tf.reduce_sum(output**2)
    # Those of a classifier of clusters are trained by another loss.
    variables = [each for each in model.trainable_variables if "/classifier/" not in each.path]
    for variable, gradient in zip(variables, tape.gradient(value, variables)):
        assert gradient is not None and np.any(gradient != 0), variable.path


def test_a_few_steps_lower_the_error(build, random):
    model, images = build(), random.random((16, 28, 28, 1), np.float32)
    optimizer = keras.optimizers.Adam(0.003)
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


def test_linear_output_is_clipped_except_in_training(build, perturbed, random):
    model = build()
    model.set_weights(perturbed().get_weights())
    for variable in model.trainable_variables[-4:]:
        variable.assign(10 * variable)
    images = random.random((4, 28, 28, 1), np.float32)
    unclipped, clipped = model(images, training=True).numpy(), model(images).numpy()
    assert unclipped.min() < 0 and unclipped.max() > 1
    np.testing.assert_array_equal(clipped, unclipped.clip(0, 1))


def test_output_for_cross_entropy_is_a_probability(perturbed, random):
    output = perturbed(loss="binary_crossentropy")(random.random((4, 28, 28, 1), np.float32), training=True).numpy()
    assert output.min() > 0 and output.max() < 1


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_outputs_are_float32_in_every_precision(build, has_latents, precision, random):
    model, images = build(precision=precision), random.random((2, 28, 28, 1), np.float32)
    assert model(images).dtype == tf.float32
    assert not has_latents or model.encode(images).dtype == tf.float32
    assert {variable.dtype for variable in model.variables} == {"float32"}


def test_denoisers_that_subtract_noise_keep_the_precision_of_images(random):
    """Rounded to bfloat16, an image would have steps of 1/256."""
    images = random.random((2, 12, 12, 1), np.float32)
    np.testing.assert_array_equal(new_model("dncnn", (12, 12, 1), precision="mixed_bfloat16")(images), images)


def test_weights_are_a_function_of_the_seed(build):
    one, same, other = build(), build(), build(seed=1)
    for a, b in zip(one.get_weights(), same.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights()))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_saved_model_is_loaded_with_the_same_output(perturbed, precision, tmp_path, random):
    """Keras saves the arguments of the constructor, defaults included."""
    model, images = perturbed((27, 33, 3), precision=precision), random.random((2, 27, 33, 3), np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert loaded.get_config() == model.get_config()
    assert model.get_config()["base_filters"] == 4 and model.get_config()["output_activation"] == "linear"


def test_registered_classes_are_those_that_saved_models_name(name):
    models.register_classes()
    spec = models.MODELS[name]
    assert keras.saving.get_registered_object(f"cae>{spec.class_name}") is spec.model_class


def test_unknown_model_is_answered_with_the_available_ones():
    with pytest.raises(UserError, match=r"unknown --model 'cnov'.*did you mean 'conv'"):
        models.check_model_flags("cnov", {})


@pytest.mark.parametrize(
    "name, explicit, message",
    [
        (
            "unet",
            {"base_filters": 8, "latent_dim": 8},
            "--latent_dim=8 does not apply to --model=unet; .* conv, vae, deep_cluster$",
        ),
        ("vae", {"regularizer": "acai"}, "--regularizer=acai does not apply to --model=vae; it applies to conv"),
        ("conv", {"beta": 2.0}, "--beta=2.0 does not apply to --model=conv; it applies to vae"),
    ],
)
def test_flag_that_does_not_apply_is_an_error(name, explicit, message):
    with pytest.raises(UserError, match=message):
        models.check_model_flags(name, explicit)


@pytest.mark.parametrize(
    "name, explicit",
    [
        ("unet", {"base_filters": 8}),
        ("conv", {"latent_dim": 8, "regularizer": "acai"}),
        ("vae", {"beta": 2.0, "regularizer": None}),
    ],
)
def test_flags_that_apply_are_accepted(name, explicit):
    models.check_model_flags(name, explicit)


def test_posterior_has_finite_variances(random):
    model = perturbed_model("vae", (12, 12, 1))
    mean, log_var = model.posterior(1e6 * random.random((3, 12, 12, 1), np.float32))
    assert mean.shape == log_var.shape == (3, 5)
    assert np.abs(log_var).max() <= 10


@pytest.mark.parametrize("shape", SHAPES)
def test_critic_has_one_output_per_image(shape, random):
    critic = models.build_critic(Config(base_filters=4, regularizer="acai"), shape)
    assert critic(random.random((3, *shape), np.float32)).shape == (3,)
