"""A convolutional autoencoder with a classifier of the clusters of its latent vectors, which needs no labels."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from cae.models.conv import ACTIVATION, ConvAutoencoder, Encoder

FEATURE_DIM = 128
"""Dimensions of a feature vector."""


@keras.saving.register_keras_serializable("cae")
class ClusterClassifier(keras.Model):
    """Maps images to features, and those to logits of several clusterings.

    Its encoder has the layers of the autoencoder's, so that it can start with the same weights.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int, base_filters: int, num_logits: int, **kwargs
    ):
        super().__init__(**kwargs)
        self.encoder = Encoder(image_shape, latent_dim, base_filters, name="encoder")
        self.hidden = keras.layers.Dense(FEATURE_DIM, activation=ACTIVATION, kernel_initializer="he_normal")
        self.head = keras.layers.Dense(num_logits)

    def embed(self, images):
        """Returns codes [batch, latent_dim] and features [batch, FEATURE_DIM] of images, float32."""
        codes = self.encoder(images)
        return codes, tf.cast(self.hidden(codes), tf.float32)

    def call(self, images):
        return tf.cast(self.head(self.embed(images)[1]), tf.float32)


@keras.saving.register_keras_serializable("cae")
class DeepCluster(ConvAutoencoder):
    """An autoencoder, and a classifier that learns from its clusters (DeepCluster, Caron et al. 2018).

    The latent vectors of training images are clustered several times, with different numbers of clusters. The cluster
    of an image is its pseudo-label; what the classifier learns to tell them apart are its features.

    Attributes:
      num_clusters: Numbers of clusters of each clustering.
      latent_mean, whitening: The clusters are those of whitened latent vectors, (latent - latent_mean) @ whitening.
      centroids: The centroids of all clusterings, [sum of num_clusters, latent_dim]; 0 before `set_clusters`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int = 32,
        base_filters: int = 32,
        num_clusters: Sequence[int] = (10, 20, 40, 80),
        **kwargs,
    ):
        super().__init__(image_shape, latent_dim, base_filters, **kwargs)
        self.num_clusters = tuple(num_clusters)
        num_logits = sum(self.num_clusters)
        self.classifier = ClusterClassifier(image_shape, latent_dim, base_filters, num_logits, name="classifier")

        def add_constant(name: str, *shape: int) -> keras.Variable:
            return self.add_weight(shape=shape, initializer="zeros", dtype="float32", trainable=False, name=name)

        self.latent_mean = add_constant("latent_mean", latent_dim)
        self.whitening = add_constant("whitening", latent_dim, latent_dim)
        self.centroids = add_constant("centroids", num_logits, latent_dim)

    def get_config(self):
        return super().get_config() | {"num_clusters": self.num_clusters}

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not self.classifier.built:  # Keras has to create its variables with the others.
            self.classifier(images)
        return super().call(images, training=training)

    @property
    def has_clusters(self) -> bool:
        """Whether the clusters were computed, which is so from the first epoch of the classifier on."""
        return bool(tf.reduce_any(tf.convert_to_tensor(self.centroids) != 0))

    def set_clusters(self, latent_mean: tf.Tensor, whitening: tf.Tensor, centroids: tf.Tensor) -> None:
        """Sets the clusters, and starts the classifier with the weights of the autoencoder's encoder."""
        self.latent_mean.assign(latent_mean)
        self.whitening.assign(whitening)
        self.centroids.assign(centroids)
        for variable, value in zip(self.classifier.encoder.variables, self.encoder.variables, strict=True):
            variable.assign(tf.convert_to_tensor(value))

    def whiten(self, latents: tf.Tensor) -> tf.Tensor:
        """Returns whitened latent vectors [batch, latent_dim]."""
        return tf.matmul(latents - self.latent_mean, self.whitening)

    def embeddings(self, images: tf.Tensor, latents: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns what successive layers represent images by, [batch, dimensions] by name.

        Args:
          images: [batch, height, width, channels] in 0..1.
          latents: Their latent vectors.

        Returns:
          latents: Whitened latent vectors of the autoencoder.
          codes: The output of the classifier's encoder.
          features: The classifier's hidden layer.
        """
        codes, features = self.classifier.embed(images)
        return {"latents": self.whiten(latents), "codes": codes, "features": features}

    def classify(self, images: tf.Tensor) -> list[tf.Tensor]:
        """Returns the logits of images for each clustering, [batch, clusters]."""
        return self.split(self.classifier(images))

    def pseudo_labels(self, images: tf.Tensor) -> list[tf.Tensor]:
        """Returns the clusters of images for each clustering, int32 [batch]."""
        whitened = self.whiten(self.encode(images))
        distances = tf.reduce_sum(tf.square(self.centroids), axis=1) - 2 * tf.matmul(
            whitened, self.centroids, transpose_b=True
        )
        return [tf.argmin(each, axis=1, output_type=tf.int32) for each in self.split(distances)]

    def split(self, values: tf.Tensor) -> list[tf.Tensor]:
        """Splits [batch, sum of num_clusters] into a part for each clustering."""
        return tf.split(values, self.num_clusters, axis=1)
