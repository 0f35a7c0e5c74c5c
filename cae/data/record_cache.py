"""Data sets that are converted to records once, and streamed from then on."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tensorflow_datasets as tfds

from cae import progress
from cae.config import Config
from cae.data import record_writer, records
from cae.data.image_dataset import ImageDataset
from cae.data.record_writer import RecordWriter, WriteImages
from cae.data.records import Records
from cae.data.splits import SPLITS
from cae.errors import UserError
from cae.io_utils import printable

FOLDER = "cae_records"
"""The cache within TFDS's folder, unless --cache_dir names another."""

ADVICE = "; set --cache_dir to another folder"
"""What the message of an error ends with where the cache cannot be written."""


def should_stream(config: Config, num_bytes: int, default: bool = False) -> bool:
    """Returns whether images are to be streamed from records.

    Args:
      config: The configuration.
      num_bytes: What all images take.
      default: Whether --streaming=auto streams images that would take less than a quarter of the memory.

    Raises:
      UserError: --normal_classes is given, which selects images by their labels and needs all of them in memory.
    """
    large = num_bytes > psutil.virtual_memory().total / 4
    streams = config.streaming == "always"
    if config.streaming == "auto":
        streams = large or (default and not config.normal_classes)
    if streams and config.normal_classes:
        raise UserError(
            f"--normal_classes={config.normal_classes} needs all images in memory, and --dataset={config.dataset} is"
            f" streamed; use --streaming={'never' if large else 'auto'}"
        )
    return streams


def convert(dataset: ImageDataset, opener: Callable[[Config], ImageDataset], config: Config) -> ImageDataset:
    """Returns a data set that is streamed instead of being read as a whole.

    Args:
      dataset: The data set.
      opener: Opens it again, in the process that converts it; a function of a module.
      config: The configuration that it was opened with.
    """
    write = functools.partial(_write_dataset, opener, config)
    # Records of earlier versions, which knew no other value of it, have the same key.
    info = {name: value for name, value in dataset.info().items() if (name, value) != ("pixel_max", 255)}
    key = [info, dataset.version]
    found = get_records(config, dataset.num_images, dataset.image_shape, key, write)
    return dataclasses.replace(dataset, splits=found.splits)


def _write_dataset(opener: Callable[[Config], ImageDataset], config: Config, writer: RecordWriter) -> dict[str, Any]:
    dataset = opener(config)
    for name in SPLITS:
        for images, labels in dataset.splits[name].read():
            writer.add(images, labels)
    return dataset.info()


def get_records(
    config: Config, max_images: int, image_shape: tuple[int, int, int], key: Any, write: WriteImages
) -> Records:
    """Returns the records of a data set, after writing them if they are not in the cache.

    Args:
      config: The configuration that names data set and cache.
      max_images: Number of images, at most.
      image_shape: Their (height, width, channels).
      key: What tells this content of the data set from another; any JSON value.
      write: Adds all images to a writer and describes them, in a process of its own; must be picklable.

    Raises:
      UserError: The records are damaged or cannot be written.
    """
    folder = cache_path(config, image_shape, key)
    if not folder.exists():
        num_bytes = max_images * int(np.prod(image_shape))
        fill_cache(folder, config.dataset, f"{max_images:,} images", num_bytes, _create, write, max_images)
    return Records(folder)


def fill_cache(folder: Path, dataset: str, content: str, num_bytes: int, create: Callable, *arguments: Any) -> None:
    """Writes a folder of the cache in a process of its own, and leaves nothing of it if that is interrupted.

    Args:
      folder: The folder.
      dataset: As in --dataset.
      content: What is written, for a line that says so.
      num_bytes: What it takes.
      create: Calls `record_writer.create_folder` for the folder and these arguments; must be picklable.
      *arguments: Its arguments after the folder.

    Raises:
      UserError: There is not enough room, or the folder cannot be written.
    """
    record_writer.remove_stale_partials(folder.parent)  # Before the room is measured, of which they take some.
    try:
        check_disk_space(dataset, num_bytes, folder.parent)
        print(printable(f"writing the {content} of {dataset} to {folder}, to stream them"), flush=True)
        run_in_subprocess(create, folder, *arguments)
    finally:
        record_writer.remove_stale_partials(folder.parent)


def cache_path(config: Config, image_shape: Sequence[int | str], key: Any) -> Path:
    """Returns where the converted images of a data set are cached.

    Args:
      config: The configuration that names data set and cache.
      image_shape: Their (height, width, channels), or what else the folder's name starts with.
      key: What tells this content of the data set from another; any JSON value.
    """
    cache_dir = config.cache_dir or Path(config.data_dir or tfds.core.constants.DATA_DIR) / FOLDER
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", config.dataset)[-64:]
    digest = hashlib.sha256(json.dumps([records.VERSION, config.dataset, image_shape, key]).encode()).hexdigest()[:16]
    return Path(cache_dir).expanduser() / name / f"{'x'.join(map(str, image_shape))}-{digest}"


def check_disk_space(dataset: str, needed: int, parent: Path) -> None:
    """Raises `UserError` where a folder, which need not exist, lacks room for so many bytes."""
    existing = next(each for each in [parent, *parent.parents] if each.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise UserError(
            f"the records of --dataset={dataset} take {needed / 2**30:.1f} GiB, and {existing} has"
            f" {free / 2**30:.1f} GiB left{ADVICE}"
        )


def _create(folder: Path, write: WriteImages, max_images: int) -> None:
    with progress.phase("writing records", max_images, "image", delay=0.0, keep=True) as bar:
        record_writer.create(folder, write, bar.update, ADVICE)


# --- Subprocess -------------------------------------------------------------------------------------------------------


def run_in_subprocess(function: Callable, *arguments: Any) -> None:
    """Calls a function in a new process, which ends with this one; raises the `UserError` that it raises.

    The memory that reading a data set takes is freed at its end, and TensorFlow's devices are not initialized in this
    process, so that they can still be configured. An executor would do the same, but if a signal ends this process, its
    semaphores cause a warning.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(sender, function, arguments, progress.is_program()), daemon=True)
    # The process inherits a mask with SIGINT: Ctrl-C is for this process to handle. The tracker would unblock it.
    resource_tracker.ensure_running()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sender.close()
    try:
        error = receiver.recv()
    except EOFError:
        process.join()
        error = UserError(
            f"the process that writes records ended early, with exit code {process.exitcode}; a script of your own"
            ' needs `if __name__ == "__main__":` before what it does, since that process imports it'
        )
    except BaseException:
        process.kill()  # Not terminated: an exception from a signal handler may be lost during an import.
        raise
    finally:
        process.join()
    if error:
        raise error


def _call(sender: Connection, function: Callable, arguments: tuple, is_program: bool) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # GPUs are for training.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        with progress.program("writing records") if is_program else contextlib.nullcontext():
            function(*arguments)
        sender.send(None)
    except UserError as error:
        sender.send(error)


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)  # The main thread removes what it has written.
    time.sleep(5)
    os._exit(1)
