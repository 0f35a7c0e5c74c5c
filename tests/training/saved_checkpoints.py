"""Checkpoints of small models whose weights are all the number of the step, and ways to corrupt their files."""

import numpy as np

from cae.training.checkpoints import CheckpointManager

SHAPE = (16, 16, 1)

FILES = ("ckpt.index", "ckpt.data-00000-of-00001", "metadata.json")


def end_of_epoch(step, epoch=None):
    """Returns the name of the checkpoint of the end of an epoch; in these tests most epochs have one step."""
    return f"step-{step:09d}-epoch-{epoch or step:04d}"


def fill(state, step):
    """Sets the step, the epoch and all weights to a number."""
    state.step.assign(step)
    state.epoch.assign(step)
    state.model.set_weights([np.full_like(weight, step) for weight in state.model.get_weights()])


def save_epochs(folder, state, steps=(1, 2, 3, 4, 5)):
    """Saves ends of epochs, whose weights are all the number of the step."""
    manager = CheckpointManager(folder, state)
    for step in steps:
        fill(state, step)
        manager.save_epoch()
    return manager


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_step(state, step, saved_at=None):
    assert state.global_step == (saved_at or step)
    assert all((weight == step).all() for weight in state.model.get_weights())


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])
