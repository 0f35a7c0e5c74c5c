import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans

from cae import models
from cae.errors import UserError
from cae.training import deep_cluster, distribution
from cae.training.optimizers import make_optimizer
from cae.training.phases import get_objectives
from cae.training.train_step import train_step

SHAPE = (16, 16, 1)
SEED = tf.constant([0, 5], tf.int64)


@pytest.fixture
def config(tiny):
    return dataclasses.replace(tiny, model="deep_cluster", num_clusters="2,3", epochs=5, classifier_epochs=2)


@pytest.fixture
def state(state_cache, config):
    return state_cache.state(tf.distribute.get_strategy(), config)


@pytest.fixture
def images(random):
    return random.random((8, *SHAPE), np.float32)


def networks(model):
    return {"autoencoder": [model.encoder, model.decoder], "classifier": [model.classifier]}


def weights(model):
    parts = networks(model).items()
    return {name: [w.copy() for part in each for w in part.get_weights()] for name, each in parts}


def is_changed(before, after):
    return {name: [not np.array_equal(a, b) for a, b in zip(before[name], after[name])] for name in before}


def test_phases_follow_each_other(config):
    first, second = get_objectives(config).items()
    assert first[0] == 1 and isinstance(first[1], deep_cluster.AutoencoderPretraining)
    assert second[0] == 4 and isinstance(second[1], deep_cluster.PseudoLabelClassification)
    assert [*get_objectives(dataclasses.replace(config, classifier_epochs=0))] == [1]
    assert [*get_objectives(dataclasses.replace(config, model="conv"))] == [1]


def test_each_phase_trains_its_own_variables(config, state, images):
    batch = {"image": tf.constant(images), "input": tf.constant(images)}
    for objective, trained in zip(get_objectives(config).values(), ("autoencoder", "classifier")):
        if trained == "classifier":
            objective.initialize(state.model, [images], lambda arrays: arrays)
        before = weights(state.model)
        train_step(state, objective, batch, SEED, 8)
        changed = is_changed(before, weights(state.model))
        other = ({"autoencoder", "classifier"} - {trained}).pop()
        assert any(changed[trained]) and not any(changed[other])


def test_clusters_are_those_of_scikit_learn(config, state, random):
    # Three kinds of images: black, and with a white half.
    images = 0.02 * random.random((60, *SHAPE), np.float32)
    images[20:40, :8] += 0.9
    images[40:, :, :8] += 0.9
    model = state.model
    assert not model.has_clusters
    mean, whitening, centroids = deep_cluster.fit_clusters(model, [images[:25], images[25:]], seed=0)
    model.set_clusters(mean, whitening, centroids)
    assert model.has_clusters
    whitened = (model.encode(images).numpy() - mean) @ whitening
    used = whitened.std(axis=0) > 0
    np.testing.assert_allclose(np.cov(whitened[:, used].T), np.eye(used.sum()), atol=0.05)
    _, labels = (each.numpy() for each in model.pseudo_labels(tf.constant(images)))
    inertia = np.square(whitened - centroids[2:][labels]).sum()
    assert inertia == pytest.approx(KMeans(3, n_init=20, random_state=0).fit(whitened).inertia_, rel=1e-3)


def test_images_that_are_all_the_same_have_finite_clusters(state):
    arrays = deep_cluster.fit_clusters(state.model, [np.zeros((9, *SHAPE), np.float32)], seed=0)
    assert all(np.isfinite(each).all() for each in arrays)


def test_loss_is_the_mean_cross_entropy_of_the_clusters_of_clean_images(config, state, images):
    objective, model = get_objectives(config)[4], state.model
    objective.initialize(model, [images], lambda arrays: arrays)
    noisy = images[::-1].copy()
    _, losses = objective.losses(model, {"image": tf.constant(images), "input": tf.constant(noisy)})
    expected = np.zeros(8)
    for labels, logits in zip(model.pseudo_labels(tf.constant(images)), model.classify(tf.constant(noisy))):
        exponentials = np.exp(logits.numpy().astype(np.float64))
        expected -= np.log((exponentials / exponentials.sum(axis=1, keepdims=True))[np.arange(8), labels.numpy()]) / 2
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-4)


def test_classifier_starts_with_the_encoder_of_the_autoencoder(config, state, images):
    get_objectives(config)[4].initialize(state.model, [images], lambda arrays: arrays)
    latents = state.model.encode(tf.constant(images))
    embeddings = state.model.embeddings(tf.constant(images), latents)
    np.testing.assert_array_equal(embeddings["codes"], latents)
    assert {name: each.shape[1] for name, each in embeddings.items()} == {
        "latents": config.latent_dim, "codes": config.latent_dim, "features": 128
    }  # fmt: skip


def test_learning_rate_starts_again_with_the_second_phase(config):
    config = dataclasses.replace(config, lr_schedule="cosine", learning_rate=0.001)
    optimizer = make_optimizer(config, 200, tf.Variable(1.0), restart_step=120)
    rates = [float(optimizer._learning_rate(step)) for step in (0, 6, 119, 120, 124, 199)]
    assert rates[0] == rates[3] == 0 and rates[1] == rates[4] == pytest.approx(0.002)
    assert rates[2] < 1e-5 and rates[5] < 1e-5


def test_arrays_of_the_chief_are_the_same_in_all_workers():
    arrays = [np.ones([2, 3], np.float32), np.zeros(4, np.float32)]
    assert distribution.make_broadcast(tf.distribute.get_strategy())(arrays) is arrays


def test_what_cannot_be_clustered_is_one_line(config):
    with pytest.raises(UserError, match=r"--classifier_epochs=5 must be less than --epochs=5"):
        models.check_cluster_config(dataclasses.replace(config, classifier_epochs=5))
    assert "such as affine:0.4" in models.check_cluster_config(dataclasses.replace(config, noise=None))
    assert models.check_cluster_config(dataclasses.replace(config, model="conv", noise=None)) is None
    with pytest.raises(UserError, match="--num_clusters=2,3: 2 training images have 2 clusters at most"):
        models.check_cluster_config(config, num_images=2)
    for text in ("10,", "1,5", "a"):
        with pytest.raises(UserError, match=r"--num_clusters=.* must be comma-separated numbers above 1"):
            dataclasses.replace(config, num_clusters=text)
