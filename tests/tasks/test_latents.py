import dataclasses
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from cae.data import pipeline
from cae.latents import codes
from cae.report import figures, page
from cae.tasks import latents
from cae.tasks.subject import Subject, Trained

COUNT, SHAPE = 42, (27, 33, 3)


class Corners(keras.Model):
    """Encodes an image as its channels' means and a number that says nothing; decodes images of one colour."""

    def encode(self, images):
        return tf.pad(tf.reduce_mean(images, [1, 2]), [[0, 0], [0, 1]], constant_values=0.5)

    def decode(self, latents):
        return tf.ones([1, *SHAPE]) * latents[:, None, None, :3]

    def call(self, images):
        return self.decode(self.encode(images))


@pytest.fixture(scope="module")
def colours():
    """Images of one colour, red, green or blue, more or less of it; in another order in each split."""
    random = np.random.default_rng(0)
    images, labels = {}, {}
    for split in ("train", "validation", "test"):
        labels[split] = random.permutation(np.arange(COUNT) % 3)
        amount = random.integers(100, 256, COUNT)[:, None, None, None]
        images[split] = (np.eye(3)[labels[split]][:, None, None] * amount * np.ones(SHAPE)).astype(np.uint8)

    def batches(split, corrupt, only=None):
        common = {"classes": 3, "corrupt": corrupt, "batch_size": 10, "seed": 0}
        return pipeline.evaluation_batches(images[split], labels[split], only=only, **common)

    return Subject(
        trained=Trained(Corners(), None),
        batches=batches,
        read=lambda split: (images[split], labels[split]),
        noises=["gaussian:0.1"],
        class_names=["red", "green", "blue"],
        max_examples=6,
        kmeans_n_init=10,
        tsne_images=0,
    )


@pytest.fixture(scope="module")
def section(colours):
    return latents.run(colours)


def test_colours_are_told_by_vectors_that_are_colours(colours, section):
    results = section.results
    assert results["linear_accuracy"] == results["cluster_accuracy"] == results["cluster_accuracy_raw"] == 1
    assert results["latent_dim"] == 4 and results["active"] == 3 and results["components_99"] == 3
    # Three channels of one value each are three components, and the model keeps just as much.
    assert results["mse"] == pytest.approx(0, abs=1e-9) and results["pca_mse"] == pytest.approx(0, abs=1e-9)
    clusters = section.tables["latents_clusters"]
    _, labels = colours.read("test")
    for label, row in enumerate(clusters):
        others = {name: 0 for name in colours.class_names}
        assert row == {"cluster": colours.class_names[label]} | others | {row["cluster"]: (labels == label).sum()}


def test_a_number_carries_what_is_lost_without_it(colours, section):
    rows = section.tables["latents_numbers"]
    train, test = (colours.read(split)[0].mean(axis=(1, 2)) / 255 for split in ("train", "test"))
    for number in range(3):
        # Without it, one channel of three is the training images' mean.
        lost = np.square(test[:, number] - train[:, number].mean()).mean() / 3
        assert rows[number]["rise"] == pytest.approx(lost, rel=1e-4)
        assert rows[number]["share"] == pytest.approx(1, abs=1e-4)
        assert rows[number]["mean"] == pytest.approx(train[:, number].mean(), rel=1e-5)
        assert rows[number]["std"] == pytest.approx(train[:, number].std(), rel=1e-5)
    assert rows[3] == {"number": 3, "mean": 0.5, "std": 0, "rise": 0, "share": 0}


def test_the_errors_are_those_of_model_and_components(subject, clean):
    results = latents.run(dataclasses.replace(subject, kmeans_n_init=1, tsne_images=0)).results
    assert results["mse"] == pytest.approx(((clean / 2) ** 2).mean(), rel=1e-4)
    # Images of one value each are one component.
    assert results["pca_mse"] == pytest.approx(0, abs=1e-9)
    assert results["components_99"] == 1 and results["participation_ratio"] == pytest.approx(1)


@pytest.mark.parametrize("kind", ["unlabelled", "one class"])
def test_without_classes_there_is_nothing_to_tell(kind, colours, tmp_path):
    changed = dataclasses.replace(
        colours,
        class_names=[] if kind == "unlabelled" else ["a", "b"],
        read=lambda split: (colours.read(split)[0], np.zeros(COUNT, np.int64)),
    )
    section = latents.run(changed)
    assert not [name for name in section.results if "accuracy" in name] and section.tables["latents_clusters"] == []
    assert "classifier" not in section.headline and section.results["active"] == 3
    assert not section.projection.labels or set(section.projection.labels) == {"a"}
    assert page.write(tmp_path, "title", None, {}, [section]).exists()


def test_labels_without_all_classes_keep_their_names(colours):
    """As where a run takes some classes only: the first has no image, and labels begin with 1."""
    changed = dataclasses.replace(
        colours,
        class_names=["none", *colours.class_names],
        read=lambda split: (colours.read(split)[0], colours.read(split)[1] + 1),
    )
    section = latents.run(changed)
    assert section.results["cluster_accuracy"] == 1
    assert [row["cluster"] for row in section.tables["latents_clusters"]] == list(colours.class_names)
    assert "none" not in section.tables["latents_clusters"][0]


@mock.patch.object(latents, "PROJECTED", 5)
def test_the_projector_gets_each_image_with_its_vector(colours):
    found = latents.projection(colours, latents.encoded(colours, "test"))
    assert len(found.vectors) == len(found.images) == len(found.labels) == 5
    np.testing.assert_allclose(found.vectors[:, :3], found.images.mean(axis=(1, 2)) / 255, atol=1e-4)
    assert [["red", "green", "blue"][position] for position in found.vectors[:, :3].argmax(axis=1)] == found.labels


def test_k_means_is_begun_as_often_as_is_asked_for(colours, section):
    assert section.results["cluster_restarts"] == 10
    train, validation, test = (latents.encoded(colours, split) for split in ("train", "validation", "test"))
    assert latents.tell_classes(train, validation, test, n_init=3)[0]["cluster_restarts"] == 3


def test_without_t_sne_there_is_the_map_of_principal_components_alone(section):
    caption, figure = section.figures["latents"]
    assert [axis.get_title() for axis in figure.axes] == ["PCA"] and len(figure.axes[0].collections) == 3
    assert caption.startswith(f"Where the latent vectors of {COUNT} test images lie") and "near whom" not in caption


def test_maps_show_as_many_images_as_are_asked_for(colours, monkeypatch):
    monkeypatch.setattr(codes, "TSNE_ITERATIONS", 250)
    some, test = dataclasses.replace(colours, tsne_images=9), latents.encoded(colours, "test")
    assert latents.map_caption(some, test).startswith("Where the latent vectors of 9 test images lie")
    assert "near whom" in latents.map_caption(some, test)
    figure = latents.map_figure(some, test)
    assert [axis.get_title() for axis in figure.axes] == ["PCA", "t-SNE"]
    for axis in figure.axes:
        assert sum(len(each.get_offsets()) for each in axis.collections) == 9


def test_a_map_shows_each_point_in_its_class_colour(random):
    points, labels = random.normal(size=(9, 2)), list("abcabcabc")
    figure = figures.scatter({"one": points, "two": -points}, labels)
    for axis, sign in zip(figure.axes, (1, -1)):
        assert [each.get_label() for each in axis.collections] == ["a", "b", "c"]
        for number, each in enumerate(axis.collections):
            np.testing.assert_allclose(each.get_offsets(), sign * points[number::3])
    assert len({tuple(each.get_facecolor()[0]) for each in figure.axes[0].collections}) == 3
    assert len(figures.scatter({"one": points}).axes[0].collections) == 1
    assert not figures.scatter({"one": points}).legends


def test_a_spectrum_is_sorted_and_holds_what_has_no_variance():
    figure = figures.spectrum(np.array([4.0, 1, 0]), np.array([0.5, 2, 0]))
    components, numbers = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(components, [4, 1, 4e-8])
    np.testing.assert_allclose(numbers, [4, 0.25, 4e-8])
    assert figures.png(figures.spectrum(np.zeros(1), np.zeros(1)))
