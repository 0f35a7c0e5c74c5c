"""Principal component analysis, the linear baseline of an autoencoder with as many latent dimensions."""

import numpy as np
from sklearn.decomposition import PCA

from cae.data.arrays import flatten, to_float


def fit_pca(images: np.ndarray, n_components: int) -> PCA:
    """Fits principal components to images.

    Small problems are solved exactly, large ones by a randomized method (Halko, Martinsson and Tropp 2011) with a fixed
    seed.

    Args:
      images: uint8 [n, height, width, channels].
      n_components: Number of components; at most min(n, pixels) are fitted.
    """
    rows = flatten(to_float(images))
    return PCA(min(n_components, *rows.shape), svd_solver="auto", random_state=0).fit(rows)


def reconstruct(pca: PCA, images: np.ndarray) -> np.ndarray:
    """Returns projections of images, uint8 [n, height, width, channels], on the components: float32, around 0..1."""
    rows = flatten(to_float(images))
    return pca.inverse_transform(pca.transform(rows)).reshape(images.shape).astype(np.float32)


def pca_mse(pca: PCA, images: np.ndarray) -> float:
    """Returns the mean squared error of `reconstruct` over all pixels of all images, uint8 [n, h, w, c]."""
    return float(np.square(reconstruct(pca, images) - to_float(images)).mean(dtype="float64"))
