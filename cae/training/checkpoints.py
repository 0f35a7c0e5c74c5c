"""Checkpoints of everything that a resume needs: the newest, the ends of the last epochs, and the best."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from cae.errors import UserError
from cae.training import checkpoint_files
from cae.training.checkpoint_files import (
    CORRUPTION_ERRORS,
    PREFIX,
    TEMPORARY,
    get_step,
    is_end_of_epoch,
    list_checkpoints,
)
from cae.training.train_state import TrainState

MAX_TO_KEEP, KEEP_EPOCHS = 3, 2
"""Numbers of the newest checkpoints, and of the newest ends of epochs, that are kept: one may become corrupt."""


class CheckpointManager:
    """Saves and restores the checkpoints of a run.

    Attributes:
      restored: Whether the state was restored from a checkpoint.
    """

    def __init__(self, folder: Path, state: TrainState, write: bool = True):
        """Opens the folder of a run's checkpoints, and creates it where it is missing.

        Args:
          folder: The folder of all checkpoints.
          state: What is saved and restored.
          write: Whether this process saves and removes checkpoints. Workers that share the folder restore from it, but
            only one of them writes.
        """
        self.restored = False
        self._folder, self._state, self._can_write = folder, state, write
        self._checkpoint = tf.train.Checkpoint(**state.checkpoint_items())
        self._corrupt: set[Path] = set()
        if write:
            folder.mkdir(parents=True, exist_ok=True)
            checkpoint_files.remove_temporary_folders(folder)

    def restore_latest(self) -> list[str]:
        """Restores the newest checkpoint that can be read; leaves the state as it is where there is none.

        Returns:
          The names of newer checkpoints, which were skipped since they are corrupt.

        Raises:
          UserError: All checkpoints are corrupt, or another version of this program wrote them.
        """
        if any(self._folder.glob("*.index")):
            raise UserError(
                f"{self._folder} has the checkpoints of an earlier version: eval.py can evaluate them, but training"
                " can't resume from them; use another --workdir"
            )
        checkpoints = list_checkpoints(self._folder)
        # Nothing is lost where the only one is of the start.
        return self._restore(checkpoints, required=any(map(get_step, checkpoints)))

    def restore_last_epoch(self) -> list[str]:
        """Restores the newest end of an epoch that can be read, and removes all later checkpoints.

        Ends of epochs are at the same steps however often a run was interrupted; other checkpoints are not.

        Returns:
          The names of newer ends of epochs, which were skipped since they are corrupt.

        Raises:
          UserError: None can be read.
        """
        ends = [path for path in list_checkpoints(self._folder) if is_end_of_epoch(path)]
        skipped = self._restore(ends, required=True)
        if self._can_write:
            for path in list_checkpoints(self._folder):
                if get_step(path) > self._state.global_step:
                    checkpoint_files.remove(path)
        return skipped

    def save(self) -> None:
        """Saves the state, unless the same step is saved as the end of an epoch."""
        if not self._is_saved(self._end_of_epoch):
            self._save(self._folder / f"step-{self._state.global_step:09d}")

    def save_epoch(self) -> None:
        """Saves the state as the end of an epoch, unless its last step was skipped: rolling back to that won't help."""
        if int(self._state.epoch_metrics.consecutive_skipped.numpy()):
            self.save()
        else:
            self._save(self._end_of_epoch)

    def save_best(self) -> None:
        """Saves the state as the best, in place of the one before."""
        if self._can_write:
            best = self._folder / f"best-{self._state.global_step:09d}"
            self._write(best)
            for path in list_checkpoints(self._folder, "best"):
                if path != best:
                    checkpoint_files.remove(path)

    @property
    def _end_of_epoch(self) -> Path:
        return self._folder / f"step-{self._state.global_step:09d}-epoch-{self._state.completed_epochs:04d}"

    def _restore(self, checkpoints: Sequence[Path], required: bool) -> list[str]:
        """Restores the first checkpoint that can be read, and returns the names of those before it."""
        names = [path.name for path in checkpoints]
        for i, path in enumerate(checkpoints):
            try:
                manifest = checkpoint_files.verify(path)
                self._read(path)
                if manifest != self._manifest(path):
                    raise ValueError(f"{path} does not match its name or its manifest")
            except CORRUPTION_ERRORS:
                self._corrupt.add(path)
            else:
                self.restored = True
                return names[:i]
        if required:
            raise UserError(
                f"none of the checkpoints in {self._folder} can be read: {', '.join(names)}; use another --workdir to"
                " start again"
            )
        return names

    def _read(self, path: Path) -> None:
        try:
            self._checkpoint.read(str(path / PREFIX)).assert_consumed()
        except CORRUPTION_ERRORS as error:
            # It is not corrupt: the files are as they were written.
            saved = {name.partition("/")[0] for name, _ in tf.train.list_variables(str(path / PREFIX))}
            missing = ", ".join(sorted(self._state.checkpoint_items().keys() - saved))
            raise UserError(
                f"{path} was saved by another version ({f'without {missing}' if missing else error}): eval.py can"
                " evaluate the run, but training can't resume; use another --workdir"
            ) from error

    def _manifest(self, path: Path) -> dict[str, Any]:
        step, epoch = self._state.global_step, self._state.completed_epochs
        return {"step": step, "epoch": epoch, "end_of_epoch": is_end_of_epoch(path)}

    def _is_saved(self, path: Path) -> bool:
        """Returns whether a checkpoint is committed and not known to be corrupt.

        It holds the present state then: whatever comes after a checkpoint that a run rolls back to is removed.
        """
        return path.is_dir() and path not in self._corrupt

    def _save(self, path: Path) -> None:
        if self._can_write and not self._is_saved(path):
            self._write(path)

    def _write(self, path: Path) -> None:
        temporary = path.with_suffix(TEMPORARY)
        try:
            temporary.mkdir()
            self._checkpoint.write(str(temporary / PREFIX))
            checkpoint_files.commit(temporary, path, self._manifest(path))
        except (tf.errors.OpError, OSError) as error:
            checkpoint_files.remove_temporary_folders(self._folder)
            reason = getattr(error, "message", None) or getattr(error, "strerror", None) or error
            raise UserError(f"failed to write {path}; earlier checkpoints are intact: {reason}") from error
        self._corrupt.discard(path)
        self._prune()

    def _prune(self) -> None:
        """Removes old checkpoints; corrupt ones do not count among those that are kept."""
        checkpoints = list_checkpoints(self._folder)
        good = [path for path in checkpoints if path not in self._corrupt]
        kept = {*good[:MAX_TO_KEEP], *[path for path in good if is_end_of_epoch(path)][:KEEP_EPOCHS]}
        for path in checkpoints:
            if path not in kept and get_step(path) <= self._state.global_step:
                checkpoint_files.remove(path)


def restore_best(folder: Path, model: keras.Model) -> int:
    """Restores the weights of the best checkpoint into a model that is built.

    Args:
      folder: The folder of all checkpoints, which this or an earlier version wrote.
      model: The model; its variables are those that were saved.

    Returns:
      The step at which the weights were saved.

    Raises:
      UserError: There is no best checkpoint, or it can't be read.
    """
    # Earlier versions wrote files such as best-000000123.index into the folder itself.
    paths = list_checkpoints(folder, "best") + sorted(folder.glob("best-*.index"), reverse=True)
    if not paths:
        raise UserError(f"{folder} has no checkpoint yet; train.py saves one at the end of each epoch")
    path, is_earlier = paths[0].with_suffix(""), paths[0].suffix == ".index"
    try:
        checkpoint_files.verify_earlier(path) if is_earlier else checkpoint_files.verify(path)
        checkpoint = tf.train.Checkpoint(weights=list(model.variables))
        status = checkpoint.read(str(path if is_earlier else path / PREFIX))
        status.assert_existing_objects_matched().expect_partial()
    except CORRUPTION_ERRORS as error:
        raise UserError(
            f"the best checkpoint, {path}, is corrupt or of another model; train.py replaces it when the validation"
            " loss improves"
        ) from error
    return get_step(path)
