"""Deep clustering (DeepCluster; Caron, Bojanowski, Joulin and Douze 2018, "Deep Clustering for Unsupervised Learning of
Visual Features"), with clusters of an autoencoder's latent vectors.

First the autoencoder is trained. Then the latent vectors of training images are clustered by k-means, several times
with different numbers of clusters, and a classifier of these pseudo-labels is trained on images with the noise of
--noise. Where that noise keeps the class of an image, the features are those by which classes differ. The
clusters are computed once, not before every epoch as in the paper.
"""

from collections.abc import Iterable

import faiss
import keras
import numpy as np
import tensorflow as tf

from cae.latents.probing import fit_whitening
from cae.models.deep_cluster import DeepCluster
from cae.progress import phase
from cae.training.distribution import Batch, Broadcast
from cae.training.objectives import MicrobatchRng, Objective, Reconstruction

KMEANS_ITERATIONS, KMEANS_INITIALIZATIONS = 50, 3


class AutoencoderPretraining(Reconstruction):
    """Minimizes the reconstruction loss by the variables of the autoencoder."""

    def trained_variables(self, network: DeepCluster) -> list[keras.Variable]:
        """Returns the variables of encoder and decoder."""
        return network.encoder.trainable_variables + network.decoder.trainable_variables


class PseudoLabelClassification(Objective):
    """Minimizes the cross-entropy of pseudo-labels, in nats, mean over clusterings, by the variables of the classifier.

    The pseudo-label is that of the clean image; the classifier sees the noisy one.
    """

    def trained_variables(self, network: DeepCluster) -> list[keras.Variable]:
        """Returns the variables of the classifier."""
        return network.classifier.trainable_variables

    def is_initialized(self, model: DeepCluster) -> bool:
        """Returns whether there are clusters."""
        return model.has_clusters

    def initialize(self, model: DeepCluster, images: Iterable[tf.Tensor], broadcast: Broadcast) -> None:
        """Computes the clusters, and starts the classifier's encoder from the autoencoder's."""
        model.set_clusters(*broadcast(fit_clusters(model, images, self.seed)))

    def losses(
        self, model: DeepCluster, batch: Batch, rng: MicrobatchRng | None = None, critic: None = None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Computes the losses of each image; in an evaluation also by the name by which the report tells them apart."""
        losses = [
            tf.nn.sparse_softmax_cross_entropy_with_logits(tf.stop_gradient(labels), logits)
            for labels, logits in zip(model.pseudo_labels(batch["image"]), model.classify(batch["input"]), strict=True)
        ]
        loss = tf.add_n(losses) / len(losses)
        if rng is None:
            return model(batch["input"]), {"loss": loss, "classification_loss": loss}
        return batch["input"], {"loss": loss}


def fit_clusters(model: DeepCluster, images: Iterable[tf.Tensor], seed: int) -> list[np.ndarray]:
    """Clusters the latent vectors of images.

    Args:
      model: The model, whose autoencoder is trained.
      images: Batches of clean training images in 0..1.
      seed: The clusters are a function of the seed, the model and the images.

    Returns:
      The arguments of `DeepCluster.set_clusters`, float32.
    """
    encode = tf.function(model.encode, reduce_retracing=True)
    latents = np.concatenate([encode(batch).numpy() for batch in images])
    pca = fit_whitening(latents)
    # Directions of negligible variance get a factor of 0.
    whitening = np.zeros([model.latent_dim, model.latent_dim], np.float32)
    deviations = np.sqrt(np.maximum(pca.explained_variance_, np.finfo(np.float32).tiny))
    whitening[:, : pca.n_components_] = (pca.components_ / deviations[:, None]).T
    mean = pca.mean_.astype(np.float32)
    whitened = np.ascontiguousarray((latents - mean) @ whitening)
    centroids = []
    with phase("k-means", len(model.num_clusters), "clustering", delay=1.0) as bar:
        for i, count in enumerate(model.num_clusters):
            centroids.append(_kmeans(whitened, count, seed + i))
            bar.update()
    return [mean, whitening, np.concatenate(centroids)]


def _kmeans(vectors: np.ndarray, num_clusters: int, seed: int) -> np.ndarray:
    """Returns the centroids of k-means (Lloyd 1982), the best of some initializations, [num_clusters, dimensions]."""
    kmeans = faiss.Kmeans(
        vectors.shape[1],
        num_clusters,
        niter=KMEANS_ITERATIONS,
        nredo=KMEANS_INITIALIZATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    kmeans.train(vectors)
    return kmeans.centroids
