"""Checkpoints that are corrupt are skipped where an earlier one can be read, and are errors elsewhere."""

import numpy as np
import pytest
import tensorflow as tf
from saved_checkpoints import FILES, SHAPE, assert_step, end_of_epoch, fill, flip_a_bit, names_in, save_epochs, truncate

from cae import models
from cae.errors import UserError
from cae.training.checkpoints import CheckpointManager, restore_best


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("corrupt", [flip_a_bit, truncate])
def test_a_corrupt_checkpoint_is_skipped_and_named(tmp_path, new_state, file, corrupt):
    save_epochs(tmp_path, new_state())
    corrupt(tmp_path / end_of_epoch(5) / file)
    state = new_state()
    assert CheckpointManager(tmp_path, state).restore_latest() == [end_of_epoch(5)]
    assert_step(state, 4)


def every_variable(state):
    return [*state.model.variables, *state.optimizer.variables, state.step, state.epoch_metrics.loss_sums]


def is_skipped(folder, state, values):
    """Returns whether the newest checkpoint is skipped, and the one before restored; else it must be restored right."""
    if CheckpointManager(folder, state).restore_latest() == [end_of_epoch(5)]:
        assert_step(state, 4)
        return True
    for variable, value in zip(every_variable(state), values, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    return False


@pytest.fixture
def newest(tmp_path, new_state):
    """Checkpoints: their folder, a state to restore, the files of the newest, their content and its variables."""
    writer = new_state()
    manager = save_epochs(tmp_path, writer, [3, 4])
    for variable in writer.optimizer.variables:  # As different as in training: zeros compress to nothing.
        variable.assign(tf.cast(tf.random.stateless_uniform(variable.shape, [0, 5], maxval=9.0), variable.dtype))
    fill(writer, 5)
    manager.save_epoch()
    files = {name: tmp_path / end_of_epoch(5) / name for name in FILES}
    contents = {name: path.read_bytes() for name, path in files.items()}
    return tmp_path, new_state(), files, contents, [each.numpy() for each in every_variable(writer)]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_checkpoint_is_skipped_wherever_it_ends(newest, name):
    folder, state, files, contents, values = newest
    for length in np.linspace(0, len(contents[name]) - 2, 10).astype(int):
        files[name].write_bytes(contents[name][:length])
        assert is_skipped(folder, state, values), length


def test_no_flipped_bit_gets_into_the_weights(newest, random):
    """A hundred flips, most of them in the small files."""
    folder, state, files, contents, values = newest
    for i in range(100):
        name = FILES[i % 3]
        content = bytearray(contents[name])
        bit = int(random.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        files[name].write_bytes(bytes(content))
        assert is_skipped(folder, state, values), (name, bit)
        files[name].write_bytes(contents[name])


@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_without_one_of_its_files_is_skipped(newest, name):
    folder, state, files, _, values = newest
    files[name].unlink()
    assert is_skipped(folder, state, values)


def test_a_checkpoint_under_the_name_of_another_step_is_skipped(newest):
    folder, state, files, contents, values = newest
    files["metadata.json"].write_bytes(contents["metadata.json"].replace(b'"step": 5', b'"step": 6'))
    assert is_skipped(folder, state, values)


@pytest.mark.parametrize("content", [b"", b'model_checkpoint_path: "epoch-00', None])
def test_tensorflows_own_list_of_checkpoints_is_not_needed(newest, content):
    folder, state, _, _, values = newest
    if content is not None:
        (folder / "checkpoint").write_bytes(content)
    assert not is_skipped(folder, state, values)


def test_a_run_whose_first_checkpoint_is_corrupt_starts_again(tmp_path, new_state):
    state = new_state()
    CheckpointManager(tmp_path, state).save_epoch()
    truncate(tmp_path / "step-000000000-epoch-0000" / FILES[1])
    manager = CheckpointManager(tmp_path, new_state())
    assert manager.restore_latest() == ["step-000000000-epoch-0000"] and not manager.restored
    manager.save_epoch()
    assert CheckpointManager(tmp_path, new_state()).restore_latest() == []


def test_corrupt_checkpoints_do_not_count_among_those_that_are_kept(tmp_path, new_state):
    save_epochs(tmp_path, new_state())
    for step in (4, 5):
        truncate(tmp_path / end_of_epoch(step) / FILES[1])
    state = new_state()
    manager = CheckpointManager(tmp_path, state)
    assert manager.restore_latest() == [end_of_epoch(5), end_of_epoch(4)]
    state.step.assign(4)
    manager.save()
    state = new_state()
    assert CheckpointManager(tmp_path, state).restore_latest() == [end_of_epoch(5)]
    assert_step(state, 3, saved_at=4)
    assert end_of_epoch(3) in names_in(tmp_path)


def test_a_corrupt_checkpoint_is_replaced_when_its_step_is_reached_again(tmp_path, new_state):
    save_epochs(tmp_path, new_state())
    truncate(tmp_path / end_of_epoch(5) / FILES[1])
    state = new_state()
    manager = CheckpointManager(tmp_path, state)
    manager.restore_latest()
    fill(state, 5)
    manager.save_epoch()
    state = new_state()
    assert CheckpointManager(tmp_path, state).restore_latest() == []
    assert_step(state, 5)


def test_a_run_whose_checkpoints_are_all_corrupt_does_not_start_again(tmp_path, new_state):
    save_epochs(tmp_path, new_state())
    for path in tmp_path.glob("*/*.data*"):
        path.unlink()
    with pytest.raises(UserError, match=rf"none of the checkpoints in .* can be read: {end_of_epoch(5)}"):
        CheckpointManager(tmp_path, new_state()).restore_latest()


def test_a_rollback_without_a_readable_end_of_an_epoch_fails(tmp_path, new_state):
    state = new_state()
    manager = CheckpointManager(tmp_path, state)
    manager.save_epoch()
    truncate(tmp_path / "step-000000000-epoch-0000" / FILES[0])
    with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read: step-000000000-epoch-0000"):
        manager.restore_last_epoch()


def test_a_missing_or_corrupt_best_is_an_error(tmp_path, new_state, tiny):
    model = models.build_model(tiny, SHAPE)
    with pytest.raises(UserError, match="has no checkpoint yet"):
        restore_best(tmp_path, model)
    save_epochs(tmp_path, new_state(), [1]).save_best()
    truncate(tmp_path / "best-000000001" / FILES[1])
    with pytest.raises(UserError, match="best-000000001, is corrupt"):
        restore_best(tmp_path, model)
