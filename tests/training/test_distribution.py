import numpy as np
import psutil
import pytest
import tensorflow as tf

from cae.training import distribution


def test_mirrored_takes_every_logical_cpu():
    assert distribution.make_strategy("mirrored").num_replicas_in_sync == 2


@pytest.mark.parametrize("name", ["single", "auto"])
def test_one_device_is_the_default_without_gpus(name):
    assert distribution.make_strategy(name).num_replicas_in_sync == 1


def test_sums_are_over_replicas(mirrored):
    data = tf.data.Dataset.from_tensors({"image": np.arange(6.0)}).unbatch().batch(6)
    batch = next(iter(distribution.shared_out(mirrored, data)))
    assert float(distribution.summed(mirrored, lambda part: tf.reduce_sum(part["image"]), batch)) == 15


@pytest.mark.parametrize("images", range(1, 6))
def test_every_image_is_some_replicas_whatever_the_batch(mirrored, images):
    data = tf.data.Dataset.from_tensors({"image": np.arange(images)})
    (batch,) = distribution.shared_out(mirrored, data)
    parts = mirrored.experimental_local_results(batch["image"])
    assert [len(part) for part in parts] == [-(-images // 2), images // 2]
    assert np.concatenate(parts).tolist() == list(range(images))


def test_a_batch_is_cut_into_what_all_replicas_can_have(mirrored):
    alone = tf.distribute.get_strategy()
    assert [distribution.parts_of_batch(alone, images) for images in (128, 6, 10, 7)] == [4, 3, 2, 1]
    assert [distribution.parts_of_batch(mirrored, images) for images in (128, 6, 10)] == [4, 2, 2]


def test_sums_over_parts_and_replicas_are_exact(mirrored):
    """In float32 the sum of these depends on their order."""
    values = np.float32([[1e8], [1.0], [-1e8], [0.5]])
    (batch,) = distribution.shared_out(mirrored, tf.data.Dataset.from_tensors({"image": values}))

    def total(batch):
        found = distribution.summed_over_parts(batch, 4, lambda part, _: [tf.reduce_sum(part["image"])])
        return distribution.summed_over_replicas(found)[0]

    assert [float(each) for each in mirrored.experimental_local_results(mirrored.run(total, (batch,)))] == [1.5, 1.5]


def test_parts_are_numbered_over_all_replicas(mirrored):
    (batch,) = distribution.shared_out(mirrored, tf.data.Dataset.from_tensors({"image": np.arange(8.0)}))

    def weighed(batch):
        return distribution.summed_over_parts(
            batch, 4, lambda part, number: tf.reduce_sum(part["image"]) * tf.cast(number, tf.float64)
        )

    # The sums of parts are 1, 5, 9 and 13; times 0 to 3.
    assert [float(each) for each in mirrored.experimental_local_results(mirrored.run(weighed, (batch,)))] == [5, 57]


def test_numbers_are_summed_over_machines_of_which_there_is_one(mirrored):
    assert distribution.make_sum_over_workers(mirrored)([1.0, 2.5]) == [1.0, 2.5]


@pytest.mark.parametrize("processors, threads", [(2, (2, 1)), (6, (4, 2)), (16, (4, 4)), (1, (1, 1))])
def test_processors_are_shared_out_over_the_parts_of_a_batch(monkeypatch, processors, threads):
    """(parts computed side by side, threads of each), unless the environment says otherwise, as it does in tests."""
    found = {}
    for kind in ("inter", "intra"):
        monkeypatch.setattr(
            tf.config.threading, f"set_{kind}_op_parallelism_threads", lambda n, k=kind: found.update({k: n})
        )
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(processors)))
    distribution.make_strategy("single")
    assert found == {}
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name)
    distribution.make_strategy("single")
    assert (found["inter"], found["intra"]) == threads
