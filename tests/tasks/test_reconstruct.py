import dataclasses

import numpy as np
import pytest

from cae.tasks import reconstruct
from cae.tasks.subject import chosen, examples


def test_reconstruction_is_measured_over_all_images_and_by_class(subject, clean, labels):
    results = reconstruct.run(subject).results
    errors = (clean / 2) ** 2
    assert results["mse"] == pytest.approx(errors.mean(), rel=1e-5) and results["images"] == 8
    by_class = {row["class"]: row for row in results["by_class"]}
    for label, name in enumerate("abc"):
        assert by_class[name]["mse"] == pytest.approx(errors[label == labels].mean(), rel=1e-5)
        assert by_class[name]["images"] == (label == labels).sum()
    # PSNR is the mean over images, not that of the mean: image 0 is perfect, at 100 dB.
    expected = np.mean([100, *(-10 * np.log10(errors[1:]))])
    assert results["psnr"] == pytest.approx(expected, rel=1e-4)


def test_examples_show_every_class_and_are_those_that_are_named(subject, clean):
    positions = chosen(subject)
    assert positions.tolist() == [1, 2, 3, 7, 0, 4]  # The first two of each class, by class.
    shown = examples(subject, None, positions)
    np.testing.assert_allclose(shown["image"][:, 0, 0, 0], clean[positions], atol=1e-6)
    np.testing.assert_allclose(shown["latent"][:, 0], clean[positions], atol=1e-6)
    rows = reconstruct.latent_rows(subject, positions, shown["latent"])
    assert [row["image"] for row in rows] == positions.tolist()
    assert rows[0]["latent_0"] == pytest.approx(clean[1], abs=1e-5) and rows[0]["class"] == 0


def test_unlabelled_images_have_no_classes(subject, labels):
    images, _ = subject.read("test")
    unlabelled = dataclasses.replace(subject, class_names=[], read=lambda split: (images, 0 * labels), max_examples=4)
    results = reconstruct.run(unlabelled).results
    assert results["by_class"] == [] and results["images"] == 8
    assert chosen(unlabelled).tolist() == [0, 1, 2, 3]
