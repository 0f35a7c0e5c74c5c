"""Data sets that are written as records once, to be streamed from then on: where they lie, and who writes them."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cae.config import Config
from cae.data import prepared, records
from cae.data.records import Records, Writer
from cae.errors import UserError

FOLDER = "cae_records"


def find(
    dataset: str,
    images: int,
    shape: tuple[int, int, int],
    identity: Any,
    settings: Config,
    write: Callable[[Writer], None],
) -> Records:
    """Returns the records of a data set, after writing them where they are not there yet.

    images: how many there are, at most; identity: whatever JSON can hold that tells this data from other; write: gives
    a writer all of it, in a process of its own, to which it has to be sent. Raises `UserError` where records are
    damaged, or cannot be written.
    """
    folder = _place(dataset, shape, identity, settings)
    if not folder.exists():
        _check_room(dataset, images * int(np.prod(shape)), folder.parent)
        print(f"writing the {images:,} images of {dataset} to {folder}, to stream them from there", flush=True)
        try:
            _apart(_write, folder, write, images)
        finally:
            records.sweep(folder.parent)  # What was not finished, where that process was ended.
    return Records(folder)


def _place(dataset: str, shape: tuple[int, int, int], identity: Any, settings: Config) -> Path:
    root = settings.records_dir and Path(settings.records_dir).expanduser()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", dataset)[-64:]
    key = hashlib.sha256(json.dumps([records.VERSION, dataset, shape, identity]).encode()).hexdigest()[:16]
    return (root or prepared.place(settings.data_dir) / FOLDER) / name / f"{'x'.join(map(str, shape))}-{key}"


def _check_room(dataset: str, needed: int, parent: Path) -> None:
    there = next(each for each in [parent, *parent.parents] if each.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"the records of --dataset={dataset} take {needed / 2**30:.1f} GiB, and {there} has {free / 2**30:.1f} GiB"
            " left; --records_dir names another place"
        )


def _write(folder: Path, write: Callable[[Writer], None], images: int) -> None:
    if folder.parent.is_dir():
        records.sweep(folder.parent)
    with tqdm(total=images, unit="image", unit_scale=True, disable=not sys.stderr.isatty()) as bar:
        try:
            records.make(folder, write, bar.update)
        except records.CannotBeWritten as error:
            raise UserError(f"{error}; --records_dir names another place") from error


# --- A process of its own ---------------------------------------------------------------------------------------------


def _apart(work: Callable, *arguments: Any) -> None:
    """Does something in a process of its own, and raises the `UserError` that it ends with.

    So the memory that reading a data set takes is given back, and TensorFlow is not started here, where devices can
    then still be chosen.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, work, arguments), daemon=True)
    with _deaf_children():
        process.start()
    sender.close()
    try:
        error = receiver.recv()
    except EOFError:
        process.join()
        error = f"the process that writes records ended too early, with code {process.exitcode}"
    except BaseException:
        # Not asked to end: what a handler raises while modules are imported may be ignored.
        process.kill()
        raise
    finally:
        process.join()
    if error:
        raise UserError(error)


@contextlib.contextmanager
def _deaf_children() -> Iterator[None]:
    """Lets processes that are started in it ignore Ctrl-C, which is for this one to hear and to act on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard or signal.SIG_DFL)


def _answer(sender: Connection, work: Callable, arguments: tuple) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # GPUs are for training.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(*arguments)
        sender.send(None)
    except UserError as error:
        sender.send(str(error))
    except Exception as error:
        # TensorFlow's own, for a damaged file of TFDS for example, say in their first line what is wrong.
        if not type(error).__module__.startswith("tensorflow"):
            raise
        sender.send(f"{type(error).__name__}: {str(error).splitlines()[0]}")


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
