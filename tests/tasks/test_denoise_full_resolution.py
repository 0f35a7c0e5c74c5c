"""Whole images of different sizes, denoised by a model that halves them: the results are worked out by hand."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf
from half_mean import run_of
from keras import Model
from PIL import Image

from cae.config import Config
from cae.data import datasets, pipeline
from cae.errors import UserError
from cae.tasks import denoise, denoisers, denoising_benchmark, get_corruption
from cae.tasks.baselines import BASELINES
from cae.tasks.context import EvalContext
from cae.tasks.denoisers import make_denoiser

SIZES = [(40, 30), (25, 33), (700, 20), (30, 30)]


class Half(Model):
    """Halves images of any size."""

    multiple = 8

    def call(self, images):
        return images / 2


@pytest.fixture
def config(tmp_path, random):
    for folder, count in (("train", 8), ("other", 4)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            size = SIZES[index % 4]
            image = np.full(size, 60 * (index % 4) + 15, np.uint8)
            Image.fromarray(image).save(tmp_path / folder / f"{index}.png")
    return Config(dataset=f"folder:{tmp_path / 'train'}", crop_size=16, model="unet", noise="awgn:5-50")


@pytest.fixture
def context(config, tmp_path):
    run = run_of(Half(), (16, 16, 1), config)
    name = f"folder:{tmp_path / 'other'}"
    dataset = run.replace_test_split(datasets.open_dataset(config), name)
    return EvalContext(
        run=run,
        batches=pipeline.make_eval_batches(dataset, 0),
        load=dataset.load,
        noises=["awgn:25", "none"],
        class_names=[],
        num_examples=3,
        baseline_images=2,
        baseline_tuning_images=1,
        test_dataset=name,
        whole_images=True,
    )


def test_every_image_of_another_data_set_is_evaluated_whole(context, monkeypatch):
    for name in {*BASELINES} - {"gaussian", "median"}:
        monkeypatch.delitem(BASELINES, name)
    section = denoise.run(context)
    rows = {(row["method"], row["noise"]): row for row in section.results["methods"]}
    model = rows["this model", "none"]
    clean = np.array([15, 75, 135, 195]) / 255
    assert model["num_images"] == 4 and section.results["test_dataset"] == context.test_dataset
    assert model["mse"] == pytest.approx(np.mean((clean / 2) ** 2), rel=1e-5)
    # The mean over images of the PSNR of each, whatever their sizes.
    assert model["psnr"] == pytest.approx(np.mean(-20 * np.log10(clean / 2)), rel=1e-5)
    # The noise is not clipped: its variance is that of its level, even near black.
    assert rows["noisy input", "awgn"]["mse"] == pytest.approx((25 / 255) ** 2, rel=0.1)
    assert rows["this model", "awgn"]["in_training_distribution"] is True
    assert rows["median", "awgn"]["num_images"] == 2
    assert {"denoise", "denoise_extremes", "denoise_methods"} <= section.figures.keys()


@pytest.mark.parametrize(("max_values", "expected"), [(10**6, (4, 3)), (3000, (2, 2)), (1, (1, 1))])
def test_baselines_get_as_many_whole_images_as_fit_into_memory(context, monkeypatch, max_values, expected):
    """Of 40 x 30 pixels each: of four test images and of three validation images."""
    monkeypatch.setattr(denoising_benchmark, "MAX_BASELINE_VALUES", max_values)
    found = []
    monkeypatch.setattr(denoising_benchmark.baselines, "run_baselines", lambda data: found.extend(data) or [[]])
    sizes = {split: iter([tf.zeros((1, 40, 30, 1))] * count) for split, count in (("test", 4), ("validation", 3))}

    def batches(split, corruption, indices=None):
        return ({"image": image, "input": image, "label": tf.zeros(1, tf.int64)} for image in sizes[split])

    context = dataclasses.replace(
        context, batches=batches, noises=["awgn:25"], baseline_images=9, baseline_tuning_images=9
    )
    denoising_benchmark.run_benchmark(context, context.noises, 0)
    assert (len(found[0].test_images), len(found[0].clean)) == expected


def test_large_images_are_denoised_in_tiles_and_by_an_ensemble_where_it_is_requested(context, monkeypatch):
    monkeypatch.setattr(denoisers, "self_ensemble", lambda predict: lambda images: predict(images) + 1)
    run = context.run
    assert run.tile_size((40, 30)) == (40, 30, 8) and run.tile_size((700, 20)) == (384, 20, 8)
    assert run_of(Half(), (16, 16, 1), Config(model="unet")).tile_size((700, 20)) == (16, 16, 1)
    # A model of noise that is clipped, or of none, gets the noise that is not as well.
    for self_ensemble, noise in ((False, "awgn:5-50"), (True, None)):
        run = run_of(Half(), (16, 16, 1), dataclasses.replace(run.config, noise=noise))
        denoiser = make_denoiser(run, dataclasses.replace(context, self_ensemble=self_ensemble))
        for batch in context.batches("test", get_corruption("awgn:50")):
            np.testing.assert_allclose(denoiser(batch["input"]), batch["input"] / 2 + self_ensemble, atol=1e-6)


def test_test_images_that_are_training_images_are_counted(config, capsys):
    dataset = datasets.open_dataset(config)
    run = run_of(Half(), (16, 16, 1), config)
    names = dataset.splits["train"].names
    assert len(names) == 5
    capsys.readouterr()
    run.replace_test_split(dataset, config.dataset)
    # Of eight files, four are those of the others again.
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "training images too" in line]
    assert re.match(r"warning: \d of 8 test images are training images too \(\d\.png = ", line), line
    assert f"--test_dataset={config.dataset} should have new images only" in line


@pytest.mark.parametrize("objective", ["noise2noise", "noise2void", "neighbor2neighbor"])
def test_runs_that_were_trained_without_clean_images_are_evaluated_on_others(config, tmp_path, objective):
    run = run_of(Half(), (16, 16, 1), dataclasses.replace(config, objective=objective))
    dataset = run.replace_test_split(datasets.open_dataset(config), f"folder:{tmp_path / 'other'}")
    assert len(dataset.splits["test"].names) == 4


@pytest.mark.parametrize(
    "name, message",
    [
        ("digits", "--test_dataset=digits is not supported; use folder:PATH"),
        ("records:x", "--test_dataset=records:x is not supported"),
        ("folder:no", "--test_dataset=folder:no: there is no such folder"),
        ("folder:", "--test_dataset=folder: needs a path"),
        ("mnits:1.0.0", "unknown --test_dataset 'mnits:1.0.0'"),
        ("folder:{small}", "8.png of --test_dataset=folder:.* has 9x8 pixels; images need at least 11x11"),
    ],
)
def test_test_images_that_are_none_are_refused(config, tmp_path, name, message):
    Image.fromarray(np.zeros([8, 9], np.uint8)).save(tmp_path / "8.png")
    with pytest.raises(UserError, match=message):
        run_of(Half(), (16, 16, 1), config).replace_test_split(
            datasets.open_dataset(config), name.replace("{small}", str(tmp_path))
        )
