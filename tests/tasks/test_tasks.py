import keras
import numpy as np
import pytest
import tensorflow as tf

from cae import tasks
from cae.data import noise, pipeline
from cae.errors import UserError
from cae.tasks import denoise, reconstruct
from cae.tasks.subject import Subject, try_out

LABELS = np.array([2, 0, 0, 1, 2, 2, 0, 1])


class Halves(keras.Model):
    """Encodes an image as its mean and its largest value, and decodes a constant image of half the mean."""

    def encode(self, images):
        return tf.stack([tf.reduce_mean(images, [1, 2, 3]), tf.reduce_max(images, [1, 2, 3])], axis=1)

    def decode(self, latents):
        return tf.ones([1, 12, 12, 1]) * tf.reshape(latents[:, 0], [-1, 1, 1, 1]) / 2


@pytest.fixture
def subject():
    values = np.arange(8, dtype=np.uint8) * 30
    images = np.tile(values[:, None, None, None], (1, 12, 12, 1))

    def batches(corrupt):
        return pipeline.evaluation_batches(images, LABELS, classes=3, corrupt=corrupt, batch_size=3, seed=0)

    return Subject(Halves(), batches, noise.parse("salt_pepper:0.5"), "salt_pepper:0.5", ["a", "b", "c"], 6)


CLEAN = np.arange(8) * 30 / 255


def test_reconstruction_is_measured_over_all_images_and_by_class(subject):
    results = reconstruct.run(subject).results
    errors = (CLEAN / 2) ** 2
    assert results["mse"] == pytest.approx(errors.mean(), rel=1e-5) and results["images"] == 8
    by_class = {row["class"]: row for row in results["by_class"]}
    for label, name in enumerate("abc"):
        assert by_class[name]["mse"] == pytest.approx(errors[label == LABELS].mean(), rel=1e-5)
        assert by_class[name]["images"] == (label == LABELS).sum()
    # PSNR is the mean over images, not that of the mean: image 0 is perfect, at 100 dB.
    expected = np.mean([100, *(-10 * np.log10(errors[1:]))])
    assert results["psnr"] == pytest.approx(expected, rel=1e-4)


def test_denoising_compares_the_noisy_input_and_the_output_with_the_clean_image(subject):
    before, after = denoise.run(subject).results
    noisy = np.concatenate([batch["noisy"] for batch in subject.batches(subject.noise)])
    clean = CLEAN[:, None, None, None]
    assert before["mse"] == pytest.approx(np.mean((noisy - clean) ** 2), rel=1e-5)
    output = noisy.mean(axis=(1, 2, 3), keepdims=True) / 2
    assert after["mse"] == pytest.approx(np.mean((output - clean) ** 2), rel=1e-5)
    assert (before["method"], before["noise"], before["level"]) == ("noisy input", "salt_pepper", "0.5")
    assert set(after) == {"method", "noise", "level", "mse", "psnr", "ssim"}


def test_every_method_is_given_the_very_same_noise(subject):
    first, second = denoise.run(subject).results, denoise.run(subject).results
    assert first == second


def test_examples_show_every_class_and_are_those_that_are_named(subject):
    outcome = try_out(subject, None)
    assert outcome.chosen.tolist() == [1, 2, 3, 7, 0, 4]  # The first two of each class, by class.
    np.testing.assert_allclose(outcome.examples["image"][:, 0, 0, 0], CLEAN[outcome.chosen], atol=1e-6)
    np.testing.assert_allclose(outcome.examples["latent"][:, 0], CLEAN[outcome.chosen], atol=1e-6)
    rows = reconstruct.latent_rows(outcome)
    assert [row["image"] for row in rows] == outcome.chosen.tolist()
    assert rows[0]["latent_0"] == pytest.approx(CLEAN[1], abs=1e-5) and rows[0]["class"] == 0


def test_unlabelled_images_have_no_classes(subject):
    unlabelled = Subject(
        subject.model,
        lambda corrupt: subject.batches(corrupt).map(lambda batch: batch | {"label": batch["label"][:, :1] * 0 + 1}),
        subject.noise,
        subject.noise_name,
        [],
        4,
    )
    section = reconstruct.run(unlabelled)
    assert section.results["by_class"] == [] and section.results["images"] == 8
    assert len(try_out(unlabelled, None).chosen) == 4


def test_names_give_tasks_in_the_order_of_the_report():
    assert tasks.find([]) == list(tasks.TASKS.values())
    assert tasks.find(["reconstruct", "denoise"]) == tasks.find(["denoise", "reconstruct"])
    with pytest.raises(UserError, match=r"unknown --tasks 'denose'.*did you mean 'denoise'"):
        tasks.find(["denose"])
