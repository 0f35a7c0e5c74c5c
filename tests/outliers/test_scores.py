import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage, stats
from skimage.metrics import structural_similarity
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from cae.errors import UserError
from cae.outliers import gradients, index, scores
from cae.outliers.scores import SCORES, Passed

SIDE = 12
# The nine slowest waves that fit into an image, orthonormal: [144, 9].
WAVES = np.cos(np.pi * np.arange(3)[:, None] * (np.arange(SIDE) + 0.5) / SIDE)
WAVES = np.einsum("ih,jw->hwij", WAVES, WAVES).reshape(SIDE * SIDE, 9)
WAVES = (WAVES / np.linalg.norm(WAVES, axis=0)).astype(np.float32)


class Waves(keras.Model):
    """Encodes an image as nine slow waves' amplitudes, and decodes their sum."""

    def encode(self, images):
        return tf.reshape(images, [-1, SIDE * SIDE]) @ WAVES

    def decode(self, latents):
        return tf.clip_by_value(tf.reshape(latents @ WAVES.T, [-1, SIDE, SIDE, 1]), 0.0, 1.0)

    def call(self, images):
        return self.decode(self.encode(images))


class Blurred(keras.Model):
    """Has no latent vectors, and makes each pixel the mean of its surroundings."""

    def call(self, images):
        return tf.nn.avg_pool2d(images, 3, 1, "SAME")


class Same(keras.Model):
    """Has no latent vectors, and gives back what it is given."""

    def call(self, images):
        return tf.identity(images)


def clouds(seed, count):
    """Returns smooth images whose darkest pixel is black and brightest one white, uint8."""
    values = np.random.default_rng(seed).random((count, SIDE, SIDE, 1))
    values = ndimage.gaussian_filter(values, (0, 2, 2, 0), mode="wrap")
    values -= values.min(axis=(1, 2, 3), keepdims=True)
    return (255 * values / values.max(axis=(1, 2, 3), keepdims=True)).round().astype(np.uint8)


def noisy(seed, count):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)


PASSES = {"waves": scores.make_passes(Waves()), "blurred": scores.make_passes(Blurred())}
TRAIN, TEST = clouds(1, 300), clouds(2, 24)


def fit(name, model="waves", images=TRAIN):
    score = SCORES[name]()
    score.fit(images, PASSES[model])
    return score


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    # Of matrices as small as these, several threads only wait for each other where the processors are busy.
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def fitted():
    """Every score on the model that can have them all."""
    return {name: fit(name) for name in SCORES}


def values(score, images, model="waves"):
    return np.concatenate([score(passed) for passed in PASSES[model](images)])


def passed_at_once(images, model="waves"):
    """Returns image, output and latent vectors as arrays."""
    (passed,) = PASSES[model](images)
    return passed.image.numpy(), passed.output.numpy(), None if passed.latent is None else passed.latent.numpy()


def of_latents(latents):
    return Passed(image=None, output=None, latent=tf.constant(latents), again=None)


# --- What holds for every score --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCORES)
def test_every_image_has_one_finite_score(name, fitted):
    # Black, grey and white ones as well, which are reconstructed without fault or have no strokes at all.
    flat = np.stack([np.full((SIDE, SIDE, 1), value, np.uint8) for value in (0, 128, 255)])
    images = np.concatenate([TEST, TRAIN[:8], noisy(3, 8), flat])
    found = values(fitted[name], images)
    assert found.shape == (len(images),) and np.isfinite(found).all()


@pytest.mark.parametrize("name", SCORES)
def test_a_score_does_not_depend_on_the_other_images(name, fitted):
    together = values(fitted[name], TEST)
    alone = np.concatenate([values(fitted[name], image[None]) for image in TEST])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-6)
    assert np.ptp(together) > 0


@pytest.mark.parametrize("name", SCORES)
def test_more_images_than_a_batch_has_keep_their_order(name, fitted, monkeypatch):
    monkeypatch.setattr(scores, "PIXELS_AT_ONCE", 20 * TEST[0].size)
    many = clouds(4, 43)
    found = values(fitted[name], many)
    assert len(found) == len(many)
    np.testing.assert_allclose(found[-5:], values(fitted[name], many[-5:]), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_all_that_was_learned_lies_in_the_state(name, fitted):
    state = fitted[name].state
    assert all(isinstance(array, np.ndarray) for array in state.values())
    assert all(array.dtype == np.uint8 if key == "index" else array.dtype.kind == "f" for key, array in state.items())
    again = SCORES[name](**fitted[name].state)
    np.testing.assert_array_equal(values(again, TEST), values(fitted[name], TEST))


@pytest.mark.parametrize("name", SCORES)
def test_fitting_to_the_same_images_gives_the_same_scores(name, fitted):
    np.testing.assert_allclose(values(fit(name), TEST), values(fitted[name], TEST), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_floats_are_taken_like_eight_bits(name, fitted):
    floats = TEST.astype(np.float32) / 255
    np.testing.assert_allclose(values(fitted[name], floats), values(fitted[name], TEST), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_what_is_odd_has_larger_scores_than_images_like_those_of_training(name, fitted):
    # Noise has next to nothing of slow waves, and so is no odder than grey by these alone; a white half is.
    white = np.zeros_like(TEST[:1])
    white[:, :6] = 255
    odd = white if SCORES[name].needs_latents else noisy(5, 24)
    assert values(fitted[name], odd).min() > np.quantile(values(fitted[name], TEST), 0.9)


@pytest.mark.parametrize("name", [name for name, score in SCORES.items() if not score.needs_latents])
def test_models_without_latent_vectors_have_all_scores_that_need_none(name):
    assert {passed.latent for passed in PASSES["blurred"](TEST)} == {None}
    found = values(fit(name, "blurred"), TEST, "blurred")
    assert found.shape == (len(TEST),) and np.isfinite(found).all()


def test_only_scores_of_latent_vectors_need_them():
    assert {name for name, score in SCORES.items() if score.needs_latents} == {"mahalanobis", "neighbours"}
    assert next(iter(SCORES)) == "combined"


def test_an_unknown_score_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown --score 'mahalanobs'.*did you mean 'mahalanobis'"):
        scores.find("mahalanobs")
    assert scores.find("mse") is SCORES["mse"]


def test_a_score_of_latent_vectors_is_refused_where_there_are_none():
    with pytest.raises(UserError, match=r"--score=neighbours needs latent vectors.*combined, mse"):
        scores.find("neighbours", has_latents=False)
    assert scores.find("combined", has_latents=False) is SCORES["combined"]


def test_what_is_passed_is_the_image_its_output_and_its_latent_vector():
    image, output, latent = passed_at_once(TEST)
    np.testing.assert_allclose(image, TEST / 255, rtol=1e-6)
    np.testing.assert_allclose(latent, (TEST / 255).reshape(24, -1) @ WAVES, atol=1e-4)
    expected = np.clip(latent @ WAVES.T, 0, 1).reshape(24, SIDE, SIDE, 1)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    (passed,) = PASSES["waves"](TEST)
    np.testing.assert_allclose(passed.again(passed.image), output, atol=1e-6)


# --- Scores of the reconstruction ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", PASSES)
def test_the_squared_error_is_that_of_numpy(model):
    image, output, _ = passed_at_once(TEST, model)
    expected = np.square(image - output).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(values(SCORES["mse"](), TEST, model), expected, rtol=1e-5)


def test_the_dissimilarity_is_that_of_scikit_image():
    image, output, _ = passed_at_once(TEST)
    # TensorFlow has the mean over whole windows of 11x11 alone: of 12 pixels, the two positions in the middle.
    same = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    maps = [structural_similarity(one[..., 0], other[..., 0], **same)[1] for one, other in zip(image, output)]
    expected = [1 - each[5:7, 5:7].mean() for each in maps]
    np.testing.assert_allclose(values(SCORES["ssim"](), TEST), expected, atol=1e-4)


def test_the_worst_pixels_are_the_twentieth_with_the_largest_error():
    image, output, _ = passed_at_once(TEST)
    errors = np.sort(np.square(image - output).reshape(24, -1), axis=1)
    # A twentieth of 144 are 7.
    np.testing.assert_allclose(values(SCORES["top_pixels"](), TEST), errors[:, -7:].mean(axis=1), rtol=1e-5)


def test_a_pixels_error_is_the_mean_of_its_colours():
    image, output = np.zeros([1, 4, 5, 3], np.float32), np.zeros([1, 4, 5, 3], np.float32)
    # One of 20 pixels counts: that with 0.5^2 in two colours, not that with 0.6^2 in one.
    output[0, 1, 2, :2], output[0, 3, 3, 0] = 0.5, 0.6
    passed = Passed(tf.constant(image), tf.constant(output), None, None)
    assert SCORES["top_pixels"]()(passed) == pytest.approx(0.5**2 * 2 / 3)


def test_noise_that_is_left_is_the_error_after_denoising():
    # Nothing is removed. Grey is 0.5 away from black and white, where noise is cut off.
    grey = np.full([1, 64, 64, 1], 0.5, np.float32)
    (found,) = (SCORES["denoising"]()(passed) for passed in scores.make_passes(Same())(grey))
    expected = [stats.norm.expect(lambda z, s=level: min((s * z) ** 2, 0.25)) for level in (0.2, 0.4, 0.6)]
    assert found == pytest.approx(np.mean(expected), rel=0.05)


def test_noise_counts_beside_the_reconstructions_own_error():
    # Blurring keeps a ninth of the noise's variance inside; of clouds it keeps nearly all.
    plain, denoised = (values(SCORES[name](), TEST, "blurred") for name in ("mse", "denoising"))
    assert (denoised > plain).all()


# --- Scores of the latent vector -------------------------------------------------------------------------------------


def test_the_mahalanobis_distance_is_that_of_scikit_learn(fitted):
    train, test = (np.concatenate([p.latent for p in PASSES["waves"](each)]) for each in (TRAIN, TEST))
    expected = EmpiricalCovariance().fit(train).mahalanobis(test)
    np.testing.assert_allclose(values(fitted["mahalanobis"], TEST), expected, rtol=1e-3)
    # Over the images that it was fitted to, the mean is the number of dimensions.
    assert values(fitted["mahalanobis"], TRAIN).mean() == pytest.approx(9, rel=1e-3)


def nearest(references, queries, count=5):
    """Returns the root of the mean squared distance of the nearest ones."""
    distances, _ = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(references).kneighbors(queries)
    return np.sqrt(np.square(distances).mean(axis=1))


def test_neighbours_are_those_of_scikit_learn(fitted):
    train, test = (np.concatenate([p.latent for p in PASSES["waves"](each)]) for each in (TRAIN, TEST))
    assert len(train) < index.LISTED
    expected = nearest(train / train.std(axis=0), test / train.std(axis=0))
    np.testing.assert_allclose(values(fitted["neighbours"], TEST), expected, rtol=1e-3)


def test_where_there_are_fewer_neighbours_than_are_asked_for_all_of_them_count():
    references = np.array([[0, 0], [0, 4], [0, 8]], np.float32)
    score = SCORES["neighbours"](scale=np.ones(2, np.float32), index=index.build(references))
    # 3, 5, and the root of 9 + 64.
    assert score(of_latents(np.array([[3, 0]], np.float32))) == pytest.approx(np.sqrt((9 + 25 + 73) / 3))


def test_the_search_among_many_finds_nearly_all_of_the_nearest(random):
    references, queries = (random.normal(size=(size, 6)).astype(np.float32) for size in (2 * index.LISTED, 300))
    found = SCORES["neighbours"](scale=np.ones(6, np.float32), index=index.build(references))(of_latents(queries))
    exact = nearest(references, queries)
    # What is missed is replaced by something further away.
    assert (found >= exact * (1 - 1e-4)).all()
    assert (found <= exact * 1.001).mean() > 0.9 and found.mean() < 1.01 * exact.mean()


# --- Scores of the strokes -------------------------------------------------------------------------------------------


def test_the_strokes_distance_is_that_of_the_nearest_training_images(fitted):
    described = [gradients.describe(tf.constant(each / 255.0, tf.float32)).numpy() for each in (TRAIN, TEST)]
    # Of 64 main directions, by way of the singular values.
    mean = described[0].mean(axis=0)
    directions = np.linalg.svd(described[0] - mean, full_matrices=False)[2][:64]
    train, test = ((each - mean) @ directions.T for each in described)
    positions = NearestNeighbors(n_neighbors=30).fit(train).kneighbors(test, return_distance=False)
    expected = gradients.distance_to_span(test[:, None], train[positions], ridge=0.3)[:, 0]
    np.testing.assert_allclose(values(fitted["gradients"], TEST), expected, rtol=1e-2)


def test_the_strokes_of_noise_are_strange_and_those_of_training_known(fitted):
    known, alike, strange = (values(fitted["gradients"], each) for each in (TRAIN[:24], TEST, noisy(6, 24)))
    assert np.median(known) < np.median(alike)
    assert alike.max() < strange.min()


def test_fewer_training_images_than_neighbours_are_enough():
    score = fit("gradients", images=TRAIN[:10])
    assert np.isfinite(values(score, TEST)).all()
    assert np.isfinite(values(fit("combined", images=TRAIN[:12]), TEST)).all()


def test_other_images_are_measured_from_the_first_ones_neighbours(fitted):
    image, other = (scores.scaled(each) for each in (TEST, clouds(7, 24)))
    own, others = fitted["gradients"].distances(image, other)
    np.testing.assert_allclose(own, fitted["gradients"].distances(image)[0], rtol=1e-5)
    # From their own neighbours they are nearer.
    assert others.mean() > fitted["gradients"].distances(other)[0].mean()


@pytest.mark.parametrize("model", PASSES)
def test_the_combined_score_is_fishers_of_its_three_answers(model):
    found = values(fit("combined", model), TEST, model)
    # A tenth of the training images is held back and sets the scales.
    strokes = fit("gradients", images=TRAIN[:-30])

    def logarithms(images):
        (passed,) = PASSES[model](images)
        answers = [*strokes.distances(passed.image, passed.output), SCORES["ssim"]()(passed)]
        return np.log(np.array(answers, np.float64))

    scale = logarithms(TRAIN[-30:])
    standard = (logarithms(TEST) - scale.mean(axis=1, keepdims=True)) / scale.std(axis=1, keepdims=True)
    expected = [stats.combine_pvalues(tails, method="fisher").statistic / 2 for tails in stats.norm.sf(standard).T]
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_the_combined_score_also_sees_a_strange_reconstruction(fitted):
    (passed,) = PASSES["waves"](TEST)
    strange = dataclasses.replace(passed, output=scores.scaled(noisy(8, 24)))
    assert (fitted["combined"](strange) > fitted["combined"](passed)).all()
