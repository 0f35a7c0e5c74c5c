import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cae.training.neighbor2neighbor import NEIGHBORS, subsample
from cae.training.objectives import MicrobatchRng, get_objective

SEED = tf.constant([0, 5], tf.int64)


@pytest.fixture
def objective(tiny):
    return get_objective(dataclasses.replace(tiny, objective="neighbor2neighbor", model="unet"))


@pytest.fixture
def batch(random):
    """Noisy images; what touches the clean ones gets NaN."""
    noisy = random.random((4, 21, 16, 2), np.float32)
    return {"image": tf.fill(noisy.shape, np.nan), "input": tf.constant(noisy)}


def rng_of(index, count):
    return MicrobatchRng(SEED, index, count, 4)


def halve(images, training=False):
    return images / 2


def test_each_pair_is_of_neighbors_in_one_cell():
    # Pixel values are 10 times the row plus the column; two cells, and a third row that is left out.
    image = tf.constant([[[0.0], [1], [2], [3]], [[10], [11], [12], [13]], [[20], [21], [22], [23]]])[None]
    corners = {0: 0, 1: 1, 2: 10, 3: 11}
    for index, (first, second) in enumerate(NEIGHBORS):
        assert abs(corners[first] - corners[second]) in (1, 10)
        places = tf.fill([1, 1, 2], (index + 0.5) / len(NEIGHBORS))
        results = [result.numpy().ravel().tolist() for result in subsample(image, places)]
        assert results == [[corners[pixel], corners[pixel] + 2] for pixel in (first, second)]
    assert len(set(NEIGHBORS)) == 8


def test_the_loss_is_that_of_one_image_against_the_other_with_the_change_of_content(objective, batch):
    output, losses = objective.losses(halve, batch, rng_of(0, 1))
    np.testing.assert_array_equal(output, batch["input"] / 2)
    places = tf.random.stateless_uniform([4, 10, 8], SEED)
    first, second = (values.numpy() for values in subsample(batch["input"], places))
    # The change of content is (first - second) / 2, and first / 2 - second without it is -second / 2.
    expected = np.mean((first / 2 - second) ** 2 + second**2 / 4, axis=(1, 2, 3))
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-5)


def test_pairs_do_not_depend_on_the_microbatch_and_are_the_same_in_each_evaluation(objective, batch):
    whole = objective.losses(halve, batch, rng_of(0, 1))[1]["loss"]
    slices = [{name: each[2 * i : 2 * i + 2] for name, each in batch.items()} for i in range(2)]
    halves = [objective.losses(halve, each, rng_of(i, 2))[1]["loss"] for i, each in enumerate(slices)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    evaluated = [objective.losses(halve, each)[1]["loss"] for each in (batch, *slices)]
    np.testing.assert_array_equal(evaluated[0], np.concatenate(evaluated[1:]))


def test_the_whole_image_s_output_gets_no_gradient(objective, batch):
    weight = tf.Variable(0.5)
    seen = []

    def scale(images, training):
        seen.append(images.shape[1])
        return weight * images

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(objective.losses(scale, batch, rng_of(0, 1))[1]["loss"])
    first, second = (
        values.numpy() for values in subsample(batch["input"], tf.random.stateless_uniform([4, 10, 8], SEED))
    )
    regularizer = 2 * first * (first / 2 - second - (first - second) / 2)
    expected = np.sum(np.mean(2 * first * (first / 2 - second) + regularizer, axis=(1, 2, 3)))
    np.testing.assert_allclose(tape.gradient(loss, weight), expected, rtol=1e-4)
    assert seen == [10, 21]
