"""Checkpoints of everything that a resume needs: the newest few, and the best."""

import re
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from cae.errors import UserError
from cae.training.state import State

NEWEST = 3
"""How many checkpoints are kept beside the best: one may turn out to be damaged."""

# TensorFlow raises any of these, according to which piece of a checkpoint is cut off, changed or missing.
_DAMAGE = (tf.errors.OpError, AssertionError, IndexError, KeyError, RuntimeError, ValueError)


class Checkpoints:
    """The checkpoints in a folder: `step-NUMBER`, of which the newest stay, and `best-NUMBER`."""

    def __init__(self, folder: Path, state: State):
        self._folder = folder
        self._state = state
        critic = state.critic
        self._checkpoint = tf.train.Checkpoint(
            weights=_weights(state.model),
            optimizer=state.optimizer,
            step=state.step,
            best_loss=state.best_loss,
            **({"critic": _weights(critic.model), "critic_optimizer": critic.optimizer} if critic else {}),
        )
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*temp*"):  # Of a save that was killed.
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def restore_newest(self) -> list[str]:
        """Restores the newest checkpoint that can be read and returns the names of newer ones that can't.

        Nothing is restored where there is no checkpoint; raises `UserError` where none of them can be read.
        """
        passed_over = []
        for path in _saved(self._folder, "step"):
            try:
                self._checkpoint.read(str(path)).assert_consumed()
                return passed_over
            except _DAMAGE:
                passed_over.append(path.name)
        if passed_over:
            raise UserError(f"none of the checkpoints in {self._folder} can be read: {', '.join(passed_over)}")
        return []

    def save(self) -> None:
        """Saves the state as the newest and lets go of the oldest."""
        self._write("step", keep=NEWEST)

    def save_best(self) -> None:
        """Saves the state as the best."""
        self._write("best", keep=1)

    def _write(self, kind: str, keep: int) -> None:
        path = self._folder / f"{kind}-{self._state.steps:09d}"
        try:
            self._checkpoint.write(str(path))
        except tf.errors.OpError as error:
            raise UserError(f"{path} cannot be saved, and older ones stay good: {error.message}") from error
        for path in _saved(self._folder, kind)[keep:]:
            for piece in self._folder.glob(f"{path.name}.*"):
                piece.unlink()


def restore_best(folder: Path, model: keras.Model) -> int:
    """Restores the weights of the best checkpoint into a model that is built, and returns the step that they are of.

    Raises `UserError` where there is none, or where it can't be read.
    """
    saved = _saved(folder, "best")
    if not saved:
        raise UserError(f"{folder} holds no checkpoint yet; train.py saves one at the end of every epoch")
    try:
        restored = tf.train.Checkpoint(weights=_weights(model)).read(str(saved[0]))
        restored.assert_existing_objects_matched().expect_partial()
    except _DAMAGE as error:
        raise UserError(f"the best checkpoint, {saved[0]}, is damaged; train.py makes another") from error
    return int(saved[0].name.rpartition("-")[2])


def _weights(model: keras.Model) -> list[keras.Variable]:
    """Returns what a checkpoint holds of a model: TensorFlow does not see layers that a Keras model keeps in a list."""
    return list(model.variables)


def _saved(folder: Path, kind: str) -> list[Path]:
    """Returns the checkpoints of a kind, the newest first.

    They are looked for by name, since TensorFlow's own list of them, where it is damaged, means a silent fresh start.
    """
    names = [re.fullmatch(rf"({kind}-\d+)\.index", path.name) for path in folder.glob("*.index")]
    return sorted((folder / match[1] for match in names if match), reverse=True)
