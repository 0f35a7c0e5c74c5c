"""All scores share some properties, and those of reconstructions and of latent vectors equal their references."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from clouds import make_clouds
from scipy import stats
from skimage.metrics import structural_similarity
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from small_scores import COSINES, FORWARD, SIDE, TEST, TRAIN, compute, fit, forward_arrays, make_noise

from cae.errors import UserError
from cae.outliers import forward, neighbor_index, scores
from cae.outliers.forward import ModelOutputs
from cae.outliers.score import compute_scores
from cae.outliers.scores import SCORES

pytestmark = pytest.mark.usefixtures("one_thread")


class IdentityModel(keras.Model):
    """Has no latent vectors, and returns its input."""

    def call(self, images):
        return tf.identity(images)


def with_latents(latents):
    return ModelOutputs(image=None, output=None, latent=tf.constant(latents), reconstruct=None)


# --- All scores -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORES)
def test_every_image_has_one_finite_score(name, fitted):
    # Constant images as well, which have no reconstruction error or no edges.
    constant = np.stack([np.full((SIDE, SIDE, 1), value, np.uint8) for value in (0, 128, 255)])
    images = np.concatenate([TEST, TRAIN[:8], make_noise(3, 8), constant])
    values = compute(fitted[name], images)
    assert values.shape == (len(images),) and np.isfinite(values).all()


@pytest.mark.parametrize("name", SCORES)
def test_score_does_not_depend_on_the_other_images(name, fitted):
    batch = compute(fitted[name], TEST)
    single = np.concatenate([compute(fitted[name], image[None]) for image in TEST])
    np.testing.assert_allclose(batch, single, rtol=1e-3, atol=1e-6)
    assert np.ptp(batch) > 0


@pytest.mark.parametrize("name", SCORES)
def test_order_is_kept_over_several_batches(name, fitted, monkeypatch):
    monkeypatch.setattr(forward, "BATCH_PIXELS", 20 * TEST[0].size)
    images = make_clouds(4, 43)
    values = compute(fitted[name], images)
    assert len(values) == len(images)
    np.testing.assert_allclose(values[-5:], compute(fitted[name], images[-5:]), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_state_is_all_that_was_learned(name, fitted):
    state = fitted[name].state
    assert all(isinstance(array, np.ndarray) for array in state.values())
    assert all(
        array.dtype == np.uint8 if key.endswith("index") else array.dtype.kind == "f" for key, array in state.items()
    )
    copy = SCORES[name](**fitted[name].state)
    np.testing.assert_array_equal(compute(copy, TEST), compute(fitted[name], TEST))


@pytest.mark.parametrize("name", SCORES)
def test_fitting_to_the_same_images_gives_the_same_scores(name, fitted):
    np.testing.assert_allclose(compute(fit(name), TEST), compute(fitted[name], TEST), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_floats_have_the_scores_of_bytes(name, fitted):
    floats = TEST.astype(np.float32) / 255
    np.testing.assert_allclose(compute(fitted[name], floats), compute(fitted[name], TEST), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_outliers_have_larger_scores_than_inliers(name, fitted):
    # In latent space noise is like gray, since it has hardly any low frequencies; white rows are an outlier.
    rows = np.zeros_like(TEST[:1])
    rows[:, 4:8] = 255
    outliers = rows if SCORES[name].needs else make_noise(5, 24)
    assert compute(fitted[name], outliers).min() > np.quantile(compute(fitted[name], TEST), 0.85)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", SCORES)
def test_least_number_of_training_images_is_the_least_that_gives_scores(name):
    least = SCORES[name].min_images
    assert np.isfinite(compute(fit(name, images=TRAIN[:least]), TEST)).all()
    if least > 1:
        with contextlib.suppress(ValueError, IndexError):
            assert not np.isfinite(compute(fit(name, images=TRAIN[: least - 1]), TEST)).all()


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if score.needs is None])
def test_models_without_latent_vectors_have_the_other_scores(name):
    assert {outputs.latent for outputs in FORWARD["blur"](TEST)} == {None}
    values = compute(fit(name, "blur"), TEST, "blur")
    assert values.shape == (len(TEST),) and np.isfinite(values).all()


def test_some_scores_need_latent_vectors_or_embeddings():
    needs = {name: score.needs for name, score in SCORES.items() if score.needs}
    assert needs == {"mahalanobis": "latents", "knn": "latents", "deep_cluster": "embeddings"}
    assert scores.default_score({"latents"}) == "fisher"
    assert scores.default_score({"latents", "embeddings"}) == "deep_cluster"


def test_unknown_score_is_refused_with_the_closest_name():
    with pytest.raises(UserError, match=r"unknown --score 'mahalanobs'.*did you mean 'mahalanobis'"):
        scores.get_score("mahalanobs")
    assert scores.get_score("mse") is SCORES["mse"]


def test_score_is_refused_for_a_model_without_what_it_needs():
    with pytest.raises(UserError, match=r"--score=knn needs latent vectors, which.*available: fisher, mse.*hog$"):
        scores.get_score("knn", set())
    with pytest.raises(
        UserError,
        match=r"--score=deep_cluster needs a trained classifier of clusters, .*mahalanobis, knn",
    ):
        scores.get_score("deep_cluster", {"latents"})
    assert scores.get_score("fisher", set()) is SCORES["fisher"]


def test_model_outputs_are_image_output_and_latent_vector():
    image, output, latent = forward_arrays(TEST)
    np.testing.assert_allclose(image, TEST / 255, rtol=1e-6)
    np.testing.assert_allclose(latent, (TEST / 255).reshape(24, -1) @ COSINES, atol=1e-4)
    expected = np.clip(latent @ COSINES.T, 0, 1).reshape(24, SIDE, SIDE, 1)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    (outputs,) = FORWARD["cosines"](TEST)
    np.testing.assert_allclose(outputs.reconstruct(outputs.image), output, atol=1e-6)


# --- Scores of reconstructions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", FORWARD)
def test_mse_matches_numpy(model):
    image, output, _ = forward_arrays(TEST, model)
    expected = np.square(image - output).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(compute(SCORES["mse"](), TEST, model), expected, rtol=1e-5)


def test_ssim_matches_scikit_image():
    image, output, _ = forward_arrays(TEST)
    # TensorFlow averages over whole windows of 11x11: of 12 pixels, the two positions in the middle.
    options = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    maps = [structural_similarity(one[..., 0], other[..., 0], **options)[1] for one, other in zip(image, output)]
    expected = [1 - each[5:7, 5:7].mean() for each in maps]
    np.testing.assert_allclose(compute(SCORES["ssim"](), TEST), expected, atol=1e-4)


def test_top_pixels_are_the_twentieth_with_the_largest_error():
    image, output, _ = forward_arrays(TEST)
    errors = np.sort(np.square(image - output).reshape(24, -1), axis=1)
    # A twentieth of 144 are 7.
    np.testing.assert_allclose(compute(SCORES["top_pixels"](), TEST), errors[:, -7:].mean(axis=1), rtol=1e-5)


def test_error_of_a_pixel_is_the_mean_over_channels():
    image, output = np.zeros([1, 4, 5, 3], np.float32), np.zeros([1, 4, 5, 3], np.float32)
    # One of 20 pixels counts: that with 0.5^2 in two channels, not that with 0.6^2 in one.
    output[0, 1, 2, :2], output[0, 3, 3, 0] = 0.5, 0.6
    outputs = ModelOutputs(tf.constant(image), tf.constant(output), None, None)
    assert SCORES["top_pixels"]()(outputs) == pytest.approx(0.5**2 * 2 / 3)


def test_denoising_score_of_the_identity_is_the_variance_of_the_clipped_noise():
    # Gray is 0.5 away from black and white, where noise is clipped.
    gray = np.full([1, 64, 64, 1], 0.5, np.float32)
    values = compute_scores(SCORES["denoising"](), gray, forward.make_forward(IdentityModel()))
    expected = [stats.norm.expect(lambda z, s=level: min((s * z) ** 2, 0.25)) for level in (0.2, 0.4, 0.6)]
    assert values == pytest.approx(np.mean(expected), rel=0.05)


def test_denoising_score_includes_the_reconstruction_error():
    # Blurring keeps a ninth of the noise's variance, and nearly all of the clouds.
    plain, denoised = (compute(SCORES[name](), TEST, "blur") for name in ("mse", "denoising"))
    assert (denoised > plain).all()


# --- Scores of latent vectors ---------------------------------------------------------------------------------------


def test_mahalanobis_distance_matches_scikit_learn(fitted):
    train, test = (
        np.concatenate([outputs.latent for outputs in FORWARD["cosines"](images)]) for images in (TRAIN, TEST)
    )
    expected = EmpiricalCovariance().fit(train).mahalanobis(test)
    np.testing.assert_allclose(compute(fitted["mahalanobis"], TEST), expected, rtol=1e-3)
    # Over the training images the mean is the number of dimensions.
    assert compute(fitted["mahalanobis"], TRAIN).mean() == pytest.approx(9, rel=1e-3)


def knn_distance(references, queries, count=5):
    """Returns the root mean square distance of the nearest references."""
    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(references).kneighbors(queries)
    return np.sqrt(np.square(distances).mean(axis=1))


def test_knn_distance_matches_scikit_learn(fitted):
    train, test = (
        np.concatenate([outputs.latent for outputs in FORWARD["cosines"](images)]) for images in (TRAIN, TEST)
    )
    assert len(train) < neighbor_index.IVF_MIN_REFERENCES
    expected = knn_distance(train / train.std(axis=0), test / train.std(axis=0))
    np.testing.assert_allclose(compute(fitted["knn"], TEST), expected, rtol=1e-3)


def test_all_neighbors_count_if_there_are_fewer_than_n_neighbors():
    references = np.array([[0, 0], [0, 4], [0, 8]], np.float32)
    score = SCORES["knn"](scale=np.ones(2, np.float32), index=neighbor_index.build(references))
    # 3, 5, and the root of 9 + 64.
    assert score(with_latents(np.array([[3, 0]], np.float32))) == pytest.approx(np.sqrt((9 + 25 + 73) / 3))


def test_inverted_lists_find_nearly_all_of_the_nearest_neighbors(random):
    sizes = (2 * neighbor_index.IVF_MIN_REFERENCES, 300)
    references, queries = (random.normal(size=(size, 6)).astype(np.float32) for size in sizes)
    score = SCORES["knn"](scale=np.ones(6, np.float32), index=neighbor_index.build(references))
    approximate, exact = score(with_latents(queries)), knn_distance(references, queries)
    # A neighbor that is missed is replaced by one further away.
    assert (approximate >= exact * (1 - 1e-4)).all()
    assert (approximate <= exact * 1.001).mean() > 0.9 and approximate.mean() < 1.01 * exact.mean()
