import numpy as np
import pytest
import tensorflow as tf
from half_mean import run_of

from cae import models, tiling
from cae.config import Config
from cae.tiling import TileSize, limit_tile_size, num_tiles, tiled_predict


@pytest.mark.parametrize("size", [(28, 28), (1, 1), (5, 40), (29, 28), (100, 65), (300, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_identity_leaves_images_of_any_size_unchanged(size, channels, random):
    image = random.random((*size, channels), np.float32)
    np.testing.assert_allclose(tiled_predict(tf.identity, image, TileSize(28, 28)), image, atol=1e-6)


def test_tiles_are_blended_without_a_seam():
    def alternate(images):
        """Makes every other image of a batch brighter, the others darker: tiles differ from their neighbors."""
        signs = 1.0 - 2.0 * tf.cast(tf.range(tf.shape(images)[0]) % 2, tf.float32)
        return images + 0.1 * tf.reshape(signs, [-1, 1, 1, 1])

    output = tiled_predict(alternate, np.full((120, 90, 1), 0.5, np.float32), TileSize(28, 28))
    # 1 + (120 - 28) / 14 = 7.6 tiles down, 1 + (90 - 28) / 14 = 5.4 across.
    assert num_tiles((120, 90), TileSize(28, 28)) == 8 * 6
    assert np.ptp(output) > 0.08, "tiles differ by 0.2, and this is visible"
    steps = max(np.abs(np.diff(output, axis=axis)).max() for axis in (0, 1))
    # The middles of two tiles are 14 pixels apart; a raised cosine's steepest step is pi / 2 of the mean one.
    assert steps <= 0.2 / 14 * np.pi / 2 + 1 / 255


def test_tiles_need_not_be_square(random):
    image = random.random((50, 33, 1), np.float32)
    np.testing.assert_allclose(tiled_predict(tf.identity, image, TileSize(12, 20)), image, atol=1e-6)
    assert num_tiles((12, 20), TileSize(12, 20)) == 1


def test_a_batch_holds_a_limited_number_of_pixels(monkeypatch, random):
    monkeypatch.setattr(tiling, "MAX_BATCH_PIXELS", 3 * 28 * 28)
    sizes = []

    def record(images):
        sizes.append(len(images))
        return images

    image = random.random((100, 65, 1), np.float32)
    np.testing.assert_allclose(tiled_predict(record, image, TileSize(28, 28)), image, atol=1e-6)
    assert max(sizes) == 3 and sum(sizes) == num_tiles((100, 65), TileSize(28, 28))


@pytest.fixture
def crops_run(random):
    """Makes a run of a model of crops whose weights are all random, as training leaves none at 0."""

    def make(name, channels=1):
        config = Config(dataset="folder:photos", model=name, base_filters=4, crop_size=32, noise="awgn:25")
        model = models.build_model(config, (32, 32, channels))
        model.set_weights([each + random.normal(0, 0.05, each.shape) for each in model.get_weights()])
        return run_of(model, (32, 32, channels), config)

    return make


@pytest.mark.parametrize("name", [name for name, spec in models.MODELS.items() if spec.free_sides])
def test_a_large_image_is_denoised_in_tiles_as_it_is_whole(name, crops_run, random, monkeypatch):
    monkeypatch.setattr(tiling, "MAX_TILE_SIDE", 256)
    run, image = crops_run(name), random.integers(0, 256, (50, 437, 1), np.uint8)
    widths, compiled = [], run._denoise
    vars(run)["_denoise"] = lambda images: widths.append(images.shape[2]) or compiled(images)
    whole, tiled = run.model(image[None] / np.float32(255))[0].numpy(), run.denoise(image)
    # Two tiles, which overlap by 64 pixels and by what makes them multiples, are half of 437 + 64 pixels wide.
    width = {2: 252, 4: 252, 8: 256}[run.model.multiple]
    assert {*widths} == {width} and np.abs(image / 255 - whole).max() > 0.5
    difference, start = np.abs(tiled - whole).max(axis=(0, 2)), 437 - width
    # A ResUNet sees 1 + (1 + 8) + (2 + 16) + (4 + 32) + (4 + 16) + (2 + 8) + 1 + 1 = 96 pixels far, others less.
    np.testing.assert_allclose(difference[: width - 100], 0, atol=1e-5)
    np.testing.assert_allclose(difference[start + 100 :], 0, atol=1e-5)
    # Where a tile ends, it counts least, and differs less than where both count the same.
    ends = np.concatenate([difference[end - 1 : end + 1] for end in (start, width)])
    assert ends.max() < 0.5 * difference.max() < 2.5 / 255


@pytest.mark.parametrize("name", [name for name, spec in models.MODELS.items() if spec.free_sides])
def test_an_image_no_larger_than_the_multiple_is_denoised_as_it_is_whole(name, crops_run, random):
    model = crops_run(name).model
    for size in ((1, 1), (1, model.multiple), (model.multiple, model.multiple), (model.multiple, 3)):
        image = random.random((*size, 1), np.float32)
        with np.errstate(all="raise"):
            tiled = tiled_predict(model, image, limit_tile_size(size, model.multiple))
        np.testing.assert_allclose(tiled, model(image[None])[0], atol=1e-6)


def test_tiles_of_one_multiple_are_side_by_side(random):
    image = random.random((20, 9, 1), np.float32)
    np.testing.assert_allclose(tiled_predict(tf.identity, image, TileSize(8, 8, 8)), image, atol=1e-6)
    assert num_tiles((20, 9), TileSize(8, 8, 8)) == 3 * 2


def test_large_images_have_tiles_of_about_the_same_size_at_multiples():
    # (3000 - 64) / (640 - 64) = 5.1 and (4000 - 64) / (640 - 64) = 6.8.
    size = limit_tile_size((3000, 4000), 8)
    assert size == (560, 632, 8) and num_tiles((3000, 4000), size) == 6 * 7
    assert limit_tile_size((640, 13), 8) == (640, 13, 8) and limit_tile_size((641, 641), 2) == (354, 354, 2)
    # Levels of a U-Net for crops of 4096 pixels: two tiles overlap by one multiple at least.
    size = limit_tile_size((2000, 1024), 512)
    assert size == (1024, 1024, 512) and num_tiles((2000, 1024), size) == 3
