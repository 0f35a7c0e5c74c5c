"""Latent vectors: what they tell about classes, how many of their dimensions are used, and what each one carries."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA

from cae.data.arrays import to_float
from cae.latents import pca, probing
from cae.latents.probing import Clustering, Codes
from cae.report.charts import scatter_plots, variance_spectrum
from cae.report.figures import image_table
from cae.report.projector import Projection
from cae.report.report import KeyFigure, Row, Section
from cae.tasks import TSNE_IMAGES
from cae.tasks.classifier import has_classes
from cae.tasks.context import EvalContext, class_labels, evenly_spaced, example_indices, get_examples, measure

MAX_PROJECTED_IMAGES = 5000
"""Test images in TensorBoard's projector."""

NUM_SAMPLES = 50
"""Images that are sampled from a prior."""

MIN_ABLATION_IMAGES, MAX_ABLATION_IMAGES = 100, 1000
"""Test images on which each dimension is replaced by its mean; the fewer, the longer the latent vectors."""

MAX_ABLATION_DECODINGS = 32 * MAX_ABLATION_IMAGES

CAPTIONS = {
    "latents_clusters": "Test images of each class by cluster; a cluster is named after the class it is matched to",
    "latents_dimensions": (
        "Mean and standard deviation (std) of each dimension over the training images; increase of the test MSE where"
        " the dimension is replaced by its mean, and that increase divided by the MSE without the dimension"
    ),
}


def run(context: EvalContext) -> Section:
    """Evaluates the latent vectors of clean images, and compares the model with as many principal components.

    linear_probe_accuracy: of a linear classifier on the vectors; cluster_accuracy, cluster_accuracy_unwhitened: of
    clusters that are found without labels, with and without whitening; all three are missing where there are no
    classes. mse_over_pca_mse: the model's test MSE divided by that of the principal components.
    """
    train, test = encode_split(context, "train"), encode_split(context, "test")
    accuracies, cluster_rows = {}, []
    if has_classes(train.labels, context.class_names):
        validation = encode_split(context, "validation")
        accuracies, clustering = evaluate_classes(train, validation, test, context.kmeans_n_init)
        cluster_rows = _cluster_rows(context.class_names, clustering)
    latent_dim = train.vectors.shape[1]
    caption, latent_map, map_rows = draw_embeddings(context, test)
    fitted_pca = pca.fit_pca(context.load("train")[0], latent_dim)
    mse = float(measure(context, None)["mse"].mean(dtype="float64"))
    pca_mse = pca.pca_mse(fitted_pca, context.load("test")[0])
    errors = {"mse": mse, "pca_mse": pca_mse, "mse_over_pca_mse": mse / pca_mse if pca_mse else None}
    results = accuracies | errors | {"latent_dim": latent_dim} | probing.effective_dimensions(train.vectors)
    spectrum = variance_spectrum(probing.variances(train.vectors), train.vectors.std(axis=0, dtype="float64"))
    return Section(
        name="latents",
        title="Latent vectors",
        headline=_make_headline(results, fitted_pca.n_components_),
        results=results,
        figures={
            "latents": (caption, latent_map),
            "latents_pca": (
                f"Test images, reconstructed from the model's {latent_dim} latent dimensions and from"
                f" {fitted_pca.n_components_} principal components",
                _draw_pca(context, fitted_pca),
            ),
            "latents_spectrum": ("Variance of the training images' latent vectors", spectrum),
        }
        | _draw_samples(context),
        tables={
            "latents_clusters": cluster_rows,
            "latents_dimensions": per_dimension_rows(context, train, test),
            "latents_map": map_rows,
        },
        visible_tables=CAPTIONS,
        sources={"latents": "latents_map", "latents_spectrum": "latents_dimensions"},
        key_figures=_make_key_figures(results, fitted_pca.n_components_),
        projection=make_projection(context, test),
    )


def encode_split(context: EvalContext, split: str) -> Codes:
    """Returns the latent vectors and the labels of a split's clean images."""
    images, labels = context.load(split)
    return Codes(context.run.encode(images), labels)


def evaluate_classes(
    train: Codes, validation: Codes, test: Codes, n_init: int | None = None
) -> tuple[dict[str, float], Clustering]:
    """Returns how well the vectors separate classes: accuracies of a linear probe and of clusters.

    Args:
      train: Codes of the training split, for the probe and for k-means.
      validation: Codes for the probe's regularization.
      test: Codes to evaluate.
      n_init: Number of initializations of k-means, as `probing.cluster` takes it.

    Returns:
      Accuracies by name, and the clusters of whitened vectors.
    """
    clustering = probing.cluster(train, test, True, n_init)
    return {
        "linear_probe_accuracy": probing.linear_probe_accuracy(train, validation, test),
        "cluster_accuracy": clustering.accuracy,
        "cluster_accuracy_unwhitened": probing.cluster(train, test, False, n_init).accuracy,
        "kmeans_n_init": clustering.n_init,
    }, clustering


def _make_headline(results: Row, n_components: int) -> str:
    dim, classes = results["latent_dim"], ""
    if "linear_probe_accuracy" in results:
        classes = (
            f"linear probe accuracy {results['linear_probe_accuracy']:.1%}, cluster accuracy"
            f" {results['cluster_accuracy']:.1%} (whitened) and {results['cluster_accuracy_unwhitened']:.1%}; "
        )
    return (
        f"{dim}-dimensional latent vectors: {classes}{results['n_components_99']} principal components explain 99% of"
        f" the variance; test MSE {results['mse']:.5f}, of {n_components} principal components of the images"
        f" {results['pca_mse']:.5f}"
    )


def _make_key_figures(results: Row, n_components: int) -> list[KeyFigure]:
    note = f"{n_components} principal components: {results['pca_mse']:.5f}"
    by_pca = KeyFigure("MSE of reconstructions", f"{results['mse']:.5f}", note)
    if "linear_probe_accuracy" not in results:
        return [by_pca]
    note = f"classes from {results['latent_dim']} latent dimensions"
    return [KeyFigure("Linear probe accuracy", f"{results['linear_probe_accuracy']:.1%}", note), by_pca]


def per_dimension_rows(context: EvalContext, train: Codes, test: Codes) -> list[Row]:
    """Returns a row per latent dimension: its distribution, and the error where it is replaced by its mean.

    Returns:
      dimension; mean and std over the training images; mse_increase, of the MSE over evenly spaced test images;
      mse_fraction, the increase divided by the MSE without the dimension.
    """
    means, stds = train.vectors.mean(axis=0, dtype="float64"), train.vectors.std(axis=0, dtype="float64")
    affordable = max(MAX_ABLATION_DECODINGS // len(means), MIN_ABLATION_IMAGES)
    indices = evenly_spaced(len(test), min(affordable, MAX_ABLATION_IMAGES))
    images, vectors = to_float(context.load("test")[0][indices]), test.vectors[indices]

    def mse(vectors: np.ndarray) -> float:
        return float(np.square(context.run.decode(vectors) - images).mean(dtype="float64"))

    full_mse, rows = mse(vectors), []
    for dimension, (mean, std) in enumerate(zip(means, stds)):
        ablated = vectors.copy()
        ablated[:, dimension] = mean
        ablated_mse = mse(ablated)
        increase = ablated_mse - full_mse
        row = {"dimension": dimension, "mean": float(mean), "std": float(std), "mse_increase": increase}
        rows.append(row | {"mse_fraction": increase / ablated_mse if ablated_mse else 0.0})
    return rows


def _cluster_rows(class_names: Sequence[str], clustering: Clustering) -> list[Row]:
    """Returns a row per cluster with its number of test images of each class."""
    used = clustering.confusion.any(axis=0)
    used[clustering.matches] = True
    return [
        {"cluster": class_names[match]} | {class_names[label]: int(counts[label]) for label in np.flatnonzero(used)}
        for match, counts in zip(clustering.matches, clustering.confusion)
    ]


def draw_embeddings(context: EvalContext, test: Codes) -> tuple[str, Figure, list[Row]]:
    """Returns a map of some test images' latent vectors in two dimensions, colored by class.

    Returns:
      A caption, the figure, and a row for each image: its index in the test split, its class, its coordinates.
    """
    indices = evenly_spaced(len(test), context.tsne_images or TSNE_IMAGES)
    embeddings = probing.embed_2d(test.vectors[indices], t_sne=context.tsne_images > 0)
    caption = (
        f"Latent vectors of {len(indices)} test images in two dimensions, by {' and '.join(embeddings)}. Images that"
        " lie close together have similar latent vectors; the axes have no unit"
    )
    labels, images = class_labels(context, indices), context.load("test")[0][indices]
    rows = [{"image": int(index)} | ({"class": labels[place]} if labels else {}) for place, index in enumerate(indices)]
    for title, points in embeddings.items():
        for row, (x, y) in zip(rows, points.tolist()):
            row |= {f"{title} x": x, f"{title} y": y}
    return caption, scatter_plots(embeddings, labels, indices, images), rows


def _draw_pca(context: EvalContext, fitted_pca: PCA) -> Figure:
    """Draws some test images, their reconstructions by the model, and those by principal components."""
    indices = example_indices(context)
    examples = get_examples(context, None, indices)
    by_pca = pca.reconstruct(fitted_pca, context.load("test")[0][indices]).clip(0, 1)
    rows = {"input": examples["image"], "model": examples["output"], "PCA": by_pca}
    return image_table(rows, class_labels(context, indices))


def _draw_samples(context: EvalContext) -> dict[str, tuple[str, Figure]]:
    """Returns a figure of images that are decoded from samples of the prior, where the model has one."""
    if not hasattr(context.run.model, "sample"):
        return {}
    images = context.run.model.sample(NUM_SAMPLES, seed=0).numpy()
    figure = image_table(images.reshape(-1, 10, *images.shape[1:]))
    return {"latents_samples": ("Images decoded from samples of the prior, a standard normal distribution", figure)}


def make_projection(context: EvalContext, test: Codes) -> Projection:
    """Returns some test images' latent vectors for TensorBoard's projector."""
    indices = evenly_spaced(len(test), MAX_PROJECTED_IMAGES)
    return Projection(test.vectors[indices], context.load("test")[0][indices], class_labels(context, indices))
