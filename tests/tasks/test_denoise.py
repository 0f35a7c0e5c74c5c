import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cae.data import noise
from cae.metrics import psnr
from cae.tasks import classical, denoise
from cae.tasks.classifier import Classifier
from cae.tasks.matrix import Cell
from cae.training.summaries import write_evaluation


@pytest.fixture(scope="module")
def section(subject):
    return denoise.run(subject)


@pytest.fixture(scope="module")
def rows(section):
    return {(row["method"], f"{row['noise']}:{row['level']}".strip(":")): row for row in section.results}


def noisy_images(subject, text="salt_pepper:0.5"):
    return np.concatenate([batch["noisy"] for batch in subject.batches("test", noise.parse(text))])


def test_every_method_is_tried_on_every_noise(rows, subject):
    learned = {"noisy input", "this model", "black"}
    for text in subject.noises:
        methods = {method for method, tried in rows if tried == text}
        # Where there is no noise, there is nothing to choose a method's setting by.
        assert methods == learned | (set() if text == "none" else classical.METHODS.keys())


def test_rows_compare_with_the_clean_image(rows, subject, clean):
    noisy, clean = noisy_images(subject), clean[:, None, None, None]
    output = noisy.mean(axis=(1, 2, 3), keepdims=True) / 2
    for method, made in {"noisy input": noisy, "this model": output, "black": 0 * noisy}.items():
        assert rows[method, "salt_pepper:0.5"]["mse"] == pytest.approx(np.mean((made - clean) ** 2), rel=1e-5)
    assert rows["noisy input", "none"]["mse"] == 0 and rows["noisy input", "none"]["psnr"] == pytest.approx(100)


def test_what_was_seen_in_training_is_marked(rows):
    seen = {key: row["seen"] for key, row in rows.items()}
    assert seen["this model", "salt_pepper:0.5"] is True and seen["this model", "gaussian:0.1"] is False
    # A model that was trained on clean images has seen those.
    assert seen["black", "none"] is True and seen["black", "salt_pepper:0.5"] is False
    assert seen["median", "salt_pepper:0.5"] is seen["noisy input", "salt_pepper:0.5"] is None


def test_methods_without_learning_are_given_the_very_same_noise(rows, subject, clean):
    row = rows["median", "salt_pepper:0.5"]
    assert row["images"] == 5
    size = int(row["setting"].removeprefix("size="))
    cleaned = classical.run(classical.METHODS["median"], {"size": size}, noisy_images(subject)[:5])
    assert row["mse"] == pytest.approx(np.mean((cleaned - clean[:5, None, None, None]) ** 2), rel=1e-5)


def test_being_ahead_is_told_on_the_images_that_both_were_tried_on(rows, subject, clean):
    target = tf.constant(np.tile(clean[:, None, None, None], (1, 12, 12, 1)), tf.float32)
    ours = psnr(target, subject.trained.model(noisy_images(subject))).numpy()
    row = rows["median", "salt_pepper:0.5"]
    assert row["ahead_db"] == pytest.approx(ours[:5].mean() - row["psnr"], abs=1e-4)
    assert rows["this model", "salt_pepper:0.5"]["ahead_db"] == 0


def test_the_classifier_judges_clean_noisy_and_cleaned_images(rows, subject, labels):
    classifier = Classifier(*subject.read("train"))
    for text, images in {"none": noisy_images(subject, None), "salt_pepper:0.5": noisy_images(subject)}.items():
        expected = classifier.knows(images, labels).mean()
        assert rows["noisy input", text]["accuracy"] == pytest.approx(expected)


def test_figures_and_tables_show_every_method(section):
    assert set(section.figures) == {"denoise", "denoise_extremes", "denoise_gaussian", "denoise_methods"}
    table = {row["method"]: row for row in section.tables["denoise_psnr"]}
    assert table.keys() == {"noisy input", "this model", "black", *classical.METHODS}
    assert table["this model"]["salt_pepper:0.5"].endswith("*") and table["median"]["none"] == ""
    assert "best without learning" in section.headline
    json.dumps(section.results)


def test_unlabelled_images_have_no_accuracy(subject):
    section = denoise.run(dataclasses.replace(subject, class_names=[], noises=["gaussian:0.1"]))
    assert section.tables["denoise_accuracy"] == [] and {row["accuracy"] for row in section.results} == {None}


def test_every_cell_is_a_scalar_of_tensorboard(section, rows, tmp_path):
    folder = write_evaluation(tmp_path, 7, section)
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    accumulator.Reload()
    images = {"denoise", "denoise_extremes", "denoise_gaussian", "denoise_methods"}
    tags = set(accumulator.Tags()["tensors"]) - images
    assert tags == {
        f"denoise/{method.replace(' ', '_')}/{noise.replace(':', '_')}/{quality}"
        for method, noise in rows
        for quality in ("mse", "psnr", "ssim", "accuracy")
    }
    assert "denoise/non-local_means/gaussian_0.1/ssim" in tags
    for tag, value in {
        "denoise/this_model/salt_pepper_0.5/psnr": rows["this model", "salt_pepper:0.5"]["psnr"],
        "denoise/black/none/accuracy": rows["black", "none"]["accuracy"],
    }.items():
        (event,) = accumulator.Tensors(tag)
        assert (event.step, float(tf.make_ndarray(event.tensor_proto))) == (7, pytest.approx(value, rel=1e-6))


@pytest.mark.parametrize(
    "method, text, tag",
    [
        ("this model", "blur:1+gaussian:0.1", "this_model/blur_1_and_gaussian_0.1"),
        ("non-local means", "gaussian:0.5/mask:0.3", "non-local_means/gaussian_0.5_or_mask_0.3"),
        ("runs/caf\u00e9 1", "gaussian:0.1-0.8", "runs_caf_1/gaussian_0.1-0.8"),
    ],
)
def test_tags_hold_nothing_but_letters_digits_and_a_few_signs(method, text, tag):
    cell = Cell(method, text, {"mse": np.ones(2), "psnr": np.ones(2), "ssim": np.ones(2)}, None, 1.0, np.zeros(1))
    assert denoise.scalars_of([cell]) == {f"{tag}/{quality}": 1.0 for quality in ("mse", "psnr", "ssim")}
