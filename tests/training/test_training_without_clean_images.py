import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from cae import models
from cae.config import Config
from cae.errors import UserError
from cae.training import noise2void
from cae.training.neighbor2neighbor import NEIGHBORS, subsample
from cae.training.objectives import MicrobatchRng, get_objective

SEED = tf.constant([0, 5], tf.int64)


@pytest.fixture
def objective(tiny):
    return get_objective(dataclasses.replace(tiny, objective="noise2void", model="unet"))


@pytest.fixture
def neighbor2neighbor(tiny):
    return get_objective(dataclasses.replace(tiny, objective="neighbor2neighbor", model="unet"))


@pytest.fixture
def batch(random):
    """Noisy images; what touches the clean ones gets NaN."""
    noisy = random.random((4, 20, 16, 2), np.float32)
    return {"image": tf.fill(noisy.shape, np.nan), "input": tf.constant(noisy)}


def identity(images, training=False):
    return tf.identity(images)


def halve(images, training=False):
    return images / 2


@pytest.mark.parametrize("size", [(20, 16), (9, 4), (64, 64)])
def test_each_cell_has_a_pixel_with_a_neighbor_inside_the_image_that_is_another_pixel(size):
    cells = [-(-side // 8) for side in size]
    places = tf.random.stateless_uniform([300, *cells, 3], SEED)
    pixels, neighbors = (each.numpy() for each in noise2void.choose_pixels(places, size))
    np.testing.assert_array_equal(pixels[..., 0], np.arange(300)[:, None, None] + np.zeros(cells, int))
    np.testing.assert_array_equal(neighbors[..., 0], pixels[..., 0])
    distances = np.abs(neighbors - pixels)[..., 1:].max(axis=-1)
    assert distances.min() >= 1 and distances.max() == 2
    for axis, (side, count) in enumerate(zip(size, cells)):
        assert neighbors[..., 1 + axis].min() >= 0 and neighbors[..., 1 + axis].max() < side
        starts = np.arange(count + 1) * side // count
        rows = np.moveaxis(pixels[..., 1 + axis], 1 + axis, 0).reshape(count, -1)
        assert [(row.min(), row.max() + 1) for row in rows] == [*itertools.pairwise(starts)]
    # Away from the borders, all 24 neighbors are as likely.
    inner = ((pixels[..., 1:] >= 2) & (pixels[..., 1:] < np.array(size) - 2)).all(axis=-1)
    offsets, counts = np.unique((neighbors - pixels)[inner][:, 1:], axis=0, return_counts=True)
    if size != (9, 4):
        assert len(offsets) == 24 and counts.min() > 0.5 * counts.mean()


def test_the_loss_is_that_of_the_replaced_pixels_against_the_noisy_image(objective, batch):
    seen = []
    output, losses = objective.losses(lambda images, training: seen.append(images) or images, batch, rng_of(0, 1))
    noisy, blind = batch["input"].numpy(), seen[0].numpy()
    replaced = (blind != noisy).any(axis=-1)
    assert (replaced.sum(axis=(1, 2)) == 3 * 2).all()  # 20 and 16 pixels are 3 and 2 cells of 8.
    expected = [np.mean((blind[i][replaced[i]] - noisy[i][replaced[i]]) ** 2) for i in range(4)]
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-5)
    np.testing.assert_array_equal(output, blind)


def rng_of(index, count):
    return MicrobatchRng(SEED, index, count, 4)


def test_pixels_of_an_image_do_not_depend_on_the_microbatch(objective, batch):
    whole = objective.losses(identity, batch, rng_of(0, 1))[1]["loss"]
    halves = [
        objective.losses(identity, {name: each[2 * i : 2 * i + 2] for name, each in batch.items()}, rng_of(i, 2))
        for i in range(2)
    ]
    np.testing.assert_array_equal(whole, np.concatenate([losses["loss"] for _, losses in halves]))
    assert len(np.unique(whole)) == 4


def test_an_evaluation_returns_the_output_for_all_pixels_and_the_same_loss_each_time(objective, batch):
    output, losses = objective.losses(identity, batch)
    np.testing.assert_array_equal(output, batch["input"])
    one = {name: each[:1] for name, each in batch.items()}
    np.testing.assert_array_equal(objective.losses(identity, one)[1]["loss"], losses["loss"][:1])
    assert float(losses["loss"][0]) > 0, "the identity, which removes no noise, must not be the best"


def test_noise2noise_compares_with_the_noisy_target_alone(tiny, batch):
    objective = get_objective(dataclasses.replace(tiny, objective="noise2noise", model="unet", noise="awgn:25"))
    batch["noisy_target"] = batch["input"] + 0.5
    for rng in (rng_of(0, 1), None):
        output, losses = objective.losses(identity, batch, rng)
        np.testing.assert_array_equal(output, batch["input"])
        np.testing.assert_allclose(losses["loss"], [0.25] * 4, rtol=1e-5)


def test_noise2noise_needs_noise():
    with pytest.raises(UserError, match="--objective=noise2noise needs --noise; --dataset=takes:FIRST,SECOND"):
        Config(objective="noise2noise", model="unet")


def test_another_objective_is_refused():
    with pytest.raises(UserError, match="--objective=noise2void does not go with --regularizer=acai"):
        Config(objective="noise2void", regularizer="acai")
    for model in ("vae", "deep_cluster"):
        with pytest.raises(
            UserError, match=f"does not apply to --model={model}; it applies to conv, unet, resunet, dncnn"
        ):
            models.check_model_flags(model, {"objective": "noise2void"})


def test_neighbor2neighbor_needs_a_model_for_images_of_any_size():
    """It trains on images of half the size."""
    for model in ("unet", "resunet", "dncnn"):
        models.check_image_sizes(Config(objective="neighbor2neighbor", model=model))
    models.check_image_sizes(Config(objective="noise2void", model="conv"))
    with pytest.raises(UserError, match="--objective=neighbor2neighbor needs a model for images of any size, --model="):
        models.check_image_sizes(Config(objective="neighbor2neighbor", model="conv"))


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


def test_the_loss_is_that_of_one_image_against_the_other_with_the_change_of_content(neighbor2neighbor, batch):
    output, losses = neighbor2neighbor.losses(halve, batch, rng_of(0, 1))
    np.testing.assert_array_equal(output, batch["input"] / 2)
    places = tf.random.stateless_uniform([4, 10, 8], SEED)
    first, second = (values.numpy() for values in subsample(batch["input"], places))
    # The change of content is (first - second) / 2, and first / 2 - second without it is -second / 2.
    expected = np.mean((first / 2 - second) ** 2 + second**2 / 4, axis=(1, 2, 3))
    np.testing.assert_allclose(losses["loss"], expected, rtol=1e-5)


def test_pairs_do_not_depend_on_the_microbatch_and_are_the_same_in_each_evaluation(neighbor2neighbor, batch):
    whole = neighbor2neighbor.losses(halve, batch, rng_of(0, 1))[1]["loss"]
    slices = [{name: each[2 * i : 2 * i + 2] for name, each in batch.items()} for i in range(2)]
    halves = [neighbor2neighbor.losses(halve, each, rng_of(i, 2))[1]["loss"] for i, each in enumerate(slices)]
    np.testing.assert_array_equal(whole, np.concatenate(halves))
    evaluated = [neighbor2neighbor.losses(halve, each)[1]["loss"] for each in (batch, *slices)]
    np.testing.assert_array_equal(evaluated[0], np.concatenate(evaluated[1:]))


def test_the_whole_image_s_output_gets_no_gradient(neighbor2neighbor, batch):
    weight = tf.Variable(0.5)
    seen = []

    def scale(images, training):
        seen.append(images.shape[1])
        return weight * images

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(neighbor2neighbor.losses(scale, batch, rng_of(0, 1))[1]["loss"])
    first, second = (
        values.numpy() for values in subsample(batch["input"], tf.random.stateless_uniform([4, 10, 8], SEED))
    )
    regularizer = 2 * first * (first / 2 - second - (first - second) / 2)
    expected = np.sum(np.mean(2 * first * (first / 2 - second) + regularizer, axis=(1, 2, 3)))
    np.testing.assert_allclose(tape.gradient(loss, weight), expected, rtol=1e-4)
    assert seen == [10, 20]
