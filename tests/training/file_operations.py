"""File operations of a run: a callback before each of them, and what a process leaves that is killed within one."""

import contextlib
import hashlib
import os
import re
import sys
from pathlib import Path
from unittest import mock

import tensorflow as tf

import cae

CAE = str(Path(cae.__file__).parent)


class Watch:
    """Calls `before(kind, path)` before each operation on files in a folder, once for each kind.

    A kind is (operation, path in the folder with N for numbers, the functions of cae/ that called it, innermost first).
    """

    def __init__(self, folder, before):
        self._folder, self._before, self._is_busy, self.kinds = Path(folder), before, False, []

    def notify(self, operation, path):
        path = Path(os.fspath(path)) if isinstance(path, str | os.PathLike) else Path()
        if self._is_busy or not path.is_relative_to(self._folder) or (operation == "open" and path.is_dir()):
            return
        name = re.sub(r"\.tfevents\.[^/]*?(?=(\.tmp)?$)", "", path.relative_to(self._folder).as_posix())
        kind = (operation, re.sub(r"\d+", "N", name), callers())
        if kind in self.kinds:
            return
        self._is_busy = True
        try:
            self.kinds.append(kind)
            self._before(kind, path)
        finally:
            self._is_busy = False


def callers():
    """Returns the names of the running functions of cae/, innermost first, without the trainer's and io_utils'."""
    names, frame = [], sys._getframe(2)
    while frame:
        path = frame.f_code.co_filename
        if (
            path.startswith(CAE)
            and not path.endswith(("trainer.py", "io_utils.py"))
            and "<" not in frame.f_code.co_name
        ):
            names.append(frame.f_code.co_name)
        frame = frame.f_back
    # Who calls `save` makes no difference to what it does.
    return " < ".join(names[: names.index("save") + 1] if "save" in names else names)


_watches = []
"""The watches that are notified; an audit hook stays until the process ends."""


def _audit(event, arguments):
    if not _watches:
        return
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        _watches[-1].notify("open", arguments[0])
    elif event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove"):
        path = arguments[event == "os.rename"]
        folder = arguments[-1]  # A descriptor, or -1; that of the new name of what is renamed.
        if folder >= 0:
            path = f"{path_of(folder)}/{path}"
        _watches[-1].notify(event[3:], path)


sys.addaudithook(_audit)


def path_of(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}")


@contextlib.contextmanager
def watching(watch):
    """A context in which a watch is notified of operations."""

    def patch(owner, name, operation, get_path):
        original = getattr(owner, name)

        def call(first, *rest, **options):
            watch.notify(operation, get_path(first, *rest))
            return original(first, *rest, **options)

        return mock.patch.object(owner, name, call)

    original_init = tf.io.TFRecordWriter.__init__

    def init(self, path, *rest, **options):
        self.path = path
        original_init(self, path, *rest, **options)

    with (
        patch(os, "fsync", "fsync", path_of),
        patch(tf.train.Checkpoint, "write", "checkpoint", lambda _, path, *rest: path),
        mock.patch.object(tf.io.TFRecordWriter, "__init__", init),
        patch(tf.io.TFRecordWriter, "write", "record", lambda self, *_: self.path),
        patch(tf.summary, "create_file_writer", "events", lambda path: path),
    ):
        _watches.append(watch)
        try:
            yield
        finally:
            _watches.remove(watch)


# --- Operations that are half done ------------------------------------------------------------------------------------


def digest(folder):
    """Returns a digest of all files of a folder but for those in temporary folders."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.parent.suffix != ".tmp":
            content.update(f"{path.relative_to(folder)}\n".encode())
            content.update(path.read_bytes() if path.is_file() else b"")
    return content.hexdigest()


def temporary_files(folder):
    """Returns the names of the files in the temporary folders of checkpoints."""
    return sorted(path.name for path in folder.glob("checkpoints/*.tmp/*"))


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def truncate_last_line(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])


def some_file(path, name):
    """Returns the content of a file of another checkpoint in the folder: of the same variables."""
    return sorted(path.parents[1].glob(f"*-*[0-9]/{name}"))[0].read_bytes()


def with_temporary_files(path):
    content = some_file(path, "ckpt.data-00000-of-00001")
    (path.parent / "ckpt_temp").mkdir()
    (path.parent / "ckpt_temp/part-00000-of-00001.data-00000-of-00001").write_bytes(content[: len(content) // 2])
    path.with_name("ckpt.data-00000-of-00001.tempstate17").write_bytes(content[: len(content) // 2])


def without_an_index(path):
    path.with_name("ckpt.data-00000-of-00001").write_bytes(some_file(path, "ckpt.data-00000-of-00001"))


def truncated(path):
    content = some_file(path, "ckpt.data-00000-of-00001")
    path.with_name("ckpt.data-00000-of-00001").write_bytes(content[: len(content) // 2])
    path.with_name("ckpt.index").write_bytes(some_file(path, "ckpt.index"))


HALF_SAVED = {"temporary files": with_temporary_files, "without an index": without_an_index, "truncated": truncated}
