"""One device or many, one machine or many: the only place that knows how replicas are made and work together."""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import keras
import psutil
import tensorflow as tf

from cae import cluster

Batch = dict[str, tf.Tensor]

PARTS = 4
"""Into how many parts a batch is cut on processors: 1, 2 and 4 replicas then compute the same."""


def make_strategy(name: str, logical_cpus: int = 1) -> tf.distribute.Strategy:
    """Returns where training runs: 'single' is one device, 'mirrored' a replica on each, 'auto' mirrored on many GPUs.

    Mirrored takes every GPU, or else every logical CPU, of which it makes as many as said. 'multiworker' does the same
    on every machine that TF_CONFIG names, and waits for all of them. To be called before anything else of TensorFlow
    runs.
    """
    if logical_cpus > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * logical_cpus)
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        _share_out_processors()
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)  # Others may want a share of the card.
    if name == "multiworker":
        cluster.read()
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        kind = "GPU" if gpus and logical_cpus == 1 else "CPU"
        devices = [device.name for device in tf.config.list_logical_devices(kind)]
        return tf.distribute.MirroredStrategy(devices)
    return tf.distribute.get_strategy()


def _share_out_processors() -> None:
    """Has parts of a batch computed side by side, each by processors of its own.

    All processors at one part after the other wait for each other at every layer. What the environment says is left as
    it is, and so are threads that run already.
    """
    if {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"} & os.environ.keys():
        return
    processors = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    abreast = min(PARTS, processors)
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(abreast)
        tf.config.threading.set_intra_op_parallelism_threads(-(-processors // abreast))


def is_on_several_machines(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether other processes take part, without which nothing goes on."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one of all machines that writes."""
    return strategy.cluster_resolver is None or strategy.cluster_resolver.task_id in (0, None)


def shared_out(
    strategy: tf.distribute.Strategy, batches: tf.data.Dataset, *, endless: bool = False
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Returns batches as `strategy.run` takes them: each replica sees its part of every batch, and no other.

    Replica r of n has the r-th of n even parts, whatever machine it is on; where a batch can't be cut evenly, the last
    parts are smaller, and may be empty. endless: more batches than are asked for, so that nobody has to ask whether
    there is another one.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return batches

    def parts(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * here

        def parts_here(batch: Batch) -> tf.data.Dataset:
            return tf.data.Dataset.range(first, first + here).map(lambda replica: _part(batch, replica, replicas))

        cut = batches.flat_map(parts_here)
        # Where the end is known to exist, every step asks all machines whether it has come.
        return (cut.repeat() if endless else cut).prefetch(2 * here)

    return strategy.distribute_datasets_from_function(parts)


def _part(batch: Batch, replica: tf.Tensor, replicas: int) -> Batch:
    def cut(values: tf.Tensor) -> tf.Tensor:
        known = values.shape[0]
        if known is not None and known % replicas == 0:
            start, size = replica * (known // replicas), known // replicas
        else:
            total = tf.shape(values, tf.int64)[0]
            even = -(-total // replicas)
            start = tf.minimum(replica * even, total)
            size = tf.minimum(even, total - start)
        return tf.slice(values, [start] + [0] * (values.shape.rank - 1), [size, *values.shape[1:]])

    return {name: cut(values) for name, values in batch.items()}


def summed(
    strategy: tf.distribute.Strategy, step: Callable[..., tf.Tensor], batch: Batch, *same: tf.Tensor
) -> tf.Tensor:
    """Returns what `step(batch, *same)` gives, summed over the replicas, each of which sees its part of the batch."""
    return strategy.reduce("SUM", strategy.run(step, args=(batch, *same)), axis=None)


def parts_of_batch(strategy: tf.distribute.Strategy, images: int) -> int:
    """Returns into how many equal parts a global batch is cut, each of which is some replica's: a multiple of those.

    On processors it is `PARTS` where that is possible, so that one device computes just what several do; it takes no
    longer there. GPUs are the slower the less they are given at once: each has one part.
    """
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        on_gpus = any("GPU" in device for device in strategy.extended.worker_devices)
    else:
        on_gpus = bool(tf.config.list_logical_devices("GPU"))
    if on_gpus:
        return replicas
    return max((n for n in range(replicas, PARTS + 1, replicas) if images % n == 0), default=replicas)


def summed_over_parts(batch: Batch, parts: int, compute: Callable[[Batch, tf.Tensor], Any]) -> Any:
    """Returns the float64 sums of what `compute(part, its number)` gives for the parts of a replica's share.

    parts: how many the shares of all replicas have together.
    """
    context = tf.distribute.get_replica_context()
    here = parts // context.num_replicas_in_sync
    first = context.replica_id_in_sync_group * here
    if here == 1:
        return tf.nest.map_structure(lambda each: tf.cast(each, tf.float64), compute(batch, first))
    pieces = {name: tf.reshape(each, [here, -1, *each.shape[1:]]) for name, each in batch.items()}

    def computed(number: tf.Tensor | int) -> Any:
        found = compute({name: each[number] for name, each in pieces.items()}, first + number)
        return tf.nest.map_structure(lambda each: tf.cast(each, tf.float64), found)

    def add(number: tf.Tensor, sums: Any) -> tuple[tf.Tensor, Any]:
        return number + 1, tf.nest.map_structure(tf.add, sums, computed(number))

    _, sums = tf.while_loop(lambda number, _: number < here, add, (tf.constant(1), computed(0)))
    return sums


def summed_over_replicas(values: Any) -> Any:
    """Returns tensors summed over all replicas, the same on each of them."""
    return tf.distribute.get_replica_context().all_reduce("SUM", values)


def apply_where(
    good: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
) -> None:
    """Applies gradients that are the same on all replicas where `good`; else changes nothing.

    With loss scaling Keras finds out by itself, and halves the scale instead.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer.apply(gradients, variables)
        return

    def on_all(strategy: tf.distribute.Strategy, good: tf.Tensor, gradients: list, variables: list) -> None:
        def apply() -> None:
            strategy.extended.call_for_each_replica(optimizer.apply, args=(gradients, variables))

        tf.cond(strategy.experimental_local_results(good)[0], apply, lambda: None)

    # Keras meets the other replicas in an update, which none can do inside of a condition of its own.
    context = tf.distribute.get_replica_context()
    context.merge_call(on_all, args=(good, list(gradients), list(variables)))


def make_sum_over_workers(strategy: tf.distribute.Strategy) -> Callable[[Sequence[float]], list[float]]:
    """Returns a function that sums numbers over the processes of all machines, which all have to call it."""
    if not is_on_several_machines(strategy):
        return list
    here = len(strategy.extended.worker_devices)

    @tf.function
    def total(values: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(lambda: values / here), axis=None)

    return lambda values: total(tf.constant(values, tf.float64)).numpy().tolist()
