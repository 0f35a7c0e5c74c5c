import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.errors import UserError
from cae.models import conv, layers

SHAPES = [(28, 28, 1), (32, 32, 3), (11, 11, 1), (27, 33, 1), (105, 64, 3)]


def build(shape=(28, 28, 1), **changes):
    return models.build(dataclasses.replace(Config(latent_dim=5, width=4), **changes), shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_sides_go_to_a_flat_vector_and_back(shape, random):
    model = build(shape)
    images = random.random((3, *shape), np.float32)
    latents = model.encode(images)
    assert latents.shape == (3, 5)
    assert model.decode(latents).shape == model(images).shape == images.shape


def test_call_is_decode_after_encode(random):
    model, images = build(), random.random((2, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(model(images), model.decode(model.encode(images)))


def test_decoder_mirrors_encoder():
    model = build(width=32, latent_dim=32)
    encoder = [tuple(w.shape) for w in model.encoder.weights if len(w.shape) == 4]
    decoder = [tuple(w.shape) for w in model.decoder.weights if len(w.shape) == 4]
    # Every kernel has its counterpart, with input and output channels changed over; transposed ones are stored so.
    backwards = [kernel if kernel in encoder else (*kernel[:2], kernel[3], kernel[2]) for kernel in reversed(decoder)]
    assert sorted(backwards) == sorted(encoder)


def test_graph_and_eager_agree(random):
    model, images = build(), random.random((2, 28, 28, 1), np.float32)
    np.testing.assert_allclose(tf.function(model)(images), model(images), atol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_every_variable_gets_a_gradient(loss, random):
    model = build(loss=loss)
    with tf.GradientTape() as tape:
        output = model(random.random((2, 28, 28, 1), np.float32), training=True)
        value = tf.reduce_sum(output**2)
    for variable, gradient in zip(model.trainable_variables, tape.gradient(value, model.trainable_variables)):
        assert gradient is not None and np.any(gradient != 0), variable.path


def test_a_linear_output_is_in_range_but_in_training(random):
    model = build()
    latents = 100 * random.standard_normal((4, 5)).astype(np.float32)
    free, shown = model.decode(latents, training=True).numpy(), model.decode(latents).numpy()
    assert free.min() < 0 and free.max() > 1
    np.testing.assert_array_equal(shown, free.clip(0, 1))


def test_cross_entropy_wants_probabilities(random):
    model = build(loss="cross_entropy")
    output = model.decode(random.standard_normal((4, 5)).astype(np.float32), training=True).numpy()
    assert output.min() > 0 and output.max() < 1


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_outputs_and_latent_vectors_are_float32_in_every_precision(precision, random):
    try:
        model = build(precision=precision)
        images = random.random((2, 28, 28, 1), np.float32)
        assert model.encode(images).dtype == model(images).dtype == tf.float32
        assert {variable.dtype for variable in model.variables} == {"float32"}
    finally:
        keras.config.set_dtype_policy("float32")


def test_weights_are_a_function_of_the_seed():
    one, same, other = build(), build(), build(seed=1)
    for a, b in zip(one.get_weights(), same.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights()))


def test_a_saved_model_comes_back_the_same(tmp_path, random):
    model, images = build((27, 33, 3)), random.random((2, 27, 33, 3), np.float32)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(images), model(images))


def test_halvings_end_at_eight_pixels():
    assert [conv.halvings((side, side, 1)) for side in (11, 16, 28, 32, 33, 64, 105)] == [1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("height, width", [(28, 28), (27, 33), (5, 6)])
def test_cropping_undoes_padding(height, width, random):
    images = tf.constant(random.random((2, height, width, 3), np.float32))
    padded = layers.pad_to_multiple(images, 4)
    assert padded.shape[1] % 4 == padded.shape[2] % 4 == 0
    np.testing.assert_array_equal(layers.crop_from_multiple(padded, height, width, 4), images)


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(UserError, match=r"unknown --model 'cnov'.*did you mean 'conv'"):
        models.check("cnov")
