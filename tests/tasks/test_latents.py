import dataclasses
import re
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from half_mean import run_of

from cae.data import pipeline
from cae.data.image_dataset import ImageDataset
from cae.data.splits import ArraySplit
from cae.latents import probing
from cae.report import report
from cae.tasks import latents
from cae.tasks.context import EvalContext

COUNT, SHAPE = 42, (27, 33, 3)


class Corners(keras.Model):
    """Encodes an image as its channels' means and a constant; decodes images of one color."""

    latent_dim = 4

    def encode(self, images):
        return tf.pad(tf.reduce_mean(images, [1, 2]), [[0, 0], [0, 1]], constant_values=0.5)

    def decode(self, latents):
        return tf.ones([1, *SHAPE]) * latents[:, None, None, :3]

    def call(self, images):
        return self.decode(self.encode(images))


@pytest.fixture(scope="module")
def colors():
    """Images of one color, red, green or blue, more or less of it; in another order in each split."""
    random = np.random.default_rng(0)
    images, labels = {}, {}
    for split in ("train", "validation", "test"):
        labels[split] = random.permutation(np.arange(COUNT) % 3)
        amount = random.integers(100, 256, COUNT)[:, None, None, None]
        images[split] = (np.eye(3)[labels[split]][:, None, None] * amount * np.ones(SHAPE)).astype(np.uint8)

    splits = {
        split: ArraySplit(COUNT, "synthetic", lambda split=split: [(images[split], labels[split])]) for split in images
    }
    dataset = ImageDataset("synthetic", SHAPE, ("red", "green", "blue"), splits)
    return EvalContext(
        run=run_of(Corners(), SHAPE),
        batches=pipeline.make_eval_batches(dataset, seed=0, batch_size=10),
        load=dataset.load,
        noises=["gaussian:0.1"],
        class_names=["red", "green", "blue"],
        num_examples=6,
        kmeans_n_init=10,
        tsne_images=0,
    )


@pytest.fixture(scope="module")
def section(colors):
    return latents.run(colors)


def test_vectors_that_are_colors_separate_colors(colors, section):
    results = section.results
    assert (
        results["linear_probe_accuracy"] == results["cluster_accuracy"] == results["cluster_accuracy_unwhitened"] == 1
    )
    assert results["latent_dim"] == 4 and results["active_units"] == 3 and results["n_components_99"] == 3
    # Three channels of one value each are three components, and the model keeps just as much.
    assert results["mse"] == pytest.approx(0, abs=1e-9) and results["pca_mse"] == pytest.approx(0, abs=1e-9)
    clusters = section.tables["latents_clusters"]
    _, labels = colors.load("test")
    for label, row in enumerate(clusters):
        others = {name: 0 for name in colors.class_names}
        assert row == {"cluster": colors.class_names[label]} | others | {row["cluster"]: (labels == label).sum()}


def test_a_dimension_carries_the_error_without_it(colors, section):
    rows = section.tables["latents_dimensions"]
    train, test = (colors.load(split)[0].mean(axis=(1, 2)) / 255 for split in ("train", "test"))
    for dimension in range(3):
        # Without it, one channel of three is the training images' mean.
        increase = np.square(test[:, dimension] - train[:, dimension].mean()).mean() / 3
        assert rows[dimension]["mse_increase"] == pytest.approx(increase, rel=1e-4)
        assert rows[dimension]["mse_fraction"] == pytest.approx(1, abs=1e-4)
        assert rows[dimension]["mean"] == pytest.approx(train[:, dimension].mean(), rel=1e-5)
        assert rows[dimension]["std"] == pytest.approx(train[:, dimension].std(), rel=1e-5)
    assert rows[3] == {"dimension": 3, "mean": 0.5, "std": 0, "mse_increase": 0, "mse_fraction": 0}


def test_the_errors_are_those_of_the_model_and_of_principal_components(context, clean):
    results = latents.run(dataclasses.replace(context, kmeans_n_init=1, tsne_images=0)).results
    assert results["mse"] == pytest.approx(((clean / 2) ** 2).mean(), rel=1e-4)
    # Images of one value each are one component.
    assert results["pca_mse"] == pytest.approx(0, abs=1e-9)
    assert results["n_components_99"] == 1 and results["participation_ratio"] == pytest.approx(1)


@pytest.mark.parametrize("kind", ["unlabeled", "one class"])
def test_without_classes_there_are_no_accuracies(kind, colors, tmp_path):
    changed = dataclasses.replace(
        colors,
        class_names=[] if kind == "unlabeled" else ["a", "b"],
        load=lambda split: (colors.load(split)[0], np.zeros(COUNT, np.int64)),
    )
    section = latents.run(changed)
    assert not [name for name in section.results if "accuracy" in name] and section.tables["latents_clusters"] == []
    assert "accuracy" not in section.headline and section.results["active_units"] == 3
    assert not section.projection.labels or set(section.projection.labels) == {"a"}
    assert report.write_report(tmp_path, "title", None, {}, [section]).exists()


def test_the_report_says_how_many_principal_components_there_are(colors):
    """Two training images are two components, and the model has four dimensions."""
    few = dataclasses.replace(
        colors,
        class_names=[],
        load=lambda split: [each[: 2 if split == "train" else COUNT] for each in colors.load(split)],
    )
    section = latents.run(few)
    caption, _ = section.figures["latents_pca"]
    for text in (section.headline, caption, *(each.note for each in section.key_figures)):
        assert re.findall(r"(\d+) principal components(?! explain)", text) == ["2"], text


def test_labels_of_some_classes_keep_their_names(colors):
    """A run on some of the classes: the first has no image, and labels begin with 1."""
    changed = dataclasses.replace(
        colors,
        class_names=["none", *colors.class_names],
        load=lambda split: (colors.load(split)[0], colors.load(split)[1] + 1),
    )
    section = latents.run(changed)
    assert section.results["cluster_accuracy"] == 1
    assert [row["cluster"] for row in section.tables["latents_clusters"]] == list(colors.class_names)
    assert "none" not in section.tables["latents_clusters"][0]


@mock.patch.object(latents, "MAX_PROJECTED_IMAGES", 5)
def test_the_projection_has_each_image_with_its_vector(colors):
    projection = latents.make_projection(colors, latents.encode_split(colors, "test"))
    assert len(projection.vectors) == len(projection.images) == len(projection.labels) == 5
    np.testing.assert_allclose(projection.vectors[:, :3], projection.images.mean(axis=(1, 2)) / 255, atol=1e-4)
    largest = projection.vectors[:, :3].argmax(axis=1)
    assert [colors.class_names[channel] for channel in largest] == projection.labels


def test_k_means_has_the_requested_number_of_initializations(colors, section):
    assert section.results["kmeans_n_init"] == 10
    train, validation, test = (latents.encode_split(colors, split) for split in ("train", "validation", "test"))
    assert latents.evaluate_classes(train, validation, test, n_init=3)[0]["kmeans_n_init"] == 3


def test_without_t_sne_there_is_only_the_embedding_by_pca(section):
    caption, figure = section.figures["latents"]
    assert [axis.get_title() for axis in figure.axes] == ["PCA"] and len(figure.axes[0].collections) == 3
    assert caption.startswith(f"Latent vectors of {COUNT} test images in two dimensions, by PCA. ")
    first, *_ = rows = section.tables["latents_map"]
    assert len(rows) == COUNT and first.keys() == {"image", "class", "PCA x", "PCA y"}
    points = {(x, y) for each in figure.axes[0].collections for x, y in each.get_offsets().tolist()}
    assert {(row["PCA x"], row["PCA y"]) for row in rows} == points


def test_embeddings_show_the_requested_number_of_images(colors, monkeypatch):
    monkeypatch.setattr(probing, "TSNE_ITERATIONS", 250)
    test = latents.encode_split(colors, "test")
    caption, figure, rows = latents.draw_embeddings(dataclasses.replace(colors, tsne_images=9), test)
    assert caption.startswith("Latent vectors of 9 test images in two dimensions, by PCA and t-SNE. ")
    assert [row["image"] for row in rows] == figure.thumbnails["indices"] and "t-SNE y" in rows[0]
    assert [axis.get_title() for axis in figure.axes] == ["PCA", "t-SNE"]
    for axis in figure.axes:
        assert sum(len(each.get_offsets()) for each in axis.collections) == 9
