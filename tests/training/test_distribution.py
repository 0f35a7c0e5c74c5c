import numpy as np
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
    batch = next(iter(mirrored.experimental_distribute_dataset(data)))
    result = distribution.summed(mirrored, lambda part: {"sum": tf.reduce_sum(part["image"])}, batch)
    assert float(result["sum"]) == 15


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_replica_that_overflows_makes_all_overflow(mirrored, bad):
    def gradients():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        first = tf.where(replica == 1, tf.constant([1.0, bad]), tf.constant([1.0, 2.0]))
        return distribution.overflow_everywhere([first, tf.constant([3.0], tf.float16)])

    for part in mirrored.experimental_local_results(mirrored.run(gradients)):
        assert all(np.isnan(gradient).all() for gradient in part)


def test_gradients_that_are_finite_stay_as_they_are(mirrored):
    gradients = mirrored.run(lambda: distribution.overflow_everywhere([tf.constant([1.0, -2.0])]))
    for (gradient,) in mirrored.experimental_local_results(gradients):
        np.testing.assert_array_equal(gradient, [1, -2])
