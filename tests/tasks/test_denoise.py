import dataclasses
import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.data import noise
from cae.metrics import psnr
from cae.tasks import denoise
from cae.tasks.baselines import BASELINES
from cae.tasks.classifier import SVMClassifier
from cae.tasks.denoisers import make_denoiser
from cae.tasks.denoising_benchmark import BenchmarkResult


@pytest.fixture(scope="module")
def section(context):
    return denoise.run(context)


@pytest.fixture(scope="module")
def rows(section):
    return {(row["method"], f"{row['noise']}:{row['level']}".strip(":")): row for row in section.results["methods"]}


def noisy_images(context, text="salt_pepper:0.5"):
    return np.concatenate([batch["input"] for batch in context.batches("test", noise.parse_noise(text))])


def test_every_method_is_evaluated_on_every_noise(rows, context):
    models = {"noisy input", "this model", "black"}
    for text in context.noises:
        methods = {method for method, noise_name in rows if noise_name == text}
        # There are no baselines without noise to tune them on.
        assert methods == models | (set() if text == "none" else BASELINES.keys())


def test_outputs_are_compared_with_the_clean_images(rows, context, clean):
    noisy, clean = noisy_images(context), clean[:, None, None, None]
    output = noisy.mean(axis=(1, 2, 3), keepdims=True) / 2
    for method, images in {"noisy input": noisy, "this model": output, "black": 0 * noisy}.items():
        assert rows[method, "salt_pepper:0.5"]["mse"] == pytest.approx(np.mean((images - clean) ** 2), rel=1e-5)
    assert rows["noisy input", "none"]["mse"] == 0 and rows["noisy input", "none"]["psnr"] == pytest.approx(100)


def test_noises_in_the_training_distribution_are_marked(rows):
    marks = {key: row["in_training_distribution"] for key, row in rows.items()}
    assert marks["this model", "salt_pepper:0.5"] is True and marks["this model", "gaussian:0.1"] is False
    # That model was trained on clean images.
    assert marks["black", "none"] is True and marks["black", "salt_pepper:0.5"] is False
    assert marks["median", "salt_pepper:0.5"] is marks["noisy input", "salt_pepper:0.5"] is None


def test_a_model_is_traced_once_for_batches_of_any_size(context):
    """The time of tracing would count as that of the model."""
    traces = []

    class Counting(keras.Model):
        def call(self, images):
            traces.append(images.shape)
            return images

    model = Counting()
    model(tf.zeros([1, 12, 12, 1]))  # It is built by its first call, which counts twice.
    traces.clear()
    denoiser = make_denoiser(SimpleNamespace(model=model), context)
    for batch_size in (3, 3, 2):
        denoiser(tf.zeros([batch_size, 12, 12, 1]))
    assert len(traces) == 1


def test_baselines_denoise_the_same_noisy_images(rows, context, clean):
    row = rows["median", "salt_pepper:0.5"]
    assert row["num_images"] == 5
    params = {"size": int(row["params"].removeprefix("size="))}
    denoised = BASELINES["median"](noisy_images(context)[:5], params)
    assert row["mse"] == pytest.approx(np.mean((denoised - clean[:5, None, None, None]) ** 2), rel=1e-5)


def test_the_psnr_gain_is_over_the_images_that_both_methods_denoised(rows, context, clean):
    target = tf.constant(np.tile(clean[:, None, None, None], (1, 12, 12, 1)), tf.float32)
    of_model = psnr(target, context.run.model(noisy_images(context))).numpy()
    row = rows["median", "salt_pepper:0.5"]
    assert row["psnr_gain_db"] == pytest.approx(of_model[:5].mean() - row["psnr"], abs=1e-4)
    assert rows["this model", "salt_pepper:0.5"]["psnr_gain_db"] == 0


def test_the_headline_has_the_sign_of_the_psnr_gain():
    def result(method, values):
        return BenchmarkResult(method, "blur:1", metrics=dict.fromkeys(("mse", "psnr", "ssim"), values))

    # Over the first two images the model has 21 dB, the better baseline 19.
    values = {"noisy input": [10.0] * 3, "this model": [20.0, 22.0, 90.0], "median": [18.0] * 2, "wavelet": [19.0] * 2}
    primary = {method: result(method, np.array(psnr)) for method, psnr in values.items()}
    assert "best classical baseline (wavelet): +2.00 dB" in denoise.make_headline(primary)
    key_figures = {figure.name: figure for figure in denoise.make_key_figures(primary)}
    assert key_figures["PSNR, blur:1"][1:] == ("44.00 dB", "noisy input 10.00 dB")
    assert key_figures["PSNR gain over the best baseline"][1:] == ("+2.00 dB", "wavelet")


def test_the_classifier_evaluates_clean_and_noisy_images(rows, context, labels):
    classifier = SVMClassifier(*context.load("train"))
    for text, images in {"none": noisy_images(context, None), "salt_pepper:0.5": noisy_images(context)}.items():
        expected = classifier.is_correct(images, labels).mean()
        assert rows["noisy input", text]["classifier_accuracy"] == pytest.approx(expected)


def test_the_results_begin_with_those_of_the_model_on_the_primary_noise(section, rows):
    row = rows["this model", "salt_pepper:0.5"]
    assert section.results["primary_noise"] == "salt_pepper:0.5"
    for name in ("num_images", "mse", "psnr", "ssim", "classifier_accuracy"):
        assert section.results[name] == row[name]
    json.dumps(section.results)


def test_figures_and_tables_show_every_method(section):
    assert set(section.figures) == {"denoise", "denoise_extremes", "denoise_gaussian", "denoise_methods"}
    table = {row["method"]: row for row in section.tables["denoise_psnr"]}
    assert table.keys() == {"noisy input", "this model", "black", *BASELINES}
    assert table["this model"]["salt_pepper:0.5"].endswith("*") and table["median"]["none"] == ""
    assert section.visible_tables.keys() <= section.tables.keys()
    assert {row["method"] for row in section.tables["denoise_params"]} == BASELINES.keys()


def test_runs_that_have_the_name_of_another_method_are_called_runs():
    runs = dict.fromkeys(["gaussian", "this model", "unet"])
    assert [*denoise.rename_runs(runs)] == ["run gaussian", "run this model", "unet"]


def test_unlabeled_images_have_no_accuracy(context):
    section = denoise.run(dataclasses.replace(context, class_names=[], noises=["gaussian:0.1"]))
    assert section.tables["denoise_accuracy"] == []
    assert {row["classifier_accuracy"] for row in section.results["methods"]} == {None}


def test_every_result_is_a_tensorboard_scalar(section, rows):
    scalars = section.scalars
    assert scalars.keys() == {
        f"{method.replace(' ', '_')}/{text.replace(':', '_')}/{metric}"
        for method, text in rows
        for metric in ("mse", "psnr", "ssim", "classifier_accuracy")
    }
    assert "non-local_means/gaussian_0.1/ssim" in scalars
    assert scalars["this_model/salt_pepper_0.5/psnr"] == rows["this model", "salt_pepper:0.5"]["psnr"]
    assert scalars["black/none/classifier_accuracy"] == rows["black", "none"]["classifier_accuracy"]


@pytest.mark.parametrize(
    "method, text, tag",
    [
        ("this model", "blur:1+gaussian:0.1", "this_model/blur_1_and_gaussian_0.1"),
        ("non-local means", "gaussian:0.5/masking:0.3", "non-local_means/gaussian_0.5_or_masking_0.3"),
        ("runs/caf\u00e9 1", "gaussian:0.1-0.8", "runs_caf_1/gaussian_0.1-0.8"),
    ],
)
def test_tags_have_only_letters_digits_and_a_few_other_characters(method, text, tag):
    metrics = dict.fromkeys(("mse", "psnr", "ssim"), np.ones(2))
    result = BenchmarkResult(method, text, metrics=metrics)
    assert denoise.make_scalars([result]) == {f"{tag}/{name}": 1.0 for name in metrics}
