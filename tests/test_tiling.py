import numpy as np
import pytest
import tensorflow as tf

from cae import tiling
from cae.tiling import num_tiles, tiled_predict


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (5, 40), (29, 28), (100, 65), (300, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_identity_leaves_images_of_any_size_unchanged(size, channels, random):
    image = random.random((*size, channels), np.float32)
    np.testing.assert_allclose(tiled_predict(tf.identity, image, (28, 28)), image, atol=1e-6)


def test_tiles_are_blended_without_a_seam():
    def alternate(images):
        """Makes every other image of a batch brighter, the others darker: tiles differ from their neighbors."""
        signs = 1.0 - 2.0 * tf.cast(tf.range(tf.shape(images)[0]) % 2, tf.float32)
        return images + 0.1 * tf.reshape(signs, [-1, 1, 1, 1])

    output = tiled_predict(alternate, np.full((120, 90, 1), 0.5, np.float32), (28, 28))
    # 1 + (120 - 28) / 14 = 7.6 tiles down, 1 + (90 - 28) / 14 = 5.4 across.
    assert num_tiles((120, 90), (28, 28)) == 8 * 6
    assert np.ptp(output) > 0.08, "tiles differ by 0.2, and this is visible"
    steps = max(np.abs(np.diff(output, axis=axis)).max() for axis in (0, 1))
    # The middles of two tiles are 14 pixels apart; a raised cosine's steepest step is pi / 2 of the mean one.
    assert steps <= 0.2 / 14 * np.pi / 2 + 1 / 255


def test_tiles_need_not_be_square(random):
    image = random.random((50, 33, 1), np.float32)
    np.testing.assert_allclose(tiled_predict(tf.identity, image, (12, 20)), image, atol=1e-6)
    assert num_tiles((12, 20), (12, 20)) == 1


def test_a_batch_holds_a_limited_number_of_pixels(monkeypatch, random):
    monkeypatch.setattr(tiling, "MAX_BATCH_PIXELS", 3 * 28 * 28)
    sizes = []

    def record(images):
        sizes.append(len(images))
        return images

    image = random.random((100, 65, 1), np.float32)
    np.testing.assert_allclose(tiled_predict(record, image, (28, 28)), image, atol=1e-6)
    assert max(sizes) == 3 and sum(sizes) == num_tiles((100, 65), (28, 28))


def test_large_tiles_overlap_by_what_a_model_sees_and_leave_no_seam(random):
    # 1 + (2000 - 640) / (640 - 64) = 3.4 tiles.
    assert num_tiles((2000, 640), (640, 640)) == 4
    image = random.random((2000, 640, 1), np.float32)
    # A model that sees 32 pixels far, each way.
    blur = lambda images: tf.nn.avg_pool2d(images, 65, 1, "SAME")  # noqa: E731
    tiled, whole = tiled_predict(blur, image, (640, 640)), blur(image[None])[0].numpy()
    assert np.abs(tiled - whole)[64:-64].max() < 0.01 < np.abs(image - whole).max()
