"""The process that a program runs in: how TensorFlow is imported, its threads, memory, and place in a cluster."""

import contextlib
import ctypes
import importlib
import json
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import psutil

from cae.errors import UserError
from cae.progress import phase, redirect_lines

MULTI_WORKER = "multi_worker_mirrored"
"""The value of --distribution_strategy that trains on several machines."""

_CPU_INSTRUCTIONS = {
    "mixed_bfloat16": {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"},
    "mixed_float16": {"avx512_fp16", "amx_fp16", "avx_ne_convert", "fphp"},
}
"""Flags of Linux for instructions of x86 and ARM, any of which a precision needs to be as fast as float32 on a CPU."""

# Parameters of mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def import_tensorflow() -> None:
    """Imports TensorFlow without the lines that it writes to stderr before its log level can be set."""
    with phase("starting TensorFlow"), silence_stderr():
        importlib.import_module("tensorflow")
    retain_freed_memory()


@contextlib.contextmanager
def silence_stderr() -> Iterator[None]:
    """A context in which nothing but progress is written to stderr, by libraries that are not Python either."""
    with open(os.devnull, "w") as devnull, os.fdopen(os.dup(2), "w") as stderr:
        os.dup2(devnull.fileno(), 2)
        try:
            with redirect_lines(stderr):
                yield
        finally:
            os.dup2(stderr.fileno(), 2)


def retain_freed_memory() -> None:
    """Makes glibc's malloc keep freed memory for the next use; does nothing with another C library.

    TensorFlow allocates every activation anew in every step. If freed memory is returned to the system in between, a
    step of the default model causes some ten thousand page faults, which take a seventh of its processor time.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        mallopt(parameter, 1 << 30)


def configure_thread_pools(num_parallel: int) -> None:
    """Divides the processors among `num_parallel` microbatches that are computed at the same time.

    All processors on one microbatch after the other wait for each other at every layer. Environment variables that set
    the numbers of threads take precedence, and thread pools that have started already are left as they are.

    Args:
      num_parallel: Number of microbatches, 1 or more.
    """
    import tensorflow as tf

    if {"TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"} & os.environ.keys():
        return
    processors = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    num_parallel = min(num_parallel, processors)
    with contextlib.suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(num_parallel)
        tf.config.threading.set_intra_op_parallelism_threads(-(-processors // num_parallel))


def cpu_flags() -> set[str]:
    """Returns what Linux says that the CPU can do, such as 'avx2'; an empty set where it is not known."""
    path = Path("/proc/cpuinfo")
    found = re.search(r"^(?:flags|Features)\s*: (.+)$", path.read_text(), re.MULTILINE) if path.exists() else None
    return set(found[1].split()) if found else set()


def find_precision_warning(precision: str) -> str | None:
    """Returns a warning where layers compute on a CPU that has to emulate their precision; None elsewhere.

    Args:
      precision: The value of --precision, or the name of a dtype policy of Keras.
    """
    import tensorflow as tf

    instructions, flags = _CPU_INSTRUCTIONS.get(precision, set()), cpu_flags()
    if not instructions or not flags or instructions & flags or tf.config.list_physical_devices("GPU"):
        return None
    return (
        f"--precision={precision} is emulated by this CPU, which has no instructions for it, and takes many"
        " times as long as --precision=float32"
    )


def is_chief(strategy: str) -> bool:
    """Returns whether this process writes the run's files: the first worker, or the only process.

    Args:
      strategy: The value of --distribution_strategy.

    Raises:
      UserError: There are several workers, but TF_CONFIG doesn't describe them.
    """
    return strategy != MULTI_WORKER or parse_tf_config() == 0


def parse_tf_config() -> int:
    """Returns the index of this process among the workers that the environment variable TF_CONFIG lists.

    Raises:
      UserError: TF_CONFIG is not set, is not of the expected form, or has an index without a worker.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        spec = json.loads(text)
        workers, task = spec["cluster"]["worker"], spec["task"]
        if set(spec["cluster"]) != {"worker"} or task["type"] != "worker":
            raise ValueError
        num_workers, index = len(workers), int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        what = f"is '{text}'" if text else "is not set"
        raise UserError(
            f"--distribution_strategy={MULTI_WORKER}: the environment variable TF_CONFIG {what}; it must look like"
            ' {"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, "task": {"type": "worker", "index": 0}}'
        ) from error
    if not 0 <= index < num_workers:
        raise UserError(
            f"--distribution_strategy={MULTI_WORKER}: TF_CONFIG has {num_workers} workers, but the index {index}"
        )
    return index
