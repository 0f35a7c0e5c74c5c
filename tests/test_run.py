"""The Python API: a run loaded once, and what its model and its outlier detector compute."""

import dataclasses

import keras
import numpy as np
import pytest
from half_mean import HalfMean, half_mean_run, run_of

import cae
from cae import inference, models
from cae.data import datasets, pipeline
from cae.errors import UserError

SHAPE = (12, 12, 1)

IMAGES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def run():
    return half_mean_run()


@pytest.fixture(scope="module")
def trained(trained_run):
    return cae.load(trained_run.workdir)


def small_run(name, shape=SHAPE, **fields):
    config = cae.Config(model=name, base_filters=4, latent_dim=3, **fields)
    return run_of(models.build_model(config, shape), shape, config)


# --- Images and latent vectors ----------------------------------------------------------------------------------------


def test_values_by_hand(run):
    """The model encodes an image as its mean and its maximum, and decodes half the mean."""
    images = np.array([0.2, 0.8])[:, None, None, None] * np.ones(SHAPE)
    np.testing.assert_allclose(run.encode(images), [[0.2, 0.2], [0.8, 0.8]], atol=1e-6)
    np.testing.assert_allclose(run.decode([[0.6, 9], [0.2, 0]])[:, 0, 0, 0], [0.3, 0.1], atol=1e-6)
    for outputs in (run.denoise(images), run.reconstruct(images)):
        np.testing.assert_allclose(outputs, images / 2, atol=1e-6)
    first, second = images
    for method, expected in (("lerp", [0.1, 0.175, 0.4]), ("slerp", [0.1, 0.175, 0.4]), ("pixels", [0.2, 0.35, 0.8])):
        path = run.interpolate(first, second, weights=[0, 0.25, 1 + 1e-6], method=method)
        np.testing.assert_allclose(path, np.array(expected)[:, None, None, None] * np.ones(SHAPE), atol=1e-6)
        paths = run.interpolate(images, images[::-1], [0, 0.25, 1], method)
        np.testing.assert_allclose(paths, [path, path[::-1] + paths[1] - path[::-1]], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("mnist", "mnist"),
        ("emnist/letters", "emnist/letters"),
        ("folder:photos", "folder:photos"),
        ("folder:/data/my photos/", "my photos"),
        ("pairs:/data/noisy,/data/clean", "noisy, clean"),
    ],
)
def test_titles_have_the_names_of_folders_without_their_paths(run, name, label):
    config = run.run_config | {"dataset": {"name": name}}
    assert dataclasses.replace(run, run_config=config).dataset_label == label


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", models.MODELS)
def test_every_function_takes_one_image_or_several_or_none(name, precision):
    run = small_run(name, precision=precision)

    def interpolate_pixels(images):
        return run.interpolate(images, images, [0, 1], "pixels")

    cases = [(run.denoise, IMAGES, SHAPE), (interpolate_pixels, IMAGES, (2, *SHAPE))]
    if hasattr(run.model, "encode"):
        codes = run.encode(IMAGES)
        cases += [(run.encode, IMAGES, (3,)), (run.decode, codes, SHAPE), (run.reconstruct, IMAGES, SHAPE)]
        cases.append((lambda images: run.interpolate(images, images), IMAGES, (5, *SHAPE)))
    for function, items, shape in cases:
        results = function(items)
        assert results.shape == (len(IMAGES), *shape) and results.dtype == np.float32
        assert function(items[:0]).shape == (0, *shape)
        assert function(items[0]).shape == shape
        np.testing.assert_allclose(function(items[0]), results[0], atol=1e-5 if precision == "float32" else 0.02)
    output = run.denoise(IMAGES[..., 0])
    assert output.min() >= 0 and output.max() <= 1
    np.testing.assert_array_equal(output, run.denoise(IMAGES))
    np.testing.assert_array_equal(output, run.denoise(IMAGES / np.float32(255)))
    assert run.denoise(np.zeros(SHAPE[:2])).shape == SHAPE


@pytest.mark.parametrize("name", models.MODELS)
def test_functions_are_compiled_once_and_agree_with_the_model(name, monkeypatch):
    run, images = small_run(name), (IMAGES / 255).astype(np.float32)
    for count in (1, 2, 5):
        np.testing.assert_allclose(run.denoise(images[:count]), run.model(images[:count]), atol=1e-5)
    whole = run.denoise(IMAGES)
    monkeypatch.setattr(inference, "BATCH_BYTES", 2 * 4 * 12 * 12)
    np.testing.assert_allclose(run.denoise(IMAGES), whole, atol=1e-5)
    assert run._denoise.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("name", ["unet", "resunet", "dncnn"])
def test_denoisers_take_any_height_and_width(name):
    run = small_run(name)
    for size in ((1, 1), (45, 62), (28, 28), (5, 90)):
        images = np.full([2, *size, 1], 0.5, np.float32)
        np.testing.assert_allclose(run.denoise(images), run.model(images), atol=1e-5)
        assert run.denoise(images[0, ..., 0]).shape == (*size, 1)
        assert run.interpolate(images, images, method="pixels").shape == (2, 5, *size, 1)


def test_models_without_latent_vectors_say_so():
    run = small_run("unet")
    for call in (run.encode, run.reconstruct, lambda images: run.interpolate(images, images)):
        with pytest.raises(UserError, match=r"a UNet has no latent vectors; these values of --model have: conv, vae"):
            call(IMAGES)
    with pytest.raises(UserError, match="has no latent vectors"):
        run.decode([1, 2, 3])


def test_every_function_checks_its_images(run):
    for call in (run.denoise, run.encode, run.reconstruct, lambda images: run.interpolate(images, IMAGES)):
        with pytest.raises(ValueError, match=r"not \(5, 11, 12, 1\)"):
            call(IMAGES[:, 1:])
        with pytest.raises(ValueError, match="images contain NaN"):
            call(np.full([5, *SHAPE], np.nan))
    with pytest.raises(ValueError, match=r"shape \[n, 2\] or \[2\], not \(3,\)"):
        run.decode([1, 2, 3])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            (IMAGES, IMAGES[:2]),
            r"one image each, or as many .*, not \(5, 12, 12, 1\) and \(2, 12, 12, 1\)",
        ),
        ((IMAGES[0], IMAGES[:1]), r"not \(12, 12, 1\) and \(1, 12, 12, 1\)"),
        ((IMAGES, IMAGES, [0, 1.1]), r"weights must be numbers from 0 to 1, not in 0\.\.1\.1"),
        ((IMAGES, IMAGES, [np.nan]), r"weights must be numbers from 0 to 1, not in nan\.\.nan"),
        ((IMAGES, IMAGES, []), r"list of numbers from 0 to 1, such as \[0, 0\.5, 1\], not \[\]"),
        ((IMAGES, IMAGES, "0,1"), "list of numbers .* not 0,1"),
        ((IMAGES, IMAGES, [0, 1], "slurp"), r"unknown method 'slurp' \(did you mean 'slerp'\?\)"),
    ],
)
def test_what_cannot_be_interpolated_is_refused(run, arguments, message):
    with pytest.raises((ValueError, UserError), match=message):
        run.interpolate(*arguments)


# --- Runs and detectors -----------------------------------------------------------------------------------------------


def test_a_run_describes_itself(trained, trained_run, digits):
    assert isinstance(trained, cae.Run) and trained.step > 0 and trained.warning is None
    assert trained.class_names == tuple("0123456789") and trained.config.model == "conv"
    assert [epoch["epoch"] for epoch in trained.history] == [1, 2]
    np.testing.assert_array_equal(trained.open_dataset().load("test")[0], digits)
    assert trained.find_detector(score="fisher") and trained.find_detector(score="mse") is None
    with pytest.raises(UserError, match="contains no run"):
        cae.load("nowhere")
    with pytest.raises(AttributeError, match="module 'cae' has no attribute 'lode'"):
        cae.lode  # noqa: B018


def test_functions_of_the_detector(trained, trained_run, digits):
    detector = cae.load_detector(str(trained_run.workdir))
    assert trained.detector is trained.detector and trained.detector.score_name == detector.score_name == "fisher"
    images = digits[:20]
    for name in ("is_inlier", "p_values", "scores", "anomaly_map"):
        results = getattr(trained, name)(images)
        np.testing.assert_allclose(results, getattr(detector, name)(images), rtol=1e-5)
        assert np.shape(getattr(trained, name)(images[0])) == results.shape[1:]
        assert getattr(trained, name)([]).shape == (0, *results.shape[1:])
    np.testing.assert_array_equal(trained.is_inlier(digits, alpha=0.3), trained.p_values(digits) > 0.3)


def test_a_run_without_a_detector_says_so_until_one_is_fitted(workspace, digits):
    (workspace / "runs/denoise/detector/detector.json").unlink()
    run = cae.load(workspace / "runs/denoise")
    for call in (run.is_inlier, run.p_values, run.scores, run.anomaly_map):
        with pytest.raises(UserError, match=r"contains no detector; run eval\.py"):
            call(digits)
    fitted = run.fit_detector(score="mse", alpha=0.05)
    assert run.detector is fitted and (fitted.score_name, fitted.alpha) == ("mse", 0.05)
    np.testing.assert_array_equal(cae.load_detector(run.workdir).scores(digits[:9]), run.scores(digits[:9]))


def test_an_incomplete_line_is_no_epoch(tmp_path):
    run = cae.Run(tmp_path, {}, None, HalfMean(), 0)
    assert run.history == []
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epo')
    assert run.history == [{"epoch": 1}]


# --- Plain Keras models -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batches():
    """The digits' training batches, of one epoch, and validation batches, as Keras takes them: (input, image)."""
    config = cae.Config(dataset="digits", batch_size=64, noise="gaussian:0.3")
    dataset = datasets.open_dataset(config)
    data = pipeline.make_train_data(dataset, cae.run.parse_noise(config.noise), config.batch_size, config.seed)
    return [each.map(lambda batch: (batch["input"], batch["image"])) for each in (data.train(0, 12), data.validation)]


@pytest.mark.parametrize("name", models.MODELS)
def test_models_are_compiled_fitted_and_saved_as_any_keras_model(name, batches, tmp_path):
    run = small_run(name, (28, 28, 1))
    train, validation = batches
    run.model.compile(optimizer="adam", loss="mse")
    before = run.model.evaluate(validation, verbose=0)
    run.model.fit(train, epochs=1, verbose=0)
    assert run.model.evaluate(validation, verbose=0) < 0.95 * before
    run.model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images, _ = next(iter(validation))
    np.testing.assert_array_equal(loaded(images), run.model(images))
    # What is compiled sees the new weights.
    np.testing.assert_allclose(run.denoise(images), run.model(images), atol=1e-5)


# --- Training ---------------------------------------------------------------------------------------------------------


def test_a_model_is_trained_and_resumed_from_python(tmp_path, capsys):
    config = cae.Config(dataset="digits", base_filters=2, latent_dim=2, batch_size=64, max_steps=2)
    run = cae.train(config, tmp_path / "run")
    assert run.step == 2 and run.workdir == tmp_path / "run" and run.config == config
    assert cae.train(config, str(tmp_path / "run")).step == 2 and "training already complete" in capsys.readouterr().out
    with pytest.raises(UserError, match="unknown --model 'cnov'"):
        cae.train(cae.Config(model="cnov"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_data_set_that_is_not_available_any_more_is_not_replaced(trained_run, tmp_path, monkeypatch):
    run = cae.load(trained_run.workdir)
    dataset = run.run_config["dataset"] | {"name": "mnist"}
    config = dataclasses.replace(run.config, dataset="mnist", fallback_dataset="digits")
    run = dataclasses.replace(run, run_config=run.run_config | {"dataset": dataset}, config=config)
    monkeypatch.setattr("cae.data.tfds_builder._are_reachable", lambda urls: False)
    with pytest.raises(UserError, match=r"--dataset=mnist is not downloaded .*; set --data_dir"):
        run.open_dataset(data_dir=str(tmp_path))
