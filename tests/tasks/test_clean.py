import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from skimage.restoration import estimate_sigma

from cae import models
from cae.config import Config
from cae.data import originals
from cae.tasks import clean


class Same(keras.Model):
    """Gives back what it is given."""

    def call(self, images):
        return tf.identity(images)


class Moody(keras.Model):
    """Makes each of its images brighter or darker as a whole, by the position in the batch: neighbours differ."""

    def call(self, images):
        signs = 1.0 - 2.0 * tf.cast(tf.range(tf.shape(images)[0]) % 2, tf.float32)
        return images + 0.1 * tf.reshape(signs, [-1, 1, 1, 1])


def pictures(*arrays):
    for number, values in enumerate(arrays):
        picture = Image.fromarray(values)
        channels = values.reshape(*values.shape[:2], -1)
        nothing = channels[..., :0]
        yield str(number), originals.Original(str(number), "PNG", picture.mode, channels, nothing, 0.0, 255.0, picture)


def run(model, *arrays, shape=(28, 28, 1)):
    return [result for _, result in clean.run(model, shape, pictures(*arrays))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sides", [(28, 28), (1, 1), (5, 40), (29, 28), (100, 65), (300, 300)])
def test_a_model_that_changes_nothing_leaves_pictures_of_any_size_as_they_are(sides, channels, random):
    for shape in (sides, (*sides, 3)):
        values = random.integers(0, 256, shape, np.uint8)
        (result,) = run(Same(), values, shape=(28, 28, channels))
        np.testing.assert_array_equal(result.channels.reshape(shape), values)
        assert result.change == pytest.approx(0, abs=1e-6)


def test_no_seam_between_tiles_can_be_seen():
    values = np.full((120, 90), 128, np.uint8)
    (result,) = run(Moody(), values)
    assert result.tiles == 8 * 6  # 1 + (120 - 28) / 14 = 7.6 down, 1 + (90 - 28) / 14 = 5.4 across.
    cleaned = result.channels[..., 0].astype(int)
    assert np.ptp(cleaned) > 20, "tiles differ by 51 grey levels, and it shows"
    steps = max(np.abs(np.diff(cleaned, axis=axis)).max() for axis in (0, 1))
    # From one tile's middle to the next one's are 14 pixels; a raised cosine's steepest step is pi / 2 of the mean one.
    assert steps <= 51 / 14 * np.pi / 2 + 1


def test_colours_are_cleaned_one_by_one_as_the_same_picture_in_grey(random):
    model = models.build(Config(width=4, latent_dim=4), (28, 28, 1))
    values = random.integers(0, 256, (40, 30, 3), np.uint8)
    colour, *planes = run(model, values, *(values[..., channel].copy() for channel in range(3)))
    np.testing.assert_array_equal(colour.channels, np.concatenate([plane.channels for plane in planes], axis=-1))


@pytest.mark.parametrize("family", models.FAMILIES)
def test_every_family_cleans_pictures_of_any_size(family, random):
    model = models.build(Config(width=4, latent_dim=4, model=family), (28, 28, 1))
    arrays = [random.integers(0, 256, sides, np.uint8) for sides in ((28, 28), (3, 7), (61, 45, 3))]
    results = run(model, *arrays)
    assert [result.channels.reshape(values.shape).dtype for result, values in zip(results, arrays)] == [np.uint8] * 3


def test_what_is_said_of_a_picture_is_estimated_from_it(random):
    class Half(keras.Model):
        def call(self, images):
            return images / 2

    values = random.integers(0, 256, (64, 64), np.uint8)
    (result,) = run(Half(), values)
    assert result.noise_before == pytest.approx(estimate_sigma(values / 255), rel=1e-4)
    assert result.noise_after == pytest.approx(result.noise_before / 2, rel=1e-4)
    assert result.change == pytest.approx(np.sqrt(np.mean((values / 255 / 2) ** 2)), rel=1e-4)
    facts = result.facts()
    assert (facts["width"], facts["height"], facts["mode"], facts["tiles"]) == (64, 64, "L", 16)


def test_what_cannot_be_read_is_passed_on():
    why = originals.Unreadable("empty")
    assert list(clean.run(Same(), (28, 28, 1), [("a.png", why)])) == [("a.png", why)]
