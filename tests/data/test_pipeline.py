import numpy as np
import pytest
import tensorflow as tf

from cae.data import noise, pipeline

CLASSES = 10


@pytest.fixture
def data(random):
    """Images that tell by their first pixel which one they are."""
    images = random.integers(0, 256, (50, 12, 12, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(50)
    return images, np.arange(50) % CLASSES


def training(data, first_step, last_step, batch_size=8, seed=0, corrupt=None):
    return pipeline.training_batches(
        *data, classes=CLASSES, corrupt=corrupt, batch_size=batch_size, seed=seed,
        first_step=first_step, last_step=last_step,
    )  # fmt: skip


def evaluation(data, batch_size=8, seed=0, corrupt=None):
    return pipeline.evaluation_batches(*data, classes=CLASSES, corrupt=corrupt, batch_size=batch_size, seed=seed)


def numbers(batches):
    """Which images batches hold."""
    return np.concatenate([np.rint(batch["image"][:, 0, 0, 0] * 255).astype(int) for batch in batches])


def test_images_are_scaled_and_labels_one_hot(data):
    images, labels = data
    batch = next(iter(evaluation(data, batch_size=50)))
    np.testing.assert_allclose(batch["image"], images / 255, atol=1e-6)
    assert (np.argmax(batch["label"], axis=1) == labels).all() and (np.sum(batch["label"], axis=1) == 1).all()


def test_every_image_comes_once_an_epoch_in_a_fresh_order(data):
    # 25 steps of 8 are 4 epochs of 50, although 50 is no multiple of 8.
    seen = numbers(training(data, 0, 25)).reshape(4, 50)
    for epoch in seen:
        assert sorted(epoch) == list(range(50))
    assert len({tuple(epoch) for epoch in seen}) == 4
    assert not np.array_equal(seen[0], numbers(training(data, 0, 25, seed=1))[:50])


def test_every_batch_is_full(data):
    assert {len(batch["image"]) for batch in training(data, 0, 25)} == {8}


def test_a_batch_is_the_same_whether_streamed_to_or_started_at(data):
    corrupt = noise.parse("gaussian:0.5")
    streamed = list(training(data, 0, 20, corrupt=corrupt))
    started = list(training(data, 13, 20, corrupt=corrupt))
    for late, early in zip(started, streamed[13:], strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, late, early)


def test_starting_very_late_works(data):
    assert len(numbers(training(data, 10**8, 10**8 + 1))) == 8


def noise_alone(images, seed):
    """Noise that does not depend on the images, so that the same seed shows."""
    return tf.random.stateless_uniform(tf.shape(images), seed)


def test_noise_is_fresh_every_step_and_under_every_seed(data):
    noisy = [
        batch["noisy"].numpy()
        for seed in (0, 1)
        for batch in [*training(data, 0, 14, seed=seed, corrupt=noise_alone), *evaluation(data, 8, seed, noise_alone)]
    ]
    # Rows of one batch differ from each other, too.
    patterns = np.concatenate(noisy).reshape(-1, 144)
    assert len(np.unique(patterns, axis=0)) == len(patterns) == 2 * (14 * 8 + 50)


def test_without_noise_the_input_is_the_target(data):
    for batch in [*training(data, 0, 2), *evaluation(data)]:
        np.testing.assert_array_equal(batch["noisy"], batch["image"])


def test_evaluation_sees_every_image_once_in_order(data):
    batches = list(evaluation(data))
    assert [len(batch["image"]) for batch in batches] == [8] * 6 + [2]
    assert numbers(batches).tolist() == list(range(50))


def test_evaluation_noise_belongs_to_the_image_and_to_the_seed(data):
    def noisy(**options):
        batches = evaluation(data, corrupt=noise.parse("salt_pepper:0.3"), **options)
        return np.concatenate([batch["noisy"] for batch in batches])

    np.testing.assert_array_equal(noisy(batch_size=8), noisy(batch_size=50))
    assert not np.array_equal(noisy(seed=0), noisy(seed=1))


def test_replicas_get_slices_of_the_same_batch(data, mirrored):
    corrupt = noise.parse("gaussian:0.5")
    alone = training(data, 3, 9, corrupt=corrupt)
    for whole, shared_out in zip(alone, mirrored.experimental_distribute_dataset(alone), strict=True):
        parts = mirrored.experimental_local_results(shared_out["noisy"])
        assert [len(part) for part in parts] == [4, 4]
        np.testing.assert_array_equal(np.concatenate(parts), whole["noisy"])


def test_a_feed_counts_steps_and_epochs():
    feed = pipeline.Feed(training=None, validation=None, sample=None, images=50_000, batch_size=128)
    assert feed.steps(1) == 391 and feed.steps(100) == 39063  # 50,000 / 128 = 390.625
    assert [feed.epochs(feed.steps(epoch)) for epoch in range(101)] == list(range(101))
    assert feed.epochs(390) == 0


def test_chosen_images_come_with_the_noise_that_they_have_among_all(data):
    corrupt = noise.parse("gaussian:0.3")
    everything = np.concatenate([batch["noisy"] for batch in evaluation(data, corrupt=corrupt)])
    wanted = [7, 3, 3, 20]
    chosen = pipeline.evaluation_batches(*data, classes=CLASSES, corrupt=corrupt, batch_size=3, seed=0, only=wanted)
    np.testing.assert_array_equal(np.concatenate([batch["noisy"] for batch in chosen]), everything[wanted])
