"""What linear squeezing keeps of images: principal components, as many as a latent vector has numbers."""

import numpy as np
from sklearn.decomposition import PCA


def fit(images: np.ndarray, components: int) -> PCA:
    """Returns the principal components of images, uint8 [n, height, width, channels], at most min(n, pixels) of them.

    They are exact where that is quick, and otherwise found by a randomized method (Halko, Martinsson and Tropp 2011)
    with a fixed seed.
    """
    flat = _flat(images)
    return PCA(min(components, *flat.shape), svd_solver="auto", random_state=0).fit(flat)


def reconstructed(pca: PCA, images: np.ndarray) -> np.ndarray:
    """Returns what the components keep of images, uint8 [n, height, width, channels]: float32, around 0..1."""
    return pca.inverse_transform(pca.transform(_flat(images))).reshape(images.shape).astype(np.float32)


def error(pca: PCA, images: np.ndarray) -> float:
    """Returns the mean squared error, over all pixels, of what the components keep of images, uint8 [n, h, w, c]."""
    difference = reconstructed(pca, images).reshape(len(images), -1) - _flat(images)
    return float(np.square(difference).mean(dtype="float64"))


def pca_error(train_images: np.ndarray, test_images: np.ndarray, components: int) -> float:
    """Returns the mean squared error, over all pixels of all test images, of what so many components keep of them.

    Images are uint8 [n, height, width, channels], measured in 0..1; the components are those of the training images.
    """
    return error(fit(train_images, components), test_images)


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255
