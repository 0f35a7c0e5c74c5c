import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from small_scores import FORWARD, TEST, TRAIN, compute, fit, make_noise

from cae.errors import UserError
from cae.export import graph_math
from cae.export.graph_scores import GRAPH_SCORES, make_graph_score
from cae.outliers import hog
from cae.outliers.score import Score
from cae.outliers.scores import SCORES


def compute_in_graph(name, score, images, model="cosines"):
    (outputs,) = FORWARD[model](images)
    graph_score = make_graph_score(name, score)
    return tf.function(lambda: graph_score(outputs), autograph=False)().numpy()


@pytest.mark.parametrize("name", SCORES)
def test_graph_has_the_scores_of_python(name):
    images = np.concatenate([TEST, make_noise(1, 3), np.zeros_like(TEST[:1])])
    score = fit(name)
    np.testing.assert_allclose(compute_in_graph(name, score, images), compute(score, images), rtol=5e-5, atol=1e-7)


@pytest.mark.parametrize("name, num_training", {"fisher": 300, "denoising": 300, "hog": 20}.items())
def test_models_without_latent_vectors_and_few_training_images(name, num_training):
    score = fit(name, "blur", TRAIN[:num_training])
    values = compute(score, TEST, "blur")  # Whose SSIM has rounding errors of 1e-6.
    np.testing.assert_allclose(compute_in_graph(name, score, TEST, "blur"), values, rtol=1e-3, atol=1e-7)


def test_mahalanobis_distance_of_fewer_images_than_dimensions():
    score = fit("mahalanobis", images=TRAIN[:4])
    values = compute(score, TEST)
    np.testing.assert_allclose(compute_in_graph("mahalanobis", score, TEST), values, rtol=1e-3)


def test_every_score_can_be_exported_and_another_one_is_refused():
    assert GRAPH_SCORES.keys() == SCORES.keys()
    with pytest.raises(UserError, match="the score 'mine' can't be exported; fisher, mse"):
        make_graph_score("mine", Score())


@pytest.mark.parametrize("shape", [(11, 11, 1), (28, 28, 1), (20, 33, 3)])
def test_ssim_is_that_of_tensorflow(shape, random):
    images, outputs = random.random((2, 4, *shape), np.float32)
    outputs[0] = images[0]
    expected = 1 - tf.image.ssim(images, outputs, 1.0)
    np.testing.assert_allclose(graph_math.structural_dissimilarity(images, outputs), expected, atol=5e-6)


def test_dissimilarity_of_similar_images_is_exact():
    """Where both are constant, SSIM is that of their luminance."""
    target, output = tf.fill([1, 12, 12, 1], 0.8), tf.fill([1, 12, 12, 1], 0.8001)
    expected = 1e-4**2 / (0.8**2 + 0.8001**2 + 1e-4)
    np.testing.assert_allclose(graph_math.structural_dissimilarity(target, output), [expected], rtol=1e-3)


def test_logarithm_of_the_normal_tail_is_that_of_scipy():
    z = np.concatenate([np.linspace(-30, 30, 2001), [-1e3, 1e3]]).astype(np.float32)
    values = graph_math.log_normal_sf(tf.constant(z))
    np.testing.assert_allclose(values, stats.norm.logsf(z.astype(np.float64)), rtol=1e-6, atol=2e-7)


def test_nearest_neighbors_are_those_of_an_exact_search(random):
    points, references = random.normal(size=(9, 6)).astype(np.float32), random.normal(size=(50, 6)).astype(np.float32)
    found = graph_math.nearest_neighbors(tf.constant(points), references, 4).numpy()
    distances = np.linalg.norm(points[:, None] - references, axis=2)
    expected = np.take_along_axis(distances, np.argsort(distances, axis=1)[:, :4], axis=1)
    np.testing.assert_allclose(np.sort(np.linalg.norm(points[:, None] - found, axis=2)), expected, rtol=1e-6)


@pytest.mark.parametrize("ridge", [0.3, 1e-3])
@pytest.mark.parametrize("num_points", [1, 2])
def test_local_hyperplane_distance_is_that_of_a_linear_solver(ridge, num_points, random):
    neighbors = random.normal(size=(5, 30, 64)).astype(np.float32)
    neighbors[0] = neighbors[0, :1]  # All neighbors the same.
    points = random.normal(size=(5, num_points, 64)).astype(np.float32)
    expected = hog.local_hyperplane_distance(points.astype(np.float64), neighbors.astype(np.float64), ridge)
    result = graph_math.local_hyperplane_distance(tf.constant(points), tf.constant(neighbors), ridge)
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_schur_complement_of_two_by_two():
    matrix = tf.constant([[[4.0, 2.0], [2.0, 5.0]]])
    assert graph_math.schur_complement(matrix, 1).numpy().tolist() == [[[4.0]]]  # 5 - 2 * 2 / 4
