"""What the page of `python -m cae.demo` shows, without a server."""

import base64
import dataclasses
import io
import re

import gradio as gr
import numpy as np
import pytest
from half_mean import half_mean_run, run_of
from PIL import Image

import cae
from cae import models
from cae.data.noise import NOISES
from cae.demo import inputs, inspection, loading, markup, page
from cae.demo.examples import Example, choose_inliers
from cae.demo.views import Demo, describe, or_message
from cae.errors import UserError
from cae.outliers.detector import Detector
from cae.predict.preprocess import Preprocessed
from cae.run import Run


def given(image):
    return Preprocessed(image, "", ())


def data_url(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return inputs.DATA_URL_PREFIX + base64.b64encode(file.getvalue()).decode()


def pictures(html):
    """The images in HTML, as uint8 [height, width] or [height, width, channels]."""
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found]


def make_demo(run, random, **options):
    images = random.integers(0, 256, (120, *run.image_shape), np.uint8)
    detector = Detector.fit(run.model, images[:60], images[60:], alpha=0.1, **options)
    inliers = [Example(str(index), image) for index, image in enumerate(images[:3])]
    return Demo(run, detector, 0.0, inliers, [])


@pytest.fixture(scope="module")
def gray():
    return make_demo(half_mean_run(), np.random.default_rng(0), score="mse")


def test_the_canvas_has_the_background_of_the_examples_whatever_negatives_are_found_by(gray):
    shape = gray.run.image_shape
    bright = [Example(str(value), np.full(shape, value, np.uint8)) for value in (255, 204, 51)]
    assert dataclasses.replace(gray, background=0.5, inliers=bright).canvas_background == pytest.approx(0.8)
    assert dataclasses.replace(gray, background=0.5, inliers=[]).canvas_background == 0.5


@pytest.fixture(scope="module")
def color():
    """A tiny model of color images of 16x12 pixels, trained on one noise or another."""
    noise = "gaussian:0.1-0.3/blur:1"
    shape, config = (12, 16, 3), cae.Config(base_filters=4, latent_dim=5, noise=noise)
    return make_demo(run_of(models.build_model(config, shape), shape, config), np.random.default_rng(0))


@pytest.fixture(scope="module")
def unet(unet_run):
    return loading.load_demo(cae.load(unet_run.workdir), {})


# --- Denoise and detect -----------------------------------------------------------------------------------------------


def test_values_by_hand(gray):
    """Half the mean of the noisy image is the output; a white image is an outlier among uniform noise."""
    white = np.full((12, 12, 1), 255, np.uint8)
    html = gray.inspect(given(white), "masking", 0.5, 0, 0.1)
    clean, noisy, output, latent, anomaly_map = pictures(html)
    assert (clean == 255).all() and set(np.unique(noisy)) == {0, 255} and 0.3 < noisy.mean() / 255 < 0.7
    assert (np.abs(output - noisy.mean() / 2) <= 1).all()
    assert latent.shape == (1, 2, 4) and anomaly_map.shape == (108, 108, 3)
    assert "Outlier at alpha 0.1" in html and f"p-value {2 / 61:.4g}" in html
    assert "mse score 0.25, thresholds" in html
    assert "Inlier at alpha 0.1" in gray.inspect(given(gray.inliers[0].image), "masking", 0.5, 0, 0.1)
    # Without noise, the output is half of white.
    assert (pictures(gray.inspect(given(white), "masking", 0, 0, 0.1))[2] == 128).all()


def test_noise_depends_on_level_and_seed_alone(gray):
    image = gray.inliers[0].image
    first, again, other = (inspection.add_noise(image, "gaussian", 0.5, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    for name in NOISES:
        noisy = inspection.add_noise(image, name, 0.3, 0)
        assert noisy.shape == image.shape and noisy.dtype == np.float32 and (noisy.min() >= 0 or not NOISES[name].clips)
        np.testing.assert_array_equal(inspection.add_noise(image, name, 0.0, 0), image / np.float32(255))


@pytest.mark.parametrize(
    ("noise", "expected"),
    [
        (None, ("gaussian", 0)),
        ("masking:0.5", ("masking", 0.5)),
        ("blur:1-3", ("blur", 2)),
        ("blur:1+gaussian:0.1", ("blur:1+gaussian:0.1", 1)),
        ("blur:1/gaussian:0.1", ("blur:1/gaussian:0.1", 1)),
    ],
)
def test_page_starts_with_the_noise_of_training(gray, noise, expected):
    config = dataclasses.replace(gray.run.config, noise=noise)
    assert inspection.training_noise(dataclasses.replace(gray.run, config=config)) == expected


def test_least_alpha_is_that_of_the_calibration(gray, color):
    """Of 60 calibration images it is 1/61, or 2/61 for a score with two sides, rounded up; some methods have none."""
    assert inspection.alpha_range(gray.detector) == pytest.approx((0.0328, 0.2))
    assert inspection.alpha_range(color.detector) == pytest.approx((0.0164, 0.2))
    outliers = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1), np.uint8)
    images = np.stack([each.image for each in gray.inliers * 20])
    youden = Detector.fit(gray.run.model, images, images, score="mse", method="youden", outliers=outliers)
    assert inspection.alpha_range(youden) is None
    html = dataclasses.replace(gray, detector=youden).inspect(given(gray.inliers[0].image), "gaussian", 0, 0, 0)
    assert "<strong>Inlier</strong>" in html or "<strong>Outlier</strong>" in html


@pytest.mark.parametrize(("alpha", "start"), [(None, 0.2858), (0.5, 0.5)])
def test_alpha_of_few_calibration_images_is_in_the_range(gray, random, alpha, start):
    """Of 6 images it is 2/7, rounded up; the slider starts there, or at that of the detector."""
    images = random.integers(0, 256, (30, 12, 12, 1), np.uint8)
    detector = Detector.fit(gray.run.model, images, images[:6], score="mse", alpha=alpha)
    assert inspection.alpha_range(detector) == pytest.approx((0.2858, 0.5716))
    app = page.build_app(dataclasses.replace(gray, detector=detector))
    slider, result = (
        next(each for each in app.blocks.values() if getattr(each, "elem_id", None) == name)
        for name in ("alpha", "result")
    )
    assert slider.value == pytest.approx(start) and "cae-verdict" in result.value


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((None, "gaussian", 0.5, 0, 0.1), inputs.NO_IMAGE),
        (("image", "gaussian", None, 0, 0.1), "the noise level must be a number from 0 to 1, not empty"),
        (("image", "gaussian", float("nan"), 0, 0.1), "the noise level must be a number from 0 to 1, not empty"),
        (("image", "gaussian", 7, 0, 0.1), "the noise level must be a number from 0 to 1, not 7"),
        (("image", "gaussian", 0.5, None, 0.1), "the seed must be"),
        (("image", "gaussian", 0.5, -1, 0.1), "the seed must be"),
        (("image", "gaussian", 0.5, 0, 0.001), "alpha must be a number from 0.0328 to 0.2, not 0.001"),
        (("image", "fog", 0.5, 0, 0.1), "unknown --noise"),
    ],
)
def test_invalid_values_give_a_message(gray, values, message):
    image = given(gray.inliers[0].image) if values[0] else None
    html = or_message(gray.inspect, image, *values[1:])
    assert message in html and "<img" not in html


# --- Drawings and files -----------------------------------------------------------------------------------------------


def test_drawing_is_shrunk_by_the_mean_of_its_pixels(gray, color):
    assert inputs.canvas_size((28, 28, 1)) == (280, 280) and inputs.canvas_size((600, 300, 3)) == (140, 280)
    drawn = np.zeros((276, 276, 4), np.uint8)
    drawn[..., 3], drawn[:23, :23, :3], drawn[23:46, :12, :3] = 255, 255, 255
    image = gray.read_drawing(data_url(drawn)).image
    assert image.shape == (12, 12, 1) and image[0, 0] == 255 and image[1, 0] == pytest.approx(133, abs=1)
    assert image[2:].max() == 0 and image[:, 1:].max() == 0
    drawn[..., :3] = (255, 0, 0)
    assert (color.read_drawing(data_url(drawn[:207])).image == (255, 0, 0)).all()


@pytest.mark.parametrize("text", ["", "data:image/png;base64,", "data:image/png;base64,AAAA", "%", "é"])
def test_what_is_no_drawing_gives_a_message(gray, text):
    state, html = page._take(gray, gray.read_drawing, text, "gaussian", 0, 0, 0.1)
    assert state is None and "cae-message" in html and "Error" not in html


def test_files_are_preprocessed_or_refused(gray, tmp_path):
    values = np.zeros((60, 40), np.uint16)
    values[20:40, 10:30] = 65_535
    path = tmp_path / "deep.png"
    Image.fromarray(values).save(path)
    state, html = page._take(gray, gray.read_upload, str(path), "gaussian", 0, 0, 0.1)
    assert state.image.shape == (12, 12, 1) and "downscaled 5.0 times" in html and "padded" in html
    path.write_bytes(b"no image")
    huge = tmp_path / "huge.ppm"
    huge.write_bytes(b"P5 60000 60000 255\n")
    refused = {path: "not an image", huge: "declares", None: inputs.NO_IMAGE, "gone": "cannot be opened"}
    for name, message in refused.items():
        state, html = page._take(gray, gray.read_upload, name and str(name), "gaussian", 0, 0, 0.1)
        assert state is None and message in html, html


def test_errors_are_one_short_line():
    assert describe(UserError("x")) == "x" and describe(KeyError("x")) == "KeyError: 'x'"
    assert len(describe(RuntimeError("word\n" * 500))) <= 300
    assert markup.message("<b>") == '<div class="cae-text cae-message">&lt;b&gt;</div>'


# --- Interpolation ----------------------------------------------------------------------------------------------------


def test_interpolation_by_hand(gray):
    """Pixels are interpolated between black and white; a decoded image is half of the interpolated mean."""
    black, white = (given(np.full((12, 12, 1), value, np.uint8)) for value in (0, 255))
    for method, scale in (("pixels", 1), ("lerp", 0.5)):
        first, between, second, *strip = pictures(gray.interpolate(black, white, 0.25, method))
        assert first.max() == 0 and second.min() == 255 and abs(int(between[0, 0]) - 255 * 0.25 * scale) <= 1
        np.testing.assert_allclose([each[0, 0] for each in strip], scale * np.linspace(0, 255, 11), atol=1)
    for weight in (None, -1, float("nan")):
        assert "the weight must be a number from 0 to 1" in or_message(gray.interpolate, black, white, weight, "lerp")
    assert inputs.NO_IMAGE in or_message(gray.interpolate, black, None, 0.5, "lerp")


# --- Examples ---------------------------------------------------------------------------------------------------------


def test_examples_have_an_image_of_each_class():
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((6, 2, 2, 1), np.uint8)
    chosen = choose_inliers(images, np.array([1, 0, 1, 2, 0, 2]), ("a", "b", "c"))
    assert [(each.name, int(each.image[0, 0, 0])) for each in chosen] == [("a", 1), ("b", 0), ("c", 3)]
    unlabeled = choose_inliers(images, np.zeros(6, int), ())
    assert [int(each.image[0, 0, 0]) for each in unlabeled] == [0, 1, 2, 3, 4, 5]


# --- The page ---------------------------------------------------------------------------------------------------------

IDS = {"canvas", "upload", "inliers", "noise", "level", "seed", "alpha", "result", "method", "weight", "path"}


@pytest.mark.parametrize("name", ["gray", "color", "unet"])
def test_page_has_all_controls_and_starts_with_an_example(name, request):
    demo = request.getfixturevalue(name)
    app = page.build_app(demo)
    assert isinstance(app, gr.Blocks)
    components = {block.elem_id: block for block in app.blocks.values() if getattr(block, "elem_id", None)}
    assert components.keys() >= IDS and not app.analytics_enabled
    assert components["noise"].value == inspection.training_noise(demo.run)[0]
    height, width = demo.run.image_shape[:2]
    for elem_id in ("result", "path"):
        assert pictures(components[elem_id].value)[0].shape[:2] == (height, width)
    assert "cae-message" not in components["path"].value
    assert [value for _, value in components["method"].choices] == demo.methods


def test_what_a_run_lacks_is_left_out_and_a_line_says_so(unet):
    html = unet.inspect(given(unet.inliers[0].image), "gaussian", 0.5, 0, 0)
    assert len(pictures(html)) == 3 and "no p-value" in html and "--tasks=outliers" in html and "no latent" in html
    assert unet.methods == ["pixels"]


def test_outliers_are_made_from_inliers(unet):
    assert len(unet.inliers) == 10 and {"uniform noise", "inverted"} <= {each.name for each in unet.outliers}
    assert all(each.image.shape == (28, 28, 1) and each.image.dtype == np.uint8 for each in unet.outliers)


def test_without_data_set_there_are_no_examples(trained_run, monkeypatch):
    def fail(run, **location):
        raise UserError("gone")

    run = cae.load(trained_run.workdir)
    monkeypatch.setattr(Run, "open_dataset", fail)
    demo = loading.load_demo(run, {})
    assert demo.detector and demo.notes == ("no examples: gone",)
    app = page.build_app(demo)
    values = {block.elem_id: block.value for block in app.blocks.values() if getattr(block, "elem_id", None)}
    assert inputs.NO_IMAGE in values["result"] and "inliers" not in values
    monkeypatch.setattr(Run, "load_detector", fail)
    with pytest.raises(UserError, match="gone"):
        loading.load_demo(dataclasses.replace(run), {})
