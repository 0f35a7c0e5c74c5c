"""One device or many: the only place that knows how replicas are made and how their results are put together."""

from collections.abc import Callable

import tensorflow as tf


def make_strategy(name: str, logical_cpus: int = 1) -> tf.distribute.Strategy:
    """Returns where training runs: 'single' is one device, 'mirrored' a replica on each, 'auto' mirrored on many GPUs.

    Mirrored takes every GPU, or else every logical CPU, of which it makes as many as said. To be called before
    anything else of TensorFlow runs.
    """
    if logical_cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * logical_cpus)
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # Others may want a share of the card.
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        kind = "GPU" if gpus and logical_cpus == 1 else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def summed(
    strategy: tf.distribute.Strategy, step: Callable, batch: dict[str, tf.Tensor], *same: tf.Tensor
) -> tf.Tensor | dict[str, tf.Tensor]:
    """Returns what `step(batch, *same)` gives, summed over the replicas, each of which sees its share of the batch."""
    per_replica = strategy.run(step, args=(batch, *same))
    return tf.nest.map_structure(lambda value: strategy.reduce("SUM", value, axis=None), per_replica)


def own_share(values: tf.Tensor) -> tf.Tensor:
    """Returns a replica's part of values [global batch, ...] that all replicas have drawn alike."""
    context = tf.distribute.get_replica_context()
    share = values.shape[0] // context.num_replicas_in_sync
    first = context.replica_id_in_sync_group * share
    return tf.slice(values, [first] + [0] * (values.shape.rank - 1), [share, *values.shape[1:]])


def overflow_everywhere(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns the gradients, or NaN on every replica where one replica's are not finite.

    Keras' loss scaling looks at the first replica's gradients alone before they are summed. Without this an overflow
    on another one would reach the weights.
    """
    bad = tf.reduce_any([tf.reduce_any(~tf.math.is_finite(gradient)) for gradient in gradients])
    replicas_bad = tf.distribute.get_replica_context().all_reduce("SUM", tf.cast(bad, tf.float32))
    return [tf.where(replicas_bad > 0, tf.cast(float("nan"), gradient.dtype), gradient) for gradient in gradients]
