import dataclasses

import numpy as np
import pytest

from cae.tasks import reconstruct
from cae.tasks.context import example_indices, get_examples


def test_reconstruction_is_evaluated_over_all_images_and_by_class(context, clean, labels):
    results = reconstruct.run(context).results
    errors = (clean / 2) ** 2
    assert results["mse"] == pytest.approx(errors.mean(), rel=1e-5) and results["num_images"] == 8
    by_class = {row["class"]: row for row in results["by_class"]}
    for label, name in enumerate("abc"):
        assert by_class[name]["mse"] == pytest.approx(errors[label == labels].mean(), rel=1e-5)
        assert by_class[name]["num_images"] == (label == labels).sum()
    # PSNR is the mean over images, not that of the mean MSE: image 0 is perfect, at 100 dB.
    expected = np.mean([100, *(-10 * np.log10(errors[1:]))])
    assert results["psnr"] == pytest.approx(expected, rel=1e-4)


def test_examples_have_every_class_and_match_their_indices(context, clean):
    indices = example_indices(context)
    assert indices.tolist() == [1, 2, 3, 7, 0, 4]  # The first two of each class, by class.
    examples = get_examples(context, None, indices)
    np.testing.assert_allclose(examples["image"][:, 0, 0, 0], clean[indices], atol=1e-6)
    np.testing.assert_allclose(examples["latent"][:, 0], clean[indices], atol=1e-6)
    rows = reconstruct.latent_rows(context, indices, examples["latent"])
    assert [row["image"] for row in rows] == indices.tolist()
    assert rows[0]["latent_0"] == pytest.approx(clean[1], abs=1e-5)
    assert [row["class"] for row in rows] == [*"aabbcc"]


def test_examples_of_some_classes_are_as_many_as_of_all(context, labels):
    """With --normal_classes a test split lacks the others, whose names it has."""
    images, _ = context.load("test")
    normal = labels != 1
    one_class = dataclasses.replace(context, load=lambda split: (images[normal], labels[normal]))
    assert example_indices(one_class).tolist() == [1, 2, 5, 0, 3, 4]


def test_examples_show_every_class_where_there_are_not_as_many_of_each(context):
    labels = np.array([0, 0, 0, 1, 1, 2])
    images = np.zeros([6, 12, 12, 1], np.uint8)
    few = dataclasses.replace(context, load=lambda split: (images, labels), num_examples=4)
    assert example_indices(few).tolist() == [0, 1, 3, 5]
    assert example_indices(few, 2).tolist() == [0, 3]
    assert example_indices(few, 9).tolist() == [*range(6)]


def test_unlabeled_images_have_no_classes(context, labels):
    images, _ = context.load("test")
    unlabeled = dataclasses.replace(context, class_names=[], load=lambda split: (images, 0 * labels), num_examples=4)
    section = reconstruct.run(unlabeled)
    results = section.results
    assert all("class" not in row for row in section.tables["reconstruct_latents"])
    assert results["by_class"] == [] and results["num_images"] == 8
    assert example_indices(unlabeled).tolist() == [0, 1, 2, 3]
