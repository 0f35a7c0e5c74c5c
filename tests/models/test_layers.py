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


@pytest.mark.parametrize("size, multiple", [(28, 8), (5, 4), (3, 8), (1, 4), (1, 16)])
def test_symmetric_padding_reflects_as_often_as_it_takes(size, multiple, random):
    """NumPy's is that of `tf.pad`, and reflects more than once."""
    images = random.random((2, size, 3, 1), np.float32)
    missing, of_three = -size % multiple, -3 % multiple
    padding = [(0, 0), *((each // 2, each - each // 2) for each in (missing, of_three)), (0, 0)]
    for signature in (images.shape, [None, None, None, 1]):
        pad = tf.function(
            lambda images: layers.pad_to_multiple(images, multiple, "SYMMETRIC"),
            input_signature=[tf.TensorSpec(signature)],
        )
        np.testing.assert_array_equal(pad(images), np.pad(images, padding, "symmetric"))


def test_space_to_depth_undoes_depth_to_space(random):
    features = random.random((2, 6, 8, 12), np.float32)
    np.testing.assert_array_equal(layers.space_to_depth(layers.depth_to_space(features)), features)


def test_zero_initialized_block_is_the_identity_before_training(random):
    features = random.random((2, 6, 8, 12), np.float32)
    np.testing.assert_array_equal(layers.ResidualBlock(12, "relu", zero_init=True)(features), features)
    assert not np.allclose(layers.ResidualBlock(12, "relu")(features), features)
