"""Strategies, per-replica batches and exact sums: the only module that depends on `tf.distribute`.

On CPUs a step computes the same on 1, 2 and 4 replicas, if the size of the global batch is divisible by 4. To this end
the batch is divided into the same microbatches however many replicas there are, and their gradients are accumulated in
float64, in which float32 values have the same sum in any order.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cae import runtime
from cae.errors import UserError

Batch = dict[str, tf.Tensor]

Broadcast = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]

NUM_MICROBATCHES = 4
"""Microbatches of a global batch on CPUs."""


# --- Strategies -------------------------------------------------------------------------------------------------------


def make_strategy(name: str, logical_cpus: int = 1) -> tf.distribute.Strategy:
    """Returns the strategy of that name; devices are set up where TensorFlow has not started yet.

    Args:
      name: The value of --distribution_strategy: 'one_device'; 'mirrored', a replica on every GPU, or else on every
        logical CPU; 'auto', which is mirrored where there are several GPUs; 'multi_worker_mirrored', the same on every
        worker in TF_CONFIG, all of which it waits for.
      logical_cpus: Number of logical CPU devices to create.

    Raises:
      UserError: TensorFlow has started with another number of logical CPUs.
    """
    if logical_cpus > 1:
        _create_logical_cpus(logical_cpus)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        runtime.configure_thread_pools(NUM_MICROBATCHES)
    for gpu in gpus:
        with contextlib.suppress(RuntimeError):  # TensorFlow has started: the process keeps what it allocates.
            tf.config.experimental.set_memory_growth(gpu, True)  # Other processes may use the GPU as well.
    if name == runtime.MULTI_WORKER:
        runtime.parse_tf_config()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        kind = "GPU" if gpus and logical_cpus == 1 else "CPU"
        return tf.distribute.MirroredStrategy([device.name for device in tf.config.list_logical_devices(kind)])
    return tf.distribute.get_strategy()


def _create_logical_cpus(count: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count:
            raise UserError(
                f"--logical_cpus={count} has to be set before TensorFlow starts; train in a new process"
            ) from error


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether several processes train together."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes the run's files."""
    return strategy.cluster_resolver is None or strategy.cluster_resolver.task_id in (0, None)


# --- Batches ----------------------------------------------------------------------------------------------------------


def distribute_dataset(
    strategy: tf.distribute.Strategy, batches: tf.data.Dataset, *, infinite: bool = False
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Returns the batches for `strategy.run`: of n replicas the r-th gets the r-th slice of every global batch.

    Where a batch is not divisible, the last slices are smaller and may be empty. `experimental_distribute_dataset` does
    the same for one worker, but with several workers each gets the whole data set.

    Args:
      strategy: What the batches are for.
      batches: Global batches.
      infinite: Whether the caller stops before the end; then replicas need not agree at every step whether there
        is another batch.
    """
    num_replicas = strategy.num_replicas_in_sync
    if num_replicas == 1:
        return batches

    def make_shards(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local_replicas = num_replicas // context.num_input_pipelines
        first = context.input_pipeline_id * local_replicas

        def shard(batch: Batch) -> tf.data.Dataset:
            replicas = tf.data.Dataset.range(first, first + local_replicas)
            return replicas.map(lambda replica: _shard_batch(batch, replica, num_replicas))

        shards = batches.flat_map(shard)
        return (shards.repeat() if infinite else shards).prefetch(2 * local_replicas)

    return strategy.distribute_datasets_from_function(make_shards)


def _shard_batch(batch: Batch, replica: tf.Tensor, num_replicas: int) -> Batch:
    def shard(values: tf.Tensor) -> tf.Tensor:
        size, remainder = divmod(values.shape[0] or 1, num_replicas)
        if not remainder:  # The size of the slice is known when the graph is traced.
            return tf.ensure_shape(values[replica * size : (replica + 1) * size], [size, *values.shape[1:]])
        size = -(-tf.shape(values, tf.int64)[0] // num_replicas)
        return values[replica * size : (replica + 1) * size]

    return {name: shard(values) for name, values in batch.items()}


# --- Microbatches -----------------------------------------------------------------------------------------------------


def num_microbatches(strategy: tf.distribute.Strategy, global_batch_size: int) -> int:
    """Returns the number of equal microbatches of a global batch, a multiple of the number of replicas.

    On CPUs it is `NUM_MICROBATCHES` where the batch is divisible: four replicas then compute what one does, and one
    takes no longer for it. On GPUs each replica has one, since smaller batches are slower there.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        on_gpus = any("GPU" in device for device in strategy.extended.worker_devices)
    else:
        on_gpus = bool(tf.config.list_logical_devices("GPU"))
    if on_gpus:
        return replicas
    choices = range(replicas, NUM_MICROBATCHES + 1, replicas)
    return max((number for number in choices if global_batch_size % number == 0), default=replicas)


def accumulate_microbatches(batch: Batch, count: int, compute: Callable[[Batch, tf.Tensor], Any]) -> Any:
    """Returns the sums of `compute(microbatch, index)` over the microbatches of a replica's batch.

    This is gradient accumulation, in float64: a few float32 values then add up to the same in any order, so that the
    result does not depend on which replica computes which microbatch.

    Args:
      batch: The replica's slice of the global batch.
      count: Number of microbatches in the global batch.
      compute: Returns a nested structure of tensors; the index counts over all replicas.
    """
    context = tf.distribute.get_replica_context()
    local_count = count // context.num_replicas_in_sync
    first = context.replica_id_in_sync_group * local_count
    if local_count == 1:
        return tf.nest.map_structure(lambda value: tf.cast(value, tf.float64), compute(batch, first))
    microbatches = {name: tf.reshape(values, [local_count, -1, *values.shape[1:]]) for name, values in batch.items()}

    def compute_in_float64(index: tf.Tensor) -> Any:
        values = compute({name: each[index] for name, each in microbatches.items()}, first + index)
        return tf.nest.map_structure(lambda value: tf.cast(value, tf.float64), values)

    def add(index: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
        return index + 1, tf.nest.map_structure(tf.add, sums, compute_in_float64(index))

    _, sums = tf.while_loop(
        lambda index, _: index < local_count, add, (tf.constant(1), compute_in_float64(tf.constant(0)))
    )
    return sums


# --- Sums over replicas and workers -----------------------------------------------------------------------------------


def run_and_reduce_sum(strategy: tf.distribute.Strategy, fn: Callable[..., Any], *args: Any) -> Any:
    """Runs `fn` on every replica and sums its results over the replicas, in float64.

    Args:
      strategy: What `fn` runs under.
      fn: Returns a nested structure of scalars. They are reduced in one all-reduce, each of which costs several workers
        a round trip.
      *args: The arguments of `fn`, as `strategy.run` takes them.
    """
    structures = []

    def run_and_stack(*args: Any) -> tf.Tensor:
        structures.append(fn(*args))
        return tf.stack([tf.cast(value, tf.float64) for value in tf.nest.flatten(structures[-1])])

    sums = strategy.reduce("SUM", strategy.run(run_and_stack, args=args), axis=None)
    return tf.nest.pack_sequence_as(structures[-1], tf.unstack(sums))


def all_reduce_sum(values: Any) -> Any:
    """Returns tensors summed over all replicas, in a replica context."""
    return tf.distribute.get_replica_context().all_reduce("SUM", values)


def apply_if_finite(
    finite: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
) -> None:
    """Applies gradients that are the same on all replicas where `finite`; changes nothing otherwise.

    A `LossScaleOptimizer` halves its scale then.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        # It checks its own gradients only; `finite` may be that of several networks.
        first, *others = gradients
        optimizer.apply([tf.where(finite, first, first.dtype.as_numpy_dtype("nan")), *others], variables)
        return

    def apply_on_all(strategy: tf.distribute.Strategy, finite: tf.Tensor, gradients: list, variables: list) -> None:
        def apply() -> None:
            strategy.extended.call_for_each_replica(optimizer.apply, args=(gradients, variables))

        tf.cond(strategy.experimental_local_results(finite)[0], apply, lambda: None)

    # Keras calls `merge_call` in an update, which is not allowed within a replica's `tf.cond`.
    context = tf.distribute.get_replica_context()
    context.merge_call(apply_on_all, args=(finite, list(gradients), list(variables)))


def make_broadcast(strategy: tf.distribute.Strategy) -> Broadcast:
    """Returns a function that takes a list of arrays and returns the chief's, of the same shapes, in every worker."""
    if not is_multi_worker(strategy):
        return lambda arrays: arrays
    cross_worker_sum, weight = make_cross_worker_sum(strategy), float(is_chief(strategy))

    def broadcast(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        values = np.concatenate([np.ravel(each) for each in arrays]).astype(np.float64)
        parts = np.split(np.array(cross_worker_sum(values * weight)), np.cumsum([each.size for each in arrays])[:-1])
        return [part.reshape(each.shape).astype(each.dtype) for part, each in zip(parts, arrays)]

    return broadcast


def make_cross_worker_sum(strategy: tf.distribute.Strategy) -> Callable[[Sequence[float]], list[float]]:
    """Returns a function that sums values over all workers, each of which has to call it."""
    if not is_multi_worker(strategy):
        return list
    local_replicas = len(strategy.extended.worker_devices)

    @tf.function
    def cross_worker_sum(values: tf.Tensor) -> tf.Tensor:
        def contribute() -> tf.Tensor:
            # Shares of several replicas would add up with rounding errors.
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            return tf.where(tf.equal(replica % local_replicas, 0), values, tf.zeros_like(values))

        return strategy.reduce("SUM", strategy.run(contribute), axis=None)

    return lambda values: cross_worker_sum(tf.constant(values, tf.float64)).numpy().tolist()
