import numpy as np
import pytest
import tensorflow as tf

from cae.models import layers


@pytest.mark.parametrize("is_static", [True, False])
@pytest.mark.parametrize("height, width", [(28, 28), (27, 33), (5, 6)])
def test_cropping_undoes_padding(height, width, is_static, random):
    images = random.random((2, height, width, 3), np.float32)

    @tf.function(input_signature=[tf.TensorSpec(images.shape if is_static else [None] * 3 + [3], tf.float32)])
    def pad_and_crop(images):
        padded = layers.pad_to_multiple(images, 4)
        return tf.shape(padded)[1:3], layers.crop_from_multiple(padded, *layers.spatial_shape(images), 4)

    shape, cropped = pad_and_crop(images)
    assert (shape.numpy() == [-(-height // 4) * 4, -(-width // 4) * 4]).all()
    np.testing.assert_array_equal(cropped, images)


@pytest.mark.parametrize("height, width", [(1, 1), (2, 7), (3, 9), (1, 28), (12, 16)])
def test_padding_reflects_images_of_any_size(height, width, random):
    images = random.random((2, height, width, 3), np.float32)
    missing = (-height % 8, -width % 8)
    paddings = [(0, 0), *((count // 2, count - count // 2) for count in missing), (0, 0)]
    expected = np.pad(images, paddings, "symmetric")
    pad = tf.function(lambda images: layers.pad_to_multiple(images, 8, "SYMMETRIC"))
    for shape in (images.shape, [None, None, None, 3]):
        padded = pad.get_concrete_function(tf.TensorSpec(shape, tf.float32))(tf.constant(images))
        np.testing.assert_array_equal(padded, expected)


def test_space_to_depth_undoes_depth_to_space(random):
    features = random.random((2, 6, 8, 12), np.float32)
    np.testing.assert_array_equal(layers.space_to_depth(layers.depth_to_space(features)), features)


def test_zero_initialized_block_is_the_identity_before_training(random):
    features = random.random((2, 6, 8, 12), np.float32)
    np.testing.assert_array_equal(layers.ResidualBlock(12, "relu", zero_init=True)(features), features)
    assert not np.allclose(layers.ResidualBlock(12, "relu")(features), features)
