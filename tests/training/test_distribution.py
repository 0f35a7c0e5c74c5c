import numpy as np
import psutil
import pytest
import tensorflow as tf

from cae.errors import UserError
from cae.training import distribution


def test_mirrored_uses_every_logical_cpu():
    assert distribution.make_strategy("mirrored").num_replicas_in_sync == 2


@pytest.mark.parametrize("name", ["one_device", "auto"])
def test_default_without_gpus_is_one_device(name):
    assert distribution.make_strategy(name).num_replicas_in_sync == 1


@pytest.mark.parametrize("num_cpus, threads", [(2, (2, 1)), (6, (4, 2)), (16, (4, 4)), (1, (1, 1))])
def test_cpus_are_divided_among_microbatches(monkeypatch, num_cpus, threads):
    """(inter-op threads, intra-op threads), unless the environment sets them, as it does in tests."""
    pools = {}
    for kind in ("inter", "intra"):
        monkeypatch.setattr(
            tf.config.threading, f"set_{kind}_op_parallelism_threads", lambda n, k=kind: pools.update({k: n})
        )
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(num_cpus)))
    distribution.make_strategy("one_device")
    assert pools == {}
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.delenv(name)
    distribution.make_strategy("one_device")
    assert (pools["inter"], pools["intra"]) == threads


def test_devices_that_tensorflow_has_started_with_are_kept():
    assert distribution.make_strategy("one_device", logical_cpus=2).num_replicas_in_sync == 1
    with pytest.raises(UserError, match="--logical_cpus=3 has to be set before TensorFlow starts"):
        distribution.make_strategy("mirrored", logical_cpus=3)


def test_a_gpu_that_tensorflow_has_started_with_keeps_how_it_allocates(monkeypatch):
    def refuse(device, enable):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"] if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)
    assert distribution.make_strategy("auto").num_replicas_in_sync == 1


def test_results_are_summed_over_replicas(mirrored):
    data = tf.data.Dataset.from_tensors({"image": np.arange(6.0)}).unbatch().batch(6)
    batch = next(iter(distribution.distribute_dataset(mirrored, data)))

    def sum_and_count(shard, scale):
        return {"sum": scale * tf.reduce_sum(shard["image"]), "counts": (tf.size(shard["image"]), tf.constant(True))}

    result = distribution.run_and_reduce_sum(mirrored, sum_and_count, batch, tf.constant(2.0, tf.float64))
    assert tf.nest.map_structure(float, result) == {"sum": 30, "counts": (6, 2)}


@pytest.mark.parametrize("num_images", range(1, 6))
def test_every_image_is_on_one_replica_for_any_batch_size(mirrored, num_images):
    data = tf.data.Dataset.from_tensors({"image": np.arange(num_images)})
    (batch,) = distribution.distribute_dataset(mirrored, data)
    shards = mirrored.experimental_local_results(batch["image"])
    assert [len(shard) for shard in shards] == [-(-num_images // 2), num_images // 2]
    assert np.concatenate(shards).tolist() == list(range(num_images))


def test_number_of_microbatches_is_a_multiple_of_the_replicas(mirrored):
    one_device = tf.distribute.get_strategy()
    assert [distribution.num_microbatches(one_device, size) for size in (128, 6, 10, 7)] == [4, 3, 2, 1]
    assert [distribution.num_microbatches(mirrored, size) for size in (128, 6, 10)] == [4, 2, 2]


def test_sums_over_microbatches_and_replicas_are_exact(mirrored):
    """In float32 the sum of these values depends on their order."""
    values = np.float32([[1e8], [1.0], [-1e8], [0.5]])
    (batch,) = distribution.distribute_dataset(mirrored, tf.data.Dataset.from_tensors({"image": values}))

    def total(batch):
        sums = distribution.accumulate_microbatches(batch, 4, lambda part, _: [tf.reduce_sum(part["image"])])
        return distribution.all_reduce_sum(sums)[0]

    assert [float(each) for each in mirrored.experimental_local_results(mirrored.run(total, (batch,)))] == [1.5, 1.5]


def test_microbatches_are_numbered_over_all_replicas(mirrored):
    (batch,) = distribution.distribute_dataset(mirrored, tf.data.Dataset.from_tensors({"image": np.arange(8.0)}))

    def weighted(batch):
        return distribution.accumulate_microbatches(
            batch, 4, lambda part, index: tf.reduce_sum(part["image"]) * tf.cast(index, tf.float64)
        )

    # The sums of the microbatches are 1, 5, 9 and 13; times 0 to 3.
    assert [float(each) for each in mirrored.experimental_local_results(mirrored.run(weighted, (batch,)))] == [5, 57]


def test_cross_worker_sum_of_a_single_worker(mirrored):
    assert distribution.make_cross_worker_sum(mirrored)([1.0, 2.5]) == [1.0, 2.5]
