"""The score of HOG descriptors, and Fisher's combination of it with others, equal their references and order images."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from clouds import make_clouds
from scipy import stats
from sklearn.neighbors import NearestNeighbors
from small_scores import FORWARD, TEST, TRAIN, compute, fit, make_noise

from cae.data.arrays import to_float
from cae.outliers import hog
from cae.outliers.fisher import FisherCombination
from cae.outliers.scores import SCORES

pytestmark = pytest.mark.usefixtures("one_thread")


def test_hog_score_is_the_local_hyperplane_distance_of_30_neighbors_in_64_components(fitted):
    train, test = (hog.hog_descriptors(tf.constant(to_float(images))).numpy() for images in (TRAIN, TEST))
    # Principal components by singular value decomposition.
    mean = train.mean(axis=0)
    components = np.linalg.svd(train - mean, full_matrices=False)[2][:64]
    train, test = (train - mean) @ components.T, (test - mean) @ components.T
    indices = NearestNeighbors(n_neighbors=30).fit(train).kneighbors(test, return_distance=False)
    expected = hog.local_hyperplane_distance(test[:, None], train[indices], ridge=0.3)[:, 0]
    np.testing.assert_allclose(compute(fitted["hog"], TEST), expected, rtol=1e-2)


def test_hog_score_orders_training_images_inliers_and_noise(fitted):
    train, inliers, noise = (compute(fitted["hog"], images) for images in (TRAIN[:24], TEST, make_noise(6, 24)))
    assert np.median(train) < np.median(inliers)
    assert inliers.max() < noise.min()


def test_fewer_training_images_than_neighbors_are_enough():
    assert np.isfinite(compute(fit("hog", images=TRAIN[:10]), TEST)).all()
    assert np.isfinite(compute(fit("fisher", images=TRAIN[:12]), TEST)).all()


def test_hog_distances_of_other_images_are_from_the_neighbors_of_the_first(fitted):
    images, others = (tf.constant(to_float(each)) for each in (TEST, make_clouds(7, 24)))
    from_nearest, from_others = fitted["hog"].compute(images, others).distances
    np.testing.assert_allclose(from_nearest, fitted["hog"].compute(images).distances[0], rtol=1e-5)
    # Their own neighbors are nearer.
    assert from_others.mean() > fitted["hog"].compute(others).distances[0].mean()


@pytest.mark.parametrize("model", FORWARD)
def test_fisher_combination_matches_scipy(model):
    values = compute(fit("fisher", model), TEST, model)
    # A tenth of the training images is held out and sets the scales; a tenth of the others tells what is usual.
    hog_score, context = fit("hog", images=TRAIN[:-57]), TRAIN[-57:-30]
    usual = hog_score.compute(tf.constant(to_float(context)))
    neighbors = NearestNeighbors(n_neighbors=27).fit(usual.points[0])

    def log_scores(images):
        (outputs,) = FORWARD[model](images)
        result = hog_score.compute(outputs.image, outputs.output)
        indices = neighbors.kneighbors(result.points[0], return_distance=False)
        error = np.square(np.subtract(*result.descriptors)).sum(axis=1)
        logs = np.log(np.stack([*result.distances, SCORES["ssim"]()(outputs), error]).astype(np.float64))
        logs[0] -= 0.75 * np.log(usual.distances[0])[indices].mean(axis=1)
        return logs

    holdout = log_scores(TRAIN[-30:])
    z = (log_scores(TEST) - holdout.mean(axis=1, keepdims=True)) / holdout.std(axis=1, keepdims=True)
    expected = (np.array([1, 1, 0.5, 0.5])[:, None] * -stats.norm.logsf(z)).sum(axis=0)
    np.testing.assert_allclose(values, expected, rtol=1e-2)


def test_combination_with_equal_weights_is_that_of_fisher():
    class Equal(FisherCombination):
        weights = (1.0, 1.0)

        def terms(self, outputs):
            return outputs

    logs = np.log([[1.0, 2.0, 0.5], [3.0, 1.0, 0.1]])
    values = Equal(log_mean=np.array([0.1, 0.2]), log_std=np.array([0.5, 2.0]))(np.exp(logs))
    tails = stats.norm.sf((logs - [[0.1], [0.2]]) / [[0.5], [2.0]])
    expected = [stats.combine_pvalues(each, method="fisher").statistic / 2 for each in tails.T]
    np.testing.assert_allclose(values, expected)


def test_score_of_uniform_images_is_relative_to_what_is_usual_there():
    score = fit("fisher")
    (outputs,) = FORWARD["cosines"](TEST)
    plain = score.terms(outputs)
    score.state["context_logs"] = score.state["context_logs"] + np.float32(np.log(10))
    np.testing.assert_allclose(score.terms(outputs)[0], plain[0] / 10**0.75, rtol=1e-5)
    np.testing.assert_array_equal(score.terms(outputs)[1:], plain[1:])


def test_fisher_combination_is_larger_for_an_anomalous_reconstruction(fitted):
    (outputs,) = FORWARD["cosines"](TEST)
    anomalous = dataclasses.replace(outputs, output=tf.constant(to_float(make_noise(8, 24))))
    assert (fitted["fisher"](anomalous) > fitted["fisher"](outputs)).all()
