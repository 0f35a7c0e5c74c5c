import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from cae.data import noise, pipeline
from cae.data.image_dataset import ImageDataset
from cae.data.splits import ArraySplit


@pytest.fixture
def dataset(random):
    """A data set of 50 images in each split, whose first pixel is the image's index."""
    images = random.integers(0, 256, (50, 12, 12, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(50)
    split = ArraySplit(50, "made up", lambda: [(images, np.arange(50) % 10)])
    names = ("train", "validation", "test")
    return ImageDataset("made up", (12, 12, 1), tuple("0123456789"), dict.fromkeys(names, split))


def training(dataset, first_step, last_step, batch_size=8, seed=0, corruption=None):
    return pipeline.make_train_data(dataset, corruption, batch_size, seed).train(first_step, last_step)


def evaluation(dataset, batch_size=8, seed=0, corruption=None, indices=None):
    return pipeline.make_eval_batches(dataset, seed, batch_size)("test", corruption, indices)


def indices_of(batches):
    """The indices of the images in batches."""
    return np.concatenate([np.rint(batch["image"][:, 0, 0, 0] * 255).astype(int) for batch in batches])


def test_evaluation_batches_have_scaled_images_and_labels(dataset):
    images, labels = dataset.load("test")
    (batch,) = evaluation(dataset, batch_size=50)
    assert batch.keys() == {"image", "input", "label"} and batch["label"].dtype == tf.int64
    np.testing.assert_allclose(batch["image"], images / 255, atol=1e-6)
    np.testing.assert_array_equal(batch["label"], labels)


def test_labels_can_be_one_hot(dataset):
    (batch,) = pipeline.one_hot_labels(evaluation(dataset, batch_size=50), 10)
    np.testing.assert_array_equal(batch["label"], np.eye(10, dtype=np.float32)[np.arange(50) % 10])
    assert batch["label"].dtype == tf.float32


def test_training_batches_have_no_labels(dataset):
    assert next(iter(training(dataset, 0, 1))).keys() == {"image", "input"}


def test_every_image_occurs_once_an_epoch_in_a_new_order(dataset):
    # 25 steps of 8 are 4 epochs of 50, although 50 is no multiple of 8.
    epochs = indices_of(training(dataset, 0, 25)).reshape(4, 50)
    for epoch in epochs:
        assert sorted(epoch) == list(range(50))
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert not np.array_equal(epochs[0], indices_of(training(dataset, 0, 25, seed=1))[:50])


def test_every_training_batch_is_full(dataset):
    assert {len(batch["image"]) for batch in training(dataset, 0, 25)} == {8}


def test_a_batch_is_the_same_from_whatever_step_training_starts(dataset):
    corruption = noise.parse_noise("gaussian:0.5")
    from_start = list(training(dataset, 0, 20, corruption=corruption))
    from_middle = list(training(dataset, 13, 20, corruption=corruption))
    for late, early in zip(from_middle, from_start[13:], strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, late, early)


def test_training_starts_at_any_step(dataset):
    assert len(indices_of(training(dataset, 10**8, 10**8 + 1))) == 8


def only_noise(images, seed):
    """Noise that does not depend on the images, so that equal seeds show."""
    return tf.random.stateless_uniform(tf.shape(images), seed)


def test_noise_is_different_for_each_step_image_and_seed(dataset):
    inputs = [
        batch["input"].numpy()
        for seed in (0, 1)
        for batch in [
            *training(dataset, 0, 14, seed=seed, corruption=only_noise), *evaluation(dataset, 8, seed, only_noise)
        ]
    ]  # fmt: skip
    patterns = np.concatenate(inputs).reshape(-1, 144)
    assert len(np.unique(patterns, axis=0)) == len(patterns) == 2 * (14 * 8 + 50)


def test_without_a_corruption_the_input_is_the_image(dataset):
    for batch in [*training(dataset, 0, 2), *evaluation(dataset)]:
        np.testing.assert_array_equal(batch["input"], batch["image"])


def test_evaluation_has_every_image_once_in_order(dataset):
    batches = list(evaluation(dataset))
    assert [len(batch["image"]) for batch in batches] == [8] * 6 + [2]
    assert indices_of(batches).tolist() == list(range(50))


def test_evaluation_noise_depends_on_image_and_seed_only(dataset):
    def inputs(**options):
        batches = evaluation(dataset, corruption=noise.parse_noise("salt_pepper:0.3"), **options)
        return np.concatenate([batch["input"] for batch in batches])

    everything = inputs(batch_size=8)
    np.testing.assert_array_equal(everything, inputs(batch_size=50))
    assert not np.array_equal(everything, inputs(seed=1))
    indices = [7, 3, 3, 20]
    np.testing.assert_array_equal(inputs(batch_size=3, indices=indices), everything[indices])


def test_training_images_are_evaluated_as_validation_images_are(dataset, monkeypatch):
    monkeypatch.setattr(pipeline, "TRAIN_EVAL_EXAMPLES", 20)
    data = pipeline.make_train_data(dataset, noise.parse_noise("gaussian:0.5"), 8, 0)
    assert indices_of(data.validation).tolist() == list(range(50))
    assert indices_of(data.train_eval).tolist() == list(range(20))
    one, other = (np.concatenate([batch["input"] for batch in each]) for each in (data.train_eval, data.validation))
    np.testing.assert_array_equal(one, other[:20])


def test_no_more_training_images_are_evaluated_than_validation_images(dataset):
    images, labels = dataset.load("test")
    splits = dataset.splits | {"validation": ArraySplit(7, "", lambda: [(images[:7], labels[:7])])}
    data = pipeline.make_train_data(dataclasses.replace(dataset, splits=splits), None, 8, 0)
    assert indices_of(data.train_eval).tolist() == list(range(7))


def test_replicas_get_slices_of_the_same_batch(dataset, mirrored):
    batches = training(dataset, 3, 9, corruption=noise.parse_noise("gaussian:0.5"))
    for batch, distributed in zip(batches, mirrored.experimental_distribute_dataset(batches), strict=True):
        slices = mirrored.experimental_local_results(distributed["input"])
        assert [len(each) for each in slices] == [4, 4]
        np.testing.assert_array_equal(np.concatenate(slices), batch["input"])


def test_number_of_steps_of_epochs():
    data = pipeline.TrainData(
        train=None, make_validation=None, make_train_eval=None, make_sample=None, num_images=50_000, batch_size=128
    )
    assert data.num_steps(1) == 391 and data.num_steps(100) == 39063  # 50,000 / 128 = 390.625


def test_noisy_targets_are_the_image_with_independent_noise(dataset):
    data = pipeline.make_train_data(dataset, noise.parse_noise("awgn:25"), 50, 0, noisy_target=True)
    plain = pipeline.make_train_data(dataset, noise.parse_noise("awgn:25"), 50, 0)
    for batches, same in ((data.train(3, 4), plain.train(3, 4)), (data.validation, plain.validation)):
        ((batch,), (other,)) = batches, same
        np.testing.assert_array_equal(batch["input"], other["input"])
        first, second = (255 * (batch[name] - batch["image"]) for name in ("input", "noisy_target"))
        # 7,200 values: the standard error of a correlation is 0.012.
        assert abs(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]) < 0.05
        np.testing.assert_allclose((np.std(first), np.std(second)), 25, rtol=0.05)
