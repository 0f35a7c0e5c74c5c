import numpy as np
import pytest

from cae.data import tfds, tfds_builder
from cae.latents import pca


def test_images_of_few_components_are_reconstructed_exactly(random):
    two = random.integers(0, 100, (50, 2, 1, 1, 1)) * random.integers(0, 2, (1, 2, 5, 4, 3))
    images = two.sum(axis=1).astype(np.uint8)
    assert pca.pca_mse(pca.fit_pca(images, 2), images) == pytest.approx(0, abs=1e-10)
    # One component leaves the variance of the second: the second singular value of the centered images.
    flat = images.reshape(50, -1) / 255
    remaining = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False)[1] ** 2 / flat.size
    assert pca.pca_mse(pca.fit_pca(images, 1), images) == pytest.approx(remaining, rel=1e-3) and remaining > 1e-3


def test_number_of_components_is_limited_by_pixels_and_images(random):
    images = random.integers(0, 256, (6, 3, 2, 1)).astype(np.uint8)
    assert pca.fit_pca(images, 100).n_components_ == 6 and pca.fit_pca(images[:4], 100).n_components_ == 4
    assert pca.reconstruct(pca.fit_pca(images, 100), images[:2]).shape == (2, 3, 2, 1)


@pytest.mark.real_data
def test_mse_of_real_digits_is_known(tfds_dir):
    builder, shape = tfds_builder.get_builder("mnist", tfds_dir), (28, 28, 1)
    train, test = (tfds.read_split(builder, split, shape)[0] for split in ("train[:50000]", "test"))
    fitted_pca = pca.fit_pca(train, 32)
    assert pca.pca_mse(fitted_pca, test) == pytest.approx(0.0168, abs=5e-5)
    fitted_pca.components_ = fitted_pca.components_[:2]  # The first two do not depend on n_components.
    assert pca.pca_mse(fitted_pca, test) == pytest.approx(0.0557, abs=5e-5)
