"""Latent vectors: what they know of an image's class, how many of their numbers are used, and what each one carries."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from cae.latents import codes, linear
from cae.latents.codes import Clustering, Codes
from cae.report.figures import mosaic, scatter, spectrum
from cae.report.page import Row, Section
from cae.report.projector import Projection
from cae.tasks import TSNE_IMAGES
from cae.tasks.classifier import can_learn
from cae.tasks.subject import Subject, captions, chosen, examples, measure

PROJECTED = 5000
"""Test images in TensorBoard's projector."""

SAMPLED = 50
"""Images drawn from a prior."""

ABLATED = 1000
"""Test images on which numbers are replaced by their means, at most; fewer where vectors are long."""

DECODINGS = 32 * ABLATED

SHOWN = {
    "latents_clusters": "Test images of each class by the cluster that they fell into, which bears the name it matches",
    "latents_numbers": (
        "Each number: mean and standard deviation over the training images; rise: by how much the test MSE grows where"
        " the number is replaced by its mean; share: of the MSE without it"
    ),
}
"""The captions of the tables that the page shows."""


def run(subject: Subject) -> Section:
    """Measures the latent vectors of clean images, and sets the model beside as many principal components.

    linear_accuracy: of a linear classifier on the vectors; cluster_accuracy, cluster_accuracy_raw: of clusters found
    without labels, whitened or not; all three missing where images are of one class or unlabelled. mse_to_pca: the
    model's test MSE over that of the components.
    """
    train, test = encoded(subject, "train"), encoded(subject, "test")
    told = None
    if can_learn(train.labels, subject.class_names):
        told = tell_classes(train, encoded(subject, "validation"), test, subject.kmeans_n_init)
    accuracies, clustering = told if told else ({}, None)
    pca = linear.fit(subject.read("train")[0], train.vectors.shape[1])
    mse = float(measure(subject, None)["mse"].mean(dtype="float64"))
    pca_mse = linear.error(pca, subject.read("test")[0])
    used = codes.usage(train.vectors)
    numbers = number_rows(subject, train, test)
    deviations = train.vectors.std(axis=0, dtype="float64")
    return Section(
        name="latents",
        title="Latent vectors",
        headline=headline(accuracies, mse, pca_mse, used, train.vectors.shape[1]),
        results=accuracies
        | {"mse": mse, "pca_mse": pca_mse, "mse_to_pca": mse / pca_mse if pca_mse else None}
        | {"latent_dim": train.vectors.shape[1]}
        | used,
        figures={
            "latents": (map_caption(subject, test), map_figure(subject, test)),
            "latents_pca": (
                f"Test images; what the model's {train.vectors.shape[1]} numbers make of them; and"
                f" {pca.n_components_} principal components",
                pca_figure(subject, pca),
            ),
            "latents_spectrum": (
                "Variance of the training images' latent vectors, along their principal components and number by"
                " number",
                spectrum(codes.variances(train.vectors), deviations),
            ),
        }
        | samples(subject),
        tables={"latents_clusters": cluster_rows(subject, clustering), "latents_numbers": numbers},
        shown=SHOWN,
        projection=projection(subject, test),
    )


def encoded(subject: Subject, split: str) -> Codes:
    """Returns the latent vectors and the labels of a split's clean images."""
    encode = tf.function(subject.trained.model.encode, reduce_retracing=True)
    vectors = [encode(batch["image"]).numpy() for batch in subject.batches(split, None)]
    return Codes(np.concatenate(vectors), subject.read(split)[1])


def tell_classes(
    train: Codes, validation: Codes, test: Codes, n_init: int | None = None
) -> tuple[dict[str, float], Clustering]:
    """Returns how well the vectors tell classes apart, by a classifier and by clusters, and the whitened clusters.

    n_init: how often k-means is begun, as `codes.cluster` takes it.
    """
    whitened = codes.cluster(train, test, True, n_init)
    return {
        "linear_accuracy": codes.linear_accuracy(train, validation, test),
        "cluster_accuracy": whitened.accuracy,
        "cluster_accuracy_raw": codes.cluster(train, test, False, n_init).accuracy,
        "cluster_restarts": whitened.restarts,
    }, whitened


def headline(accuracies: dict[str, float], mse: float, pca_mse: float, used: dict[str, float], dims: int) -> str:
    """Returns the one line to remember."""
    known = ""
    if accuracies:
        known = f"a linear classifier knows {accuracies['linear_accuracy']:.1%} of test images, clusters without labels"
        known += f" {accuracies['cluster_accuracy']:.1%} (whitened) and {accuracies['cluster_accuracy_raw']:.1%}; "
    return (
        f"latent vectors of {dims}: {known}{used['components_99']} components hold 99% of the variance; test MSE"
        f" {mse:.5f}, by {dims} principal components {pca_mse:.5f}"
    )


def number_rows(subject: Subject, train: Codes, test: Codes) -> list[Row]:
    """Returns a row for each number of the vectors, and what is lost on test images without it."""
    mean, deviation = train.vectors.mean(axis=0, dtype="float64"), train.vectors.std(axis=0, dtype="float64")
    count = int(np.clip(DECODINGS // len(mean), min(100, len(test)), min(ABLATED, len(test))))
    positions = _spread(len(test), count)
    images, vectors = subject.read("test")[0][positions].astype(np.float32) / 255, test.vectors[positions]
    decode = tf.function(subject.trained.model.decode, reduce_retracing=True)

    def error(replaced: int | None) -> float:
        given = vectors.copy()
        if replaced is not None:
            given[:, replaced] = mean[replaced]
        parts = [slice(start, start + 256) for start in range(0, count, 256)]
        squares = [np.square(decode(given[part]).numpy() - images[part]).sum(dtype="float64") for part in parts]
        return float(sum(squares) / images.size)

    whole = error(None)
    rows = []
    for number in range(len(mean)):
        without = error(number)
        rise = without - whole
        share = rise / without if without else 0.0
        row = {"number": number, "mean": float(mean[number]), "std": float(deviation[number])}
        rows.append(row | {"rise": rise, "share": share})
    return rows


def cluster_rows(subject: Subject, found: Clustering | None) -> list[Row]:
    """Returns a row for each cluster: how many test images it has of each class; none where there are no clusters."""
    if found is None:
        return []
    names = subject.class_names
    there = found.confusion.any(axis=0) | np.isin(np.arange(found.confusion.shape[1]), found.matches)
    return [
        {"cluster": names[match]} | {names[label]: int(line[label]) for label in np.flatnonzero(there)}
        for match, line in zip(found.matches, found.confusion)
    ]


def map_caption(subject: Subject, test: Codes) -> str:
    """Returns what the maps show."""
    near = ", and by who is near whom" if subject.tsne_images else ""
    return (
        f"Where the latent vectors of {len(_mapped(subject, test))} test images lie: along the two directions of most"
        f" variance{near}"
    )


def map_figure(subject: Subject, test: Codes) -> Figure:
    """Draws where some test images' vectors lie, coloured by class."""
    positions = _mapped(subject, test)
    maps = codes.maps(test.vectors[positions], t_sne=subject.tsne_images > 0)
    return scatter(maps, captions(subject, positions))


def _mapped(subject: Subject, test: Codes) -> Sequence[int]:
    return _spread(len(test), subject.tsne_images or TSNE_IMAGES)


def pca_figure(subject: Subject, pca: PCA) -> Figure:
    """Draws the images that are shown, what the model makes of them, and what the components do."""
    positions = chosen(subject)
    shown = examples(subject, None, positions)
    by_pca = linear.reconstructed(pca, subject.read("test")[0][positions]).clip(0, 1)
    return mosaic({"input": shown["image"], "model": shown["output"], "PCA": by_pca}, captions(subject, positions))


def samples(subject: Subject) -> dict[str, tuple[str, Figure]]:
    """Returns images that are decoded from draws of the prior, where the model has one."""
    model = subject.trained.model
    if not hasattr(model, "sample"):
        return {}
    drawn = model.sample(SAMPLED, seed=0).numpy()
    figure = mosaic(dict(enumerate(drawn.reshape(-1, 10, *drawn.shape[1:]))))
    return {"latents_samples": ("Images decoded from what is drawn from the prior, a standard normal", figure)}


def projection(subject: Subject, test: Codes) -> Projection:
    """Returns some test images' vectors for TensorBoard's projector."""
    positions = _spread(len(test), PROJECTED)
    return Projection(test.vectors[positions], subject.read("test")[0][positions], captions(subject, positions))


def _spread(total: int, most: int) -> Sequence[int]:
    """Returns the positions of so many images, or of all, evenly over all of them."""
    return np.linspace(0, total - 1, min(most, total)).round().astype(int)
