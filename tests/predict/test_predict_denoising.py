import weakref

import numpy as np
import pytest
import tensorflow as tf
from half_mean import run_of
from PIL import Image
from skimage.restoration import estimate_sigma

from cae import models
from cae.config import Config
from cae.data.symmetries import self_ensemble
from cae.predict import denoising
from cae.predict.denoising import DenoisePredictor, denoise
from cae.tiling import TileSize

SHAPE = (28, 28, 1)
TILES = TileSize(28, 28), 1


def small_run(name):
    config = Config(base_filters=4, latent_dim=4, model=name)
    return run_of(models.build_model(config, SHAPE), SHAPE, config)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (1, 1), (100, 65)])
def test_the_identity_leaves_gray_and_color_images_unchanged(size, channels, random, decode):
    for shape in (size, (*size, 3)):
        values = random.integers(0, 256, shape, np.uint8)
        denoised, row = denoise(tf.identity, TileSize(28, 28), channels, decode(values))
        np.testing.assert_array_equal(denoised.channels.reshape(shape), values)
        assert row["rms_change"] == pytest.approx(0, abs=1e-6)


def test_color_channels_are_denoised_as_gray_images(random, decode):
    predict_fn = small_run("conv").denoise
    values = random.integers(0, 256, (40, 30, 3), np.uint8)
    color, _ = denoise(predict_fn, *TILES, decode(values))
    gray = [denoise(predict_fn, *TILES, decode(values[..., channel].copy()))[0].channels for channel in range(3)]
    np.testing.assert_array_equal(color.channels, np.concatenate(gray, axis=-1))


@pytest.mark.parametrize("name", models.MODELS)
def test_every_model_denoises_images_of_any_size(name, random, decode):
    predict_fn = small_run(name).denoise
    for size in ((28, 28), (3, 7), (61, 45, 3)):
        denoised, _ = denoise(predict_fn, *TILES, decode(random.integers(0, 256, size, np.uint8)))
        assert denoised.channels.reshape(size).dtype == np.uint8


def test_noise_and_change_are_estimated_from_the_image(random, decode):
    values = random.integers(0, 256, (64, 64), np.uint8)
    _, row = denoise(lambda images: images / 2, *TILES, decode(values))
    assert row["noise_before"] == pytest.approx(estimate_sigma(values / 255), rel=1e-4)
    assert row["noise_after"] == pytest.approx(row["noise_before"] / 2, rel=1e-4)
    assert row["rms_change"] == pytest.approx(np.sqrt(np.mean((values / 255 / 2) ** 2)), rel=1e-4)
    assert tuple(row) == denoising.COLUMNS
    assert (row["width"], row["height"], row["mode"], row["tiles"]) == (64, 64, "L", 16)


def test_constant_and_tiny_images_have_no_noise(decode):
    for values in (np.full((40, 40), 9, np.uint8), np.zeros((3, 50), np.uint8)):
        assert denoise(tf.identity, *TILES, decode(values))[1]["noise_before"] == 0


def test_the_predictor_saves_images_and_holds_only_previews(run, random, decode, tmp_path):
    predictor, alive, max_alive = DenoisePredictor(run, tmp_path / "out", num_examples=2), [], 0
    for number in range(5):
        decoded = decode(random.integers(0, 256, (20, 15), np.uint8))
        alive.append(weakref.ref(decoded))
        predictor.predict(f"sub/{number}.png", decoded, None)
        max_alive = max(max_alive, sum(each() is not None for each in alive))
    predictor.skip("broken.png", ValueError("damaged"))
    assert max_alive == 1
    assert predictor.finish() == [f"5 of 6 images denoised: {tmp_path / 'out/denoised'}"]
    assert Image.open(tmp_path / "out/denoised/sub/4.png").size == (15, 20)
    assert len((tmp_path / "out/denoised.csv").read_text().splitlines()) == 7
    assert (tmp_path / "out/denoised_sheet.png").exists()


def test_a_run_on_crops_denoises_pictures_whole_and_by_an_ensemble(tmp_path, random, decode):
    config = Config(dataset="folder:a", crop_size=16, model="unet", base_filters=4)
    run = run_of(models.build_model(config, (16, 16, 1)), (16, 16, 1), config)
    run.model.set_weights([random.normal(0, 0.1, weight.shape) for weight in run.model.get_weights()])
    values = random.integers(0, 256, (30, 50), np.uint8)
    for ensemble in (False, True):
        predictor = DenoisePredictor(run, tmp_path / f"{ensemble}", num_examples=1, ensemble=ensemble)
        predictor.predict("a.png", decode(values), None)
        assert predictor.writer.rows["a.png"]["tiles"] == 1
    predict = self_ensemble(run.denoise)
    for ensemble, function in ((False, run.denoise), (True, predict)):
        expected = function(values[None, ..., None].astype(np.float32) / 255)[0, ..., 0]
        written = np.asarray(Image.open(tmp_path / f"{ensemble}/denoised/a.png"))
        assert np.abs(written - 255 * expected).max() < 0.501
    # The ensemble does not depend on how a picture is turned.
    turned = predict(np.rot90(values, axes=(0, 1))[None, ..., None] / np.float32(255))[0]
    np.testing.assert_allclose(np.rot90(turned, -1), predict(values[None, ..., None] / np.float32(255))[0], atol=1e-5)
