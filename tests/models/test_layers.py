import numpy as np
import pytest
import tensorflow as tf

from cae.models import layers


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("height, width", [(28, 28), (27, 33), (5, 6)])
def test_cropping_undoes_padding(height, width, known, random):
    images = random.random((2, height, width, 3), np.float32)

    @tf.function(input_signature=[tf.TensorSpec(images.shape if known else [None] * 3 + [3], tf.float32)])
    def there_and_back(images):
        padded = layers.pad_to_multiple(images, 4)
        return tf.shape(padded)[1:3], layers.crop_from_multiple(padded, *layers.sides(images), 4)

    shape, back = there_and_back(images)
    assert (shape.numpy() == [-(-height // 4) * 4, -(-width // 4) * 4]).all()
    np.testing.assert_array_equal(back, images)


def test_folding_undoes_unfolding(random):
    features = random.random((2, 6, 8, 12), np.float32)
    np.testing.assert_array_equal(layers.SpaceToDepth()(layers.DepthToSpace()(features)), features)


def test_a_block_that_starts_as_identity_changes_nothing_before_it_learns(random):
    features = random.random((2, 6, 8, 12), np.float32)
    np.testing.assert_array_equal(layers.ResidualBlock(12, "relu", starts_as_identity=True)(features), features)
    assert not np.allclose(layers.ResidualBlock(12, "relu")(features), features)
