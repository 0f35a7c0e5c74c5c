"""Checkpoints of everything that a resume needs: the newest few, the ends of the last epochs, and the best."""

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from cae.errors import UserError
from cae.training.state import State

NEWEST, EPOCHS = 3, 2
"""How many checkpoints are kept, and of how many ends of epochs: one may turn out to be damaged."""

# TensorFlow raises any of these, according to which piece of a checkpoint is cut off, changed or missing.
_DAMAGE = (tf.errors.OpError, AssertionError, IndexError, KeyError, RuntimeError, ValueError, TypeError)


@dataclasses.dataclass(frozen=True, order=True)
class Saved:
    """A checkpoint of so many steps: of the end of an epoch that was measured, or of any other moment."""

    step: int
    ends_epoch: bool
    path: Path


class Checkpoints:
    """The checkpoints in a folder: `step-NUMBER`, `epoch-NUMBER-step-NUMBER` where one ended, and `best-NUMBER`.

    writes: whether this process saves and clears; of several machines that share a folder only one does. `restored`
    tells whether the state came from one of them.
    """

    def __init__(self, folder: Path, state: State, writes: bool = True):
        self._folder, self._state, self._writes = folder, state, writes
        self._checkpoint = tf.train.Checkpoint(**state.held())
        self._damaged: set[Path] = set()
        self.restored = False
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            self._clear_leftovers()

    def restore_newest(self) -> list[str]:
        """Restores the newest checkpoint that can be read and returns the names of newer ones that can't.

        Nothing is restored where there is no checkpoint, or only a damaged one of the start, as a run leaves that was
        killed while it saved its first; raises `UserError` where others are there and none of them can be read.
        """
        return self._restore(_saved(self._folder))

    def go_back(self) -> list[str]:
        """Restores the newest end of an epoch that can be read, as `restore_newest` does, and forgets what came after.

        Those are at the same steps whenever and however often a run was interrupted; others are not.
        """
        passed_over = self._restore([each for each in _saved(self._folder) if each.ends_epoch])
        if self._writes:
            for each in _saved(self._folder):
                if each.step > self._state.steps:
                    self._remove(each.path)
        return passed_over

    def save(self) -> None:
        """Saves the state wherever it is, unless it is saved as the end of an epoch."""
        if not _is_whole(self._folder / self._epoch_name()):
            self._write(f"step-{self._state.steps:09d}")

    def save_epoch(self) -> None:
        """Saves the state at the end of an epoch, to go back to only if its last step was a good one."""
        if int(self._state.tally.in_a_row.numpy()):
            self.save()
        else:
            self._write(self._epoch_name())

    def _epoch_name(self) -> str:
        return f"epoch-{self._state.epochs:04d}-step-{self._state.steps:09d}"

    def save_best(self) -> None:
        """Saves the state as the best."""
        name = f"best-{self._state.steps:09d}"
        self._write(name)
        if self._writes:
            for path in _best(self._folder):
                if path.name != name:
                    self._remove(path)

    def _restore(self, candidates: Sequence[Saved]) -> list[str]:
        passed_over = []
        for saved in candidates:
            try:
                _check_seal(saved.path)
                self._checkpoint.read(str(saved.path)).assert_consumed()
                self.restored = True
                return passed_over
            except _DAMAGE as error:
                _refuse_other_version(saved.path, self._state, error)
                passed_over.append(saved.path.name)
                self._damaged.add(saved.path)
        if any(saved.step for saved in candidates):
            raise UserError(
                f"none of the checkpoints in {self._folder} can be read: {', '.join(passed_over)}; a run in another"
                " --workdir starts afresh"
            )
        return passed_over

    def _write(self, name: str) -> None:
        if not self._writes:
            return
        path = self._folder / name
        if name[:4] != "best" and _is_whole(path) and path not in self._damaged:
            return  # It is this very state: whatever comes after a checkpoint that is gone back to is removed.
        try:
            _seal_of(path).unlink(missing_ok=True)
            self._checkpoint.write(str(path))
            _seal(path)
            _reach_the_disk(self._folder, path)
        except (tf.errors.OpError, OSError) as error:
            self._clear_leftovers()
            why = getattr(error, "message", None) or getattr(error, "strerror", None) or error
            raise UserError(f"{path} cannot be saved, and older checkpoints stay good: {why}") from error
        self._damaged.discard(path)
        self._let_go_of_old_ones()

    def _let_go_of_old_ones(self) -> None:
        """Damaged ones are no reason to let go of good ones; once there are newer ones, nobody needs them."""
        good = [each for each in _saved(self._folder) if _is_whole(each.path) and each.path not in self._damaged]
        kept = {*good[:NEWEST], *[each for each in good if each.ends_epoch][:EPOCHS]}
        for each in _saved(self._folder):
            if each not in kept and each.step <= self._state.steps:
                self._remove(each.path)

    def _remove(self, path: Path) -> None:
        # Without its seal it is no checkpoint any more, whenever this is interrupted.
        for piece in sorted(self._folder.glob(f"{path.name}.*"), key=lambda piece: piece != _seal_of(path)):
            piece.unlink()

    def _clear_leftovers(self) -> None:
        """Removes the temporary pieces that a save that was killed has left."""
        for leftover in self._folder.glob("*temp*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def restore_best(folder: Path, model: keras.Model) -> int:
    """Restores the weights of the best checkpoint into a model that is built, and returns the step that they are of.

    Raises `UserError` where there is none, or where it can't be read.
    """
    saved = _best(folder)
    if not saved:
        raise UserError(f"{folder} holds no checkpoint yet; train.py saves one at the end of every epoch")
    try:
        if _seal_of(saved[0]).exists():  # Those of earlier versions have none.
            _check_seal(saved[0])
        restored = tf.train.Checkpoint(weights=list(model.variables)).read(str(saved[0]))
        restored.assert_existing_objects_matched().expect_partial()
    except _DAMAGE as error:
        raise UserError(f"the best checkpoint, {saved[0]}, is damaged; train.py makes another") from error
    return int(saved[0].name.rpartition("-")[2])


def _saved(folder: Path) -> list[Saved]:
    """Returns the checkpoints that a run can go on from, or of which a piece is there, the newest first.

    They are looked for by name, since TensorFlow's own list of them, where it is damaged, means a silent fresh start.
    """
    pieces = re.compile(r"((epoch-\d+-)?step-(\d+))\.(?:index|data-[-\w]+|sha256)")
    matches = [pieces.fullmatch(path.name) for path in folder.glob("*")]
    found = {Saved(int(match[3]), match[2] is not None, folder / match[1]) for match in matches if match}
    return sorted(found, reverse=True)


def _is_whole(path: Path) -> bool:
    return _seal_of(path).exists()


def _seal_of(path: Path) -> Path:
    """Returns the file with the digests of a checkpoint's pieces, as `sha256sum --check` takes it.

    TensorFlow checks what it reads, but not all of an index is read; and what is damaged is better not parsed at all.
    """
    return path.with_name(f"{path.name}.sha256")


def _seal(path: Path) -> None:
    text = _seal_text(path)
    partial = path.with_name(f"{path.name}.sha256.temp")
    partial.write_text(text)
    os.replace(partial, _seal_of(path))


def _check_seal(path: Path) -> None:
    """Raises an error that means damage where a checkpoint has no seal, or another one than its pieces ask for."""
    if not _is_whole(path) or _seal_of(path).read_bytes() != _seal_text(path).encode():
        raise ValueError("not as it was saved")


def _seal_text(path: Path) -> str:
    pieces = sorted([*path.parent.glob(f"{path.name}.index"), *path.parent.glob(f"{path.name}.data-*")])
    return "".join(f"{_digest(piece)}  {piece.name}\n" for piece in pieces)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _best(folder: Path) -> list[Path]:
    """Returns the checkpoints of the best model, the newest first: more than one, where a save was interrupted."""
    return sorted((path.with_suffix("") for path in folder.glob("best-*.index")), reverse=True)


def _refuse_other_version(path: Path, state: State, error: Exception) -> None:
    """Raises `UserError` where a checkpoint is whole, but holds other things than this version's."""
    try:
        there = {name.partition("/")[0] for name, _ in tf.train.list_variables(str(path))}
    except _DAMAGE:
        return
    lacking = sorted(state.held().keys() - there)
    if lacking and "weights" in there:
        raise UserError(
            f"{path} was saved by another version, which had no {', '.join(lacking)}: eval.py can read it, but"
            " training can't go on from it; train again in another --workdir"
        ) from error


def _reach_the_disk(folder: Path, path: Path) -> None:
    """Waits until a checkpoint would survive a power cut."""
    for each in [*folder.glob(f"{path.name}.*"), folder]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
