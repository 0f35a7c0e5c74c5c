"""Operations on the files of a run, told before each of them; and what is left where one is half done."""

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
    """Calls `before` with the kind of each operation on files in a folder, once for each kind.

    A kind is (operation, name of the file without numbers, the functions of cae/ that called it, innermost first).
    """

    def __init__(self, folder, before):
        self._folder, self._before, self._busy, self.seen = str(folder), before, False, []

    def note(self, operation, path):
        path = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if self._busy or not path.startswith(self._folder) or (operation == "open" and os.path.isdir(path)):
            return
        kind = (operation, re.sub(r"events\.out.*", "events", re.sub(r"\d+", "N", os.path.basename(path))), callers())
        if kind in self.seen:
            return
        self._busy = True
        try:
            self.seen.append(kind)
            self._before(kind, Path(path))
        finally:
            self._busy = False


def callers():
    """Returns the names of the functions of cae/ that are running, innermost first, without the loop's own."""
    found, frame = [], sys._getframe(2)
    while frame:
        path = frame.f_code.co_filename
        if path.startswith(CAE) and not path.endswith("loop.py") and "<" not in frame.f_code.co_name:
            found.append(frame.f_code.co_name)
        frame = frame.f_back
    # Who has a save done makes no difference to what it does.
    return " < ".join(found[: found.index("save") + 1] if "save" in found else found)


_watches = []
"""An audit hook stays until the process ends; this is what it tells."""


def _audit(event, arguments):
    if not _watches:
        return
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        _watches[-1].note("open", arguments[0])
    elif event in ("os.rename", "os.mkdir", "os.rmdir", "os.remove"):
        _watches[-1].note(event[3:], arguments[event == "os.rename"])


sys.addaudithook(_audit)


@contextlib.contextmanager
def watching(watch):
    """A context in which operations are told."""

    def told(owner, name, operation, path_of):
        original = getattr(owner, name)

        def call(first, *rest, **options):
            watch.note(operation, path_of(first, *rest))
            return original(first, *rest, **options)

        return mock.patch.object(owner, name, call)

    def path_of(descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}")

    made = tf.io.TFRecordWriter.__init__

    def init(self, path, *rest, **options):
        self.path = path
        made(self, path, *rest, **options)

    with (
        told(os, "fsync", "fsync", path_of),
        told(tf.train.Checkpoint, "write", "checkpoint", lambda _, path, *rest: path),
        mock.patch.object(tf.io.TFRecordWriter, "__init__", init),
        told(tf.io.TFRecordWriter, "write", "record", lambda self, *_: self.path),
        told(tf.summary, "create_file_writer", "events", lambda path: path),
    ):
        _watches.append(watch)
        try:
            yield
        finally:
            _watches.remove(watch)


# --- What is half done ------------------------------------------------------------------------------------------------


def digest(folder):
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content.update(f"{path.relative_to(folder)}\n".encode())
        content.update(path.read_bytes() if path.is_file() else b"")
    return content.digest()


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def cut_last_line(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][: len(lines[-1]) // 2])


def some_piece(path, name):
    """Returns the content of a piece of another checkpoint in the folder: of the same variables."""
    return sorted(path.parent.glob(f"*.{name}"))[0].read_bytes()


def in_temporary_pieces(path):
    content = some_piece(path, "data-00000-of-00001")
    folder = path.with_name(f"{path.name}_temp")
    folder.mkdir()
    (folder / "part-00000-of-00001.data-00000-of-00001").write_bytes(content[: len(content) // 2])
    path.with_name(f"{path.name}.data-00000-of-00001.tempstate17").write_bytes(content[: len(content) // 2])


def without_an_index(path):
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(some_piece(path, "data-00000-of-00001"))


def cut_off(path):
    content = some_piece(path, "data-00000-of-00001")
    path.with_name(f"{path.name}.data-00000-of-00001").write_bytes(content[: len(content) // 2])
    path.with_name(f"{path.name}.index").write_bytes(some_piece(path, "index"))


HALF_SAVED = {"in temporary pieces": in_temporary_pieces, "without an index": without_an_index, "cut off": cut_off}
