import dataclasses

import numpy as np
import pytest

from cae.data import noise
from cae.tasks.denoising_benchmark import NOISY_INPUT, THIS_MODEL, is_in_training_distribution, run_benchmark


@pytest.mark.parametrize(
    "trained, tested, expected",
    [
        ("gaussian:0.1-0.5", "gaussian:0.3", True),
        ("gaussian:0.1-0.5", "gaussian:0.8", False),
        ("gaussian:0.5/blur:1", "blur:1", True),
        ("gaussian:0.5", "gaussian:0.5+blur:1", False),
        ("gaussian:0.5", None, False),
        (None, "gaussian:0.5", False),
        (None, None, True),
    ],
)
def test_the_training_distribution_contains_what_the_model_was_trained_on(trained, tested, expected):
    trained, tested = (text and noise.parse_noise(text) for text in (trained, tested))
    assert is_in_training_distribution(trained, tested) is expected


def test_metrics_are_those_of_all_batches_in_order(context, clean):
    noisy, model, _ = run_benchmark(context, ["none"], example_index=4)
    assert (noisy.method, model.method) == (NOISY_INPUT, THIS_MODEL)
    # Eight images in batches of three; the model halves them.
    np.testing.assert_allclose(model.metrics["mse"], (clean / 2) ** 2, rtol=1e-4, atol=1e-9)
    assert model.num_images == 8 and model.mean("mse") == pytest.approx(np.mean((clean / 2) ** 2), rel=1e-5)
    # The fifth image is the second of the second batch.
    np.testing.assert_allclose(noisy.example_output, clean[4], rtol=1e-6)
    np.testing.assert_allclose(model.example_output, clean[4] / 2, rtol=1e-6)
    assert model.seconds > 0 and model.classifier_accuracy == model.is_correct.mean()


def test_without_classes_there_is_no_accuracy(context):
    results = run_benchmark(dataclasses.replace(context, class_names=[]), ["none"], example_index=0)
    assert {result.classifier_accuracy for result in results} == {None}
