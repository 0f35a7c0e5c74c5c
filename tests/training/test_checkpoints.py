"""What checkpoints hold, which of them are kept and restored, and those of earlier versions."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf
from saved_checkpoints import FILES, SHAPE, assert_step, end_of_epoch, fill, flip_a_bit, names_in, save_epochs, truncate

from cae import models
from cae.errors import UserError
from cae.training import checkpoint_files
from cae.training.checkpoints import MAX_TO_KEEP, CheckpointManager, restore_best
from cae.training.train_state import TrainState


def test_every_variable_is_restored(tmp_path, new_state, tiny):
    state = new_state()
    state.best_loss.assign(0.25)
    state.epoch_metrics.loss_sums.assign([1.0 / 3.0])
    for variable in state.optimizer.variables:
        variable.assign(tf.cast(tf.fill(variable.shape, 3), variable.dtype))
    save_epochs(tmp_path, state, [7])
    fresh = TrainState.create(tf.distribute.get_strategy(), tiny, SHAPE, total_steps=10)
    assert CheckpointManager(tmp_path, fresh).restore_latest() == []
    assert_step(fresh, 7)
    assert float(fresh.best_loss) == 0.25 and float(fresh.epoch_metrics.loss_sums[0]) == 1 / 3
    for one, other in zip(state.optimizer.variables, fresh.optimizer.variables):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_is_a_folder_with_a_manifest(tmp_path, new_state):
    save_epochs(tmp_path, new_state(), [7]).save_best()
    for name in (end_of_epoch(7), "best-000000007"):
        assert names_in(tmp_path / name) == sorted(FILES)
        manifest = json.loads((tmp_path / name / "metadata.json").read_text())
        assert manifest == {
            "step": 7,
            "epoch": 7,
            "end_of_epoch": True,
            "sha256": {
                file: hashlib.sha256((tmp_path / name / file).read_bytes()).hexdigest() for file in sorted(FILES[:2])
            },
        }


def test_only_the_newest_are_kept(tmp_path, new_state):
    save_epochs(tmp_path, new_state())
    assert names_in(tmp_path) == [end_of_epoch(step) for step in (3, 4, 5)] and MAX_TO_KEEP == 3


def test_the_last_ends_of_epochs_are_kept_besides_newer_checkpoints(tmp_path, new_state):
    state = new_state()
    manager = save_epochs(tmp_path, state, [1, 2, 3])
    for step in (4, 5, 6, 7):
        state.step.assign(step)
        manager.save()
    assert names_in(tmp_path) == [
        end_of_epoch(2), end_of_epoch(3), "step-000000005", "step-000000006", "step-000000007",
    ]  # fmt: skip


def test_a_step_that_is_saved_as_the_end_of_an_epoch_is_not_saved_again(tmp_path, new_state):
    manager = save_epochs(tmp_path, new_state(), [1])
    manager.save()
    assert names_in(tmp_path) == [end_of_epoch(1)]


def test_nothing_is_restored_where_nothing_was_saved(tmp_path, new_state):
    state = new_state()
    before = state.model.get_weights()
    manager = CheckpointManager(tmp_path, state)
    assert manager.restore_latest() == [] and not manager.restored
    assert all(np.array_equal(one, other) for one, other in zip(before, state.model.get_weights()))


# --- Rolling back -----------------------------------------------------------------------------------------------------


def test_a_rollback_restores_the_last_end_of_an_epoch_and_removes_what_came_after(tmp_path, new_state):
    state = new_state()
    manager = save_epochs(tmp_path, state, [3, 4])
    for step in (5, 6):
        state.step.assign(step)
        state.model.set_weights([np.full_like(weight, step) for weight in state.model.get_weights()])
        manager.save()
    assert manager.restore_last_epoch() == []
    assert_step(state, 4)
    assert names_in(tmp_path) == [end_of_epoch(3), end_of_epoch(4)]


def test_an_epoch_whose_last_step_was_skipped_is_not_rolled_back_to(tmp_path, new_state):
    state = new_state()
    manager = save_epochs(tmp_path, state, [3])
    state.step.assign(4)
    state.epoch_metrics.consecutive_skipped.assign(2)
    manager.save_epoch()
    assert names_in(tmp_path) == [end_of_epoch(3), "step-000000004"]
    manager.restore_last_epoch()
    assert_step(state, 3)


# --- Who writes, and what is left of a killed save --------------------------------------------------------------------


def test_a_worker_that_does_not_write_leaves_the_folder_as_it_is(tmp_path, new_state):
    save_epochs(tmp_path, new_state(), [1, 2])
    (tmp_path / "step-000000003.tmp").mkdir()
    before = sorted(tmp_path.rglob("*"))
    state = new_state()
    other = CheckpointManager(tmp_path, state, write=False)
    assert other.restore_latest() == [] and state.global_step == 2
    other.save(), other.save_epoch(), other.save_best(), other.restore_last_epoch()
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_of_a_killed_save_or_removal_are_removed(tmp_path, new_state):
    for name in ("step-000000001.tmp", "step-000000002.removed.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ckpt.index").touch()
    manager = CheckpointManager(tmp_path, new_state())
    assert manager.restore_latest() == [] and names_in(tmp_path) == []


def test_earlier_checkpoints_are_intact_where_one_cannot_be_written(tmp_path, new_state, monkeypatch):
    state = new_state()
    manager = save_epochs(tmp_path, state, [1, 2])

    def fail(*_):
        raise OSError(28, "No space left on device")

    state.step.assign(3)
    for owner, name in [(tf.train.Checkpoint, "write"), (checkpoint_files, "_fsync"), (checkpoint_files, "commit")]:
        with monkeypatch.context() as patch, pytest.raises(UserError) as error:
            patch.setattr(owner, name, fail)
            manager.save()
        path = tmp_path / "step-000000003"
        message = f"failed to write {path}; earlier checkpoints are intact: No space left on device"
        assert str(error.value) == message
        assert names_in(tmp_path) == [end_of_epoch(1), end_of_epoch(2)]


# --- The best ---------------------------------------------------------------------------------------------------------


def test_the_best_is_kept_and_restored_into_a_model_alone(tmp_path, new_state, tiny):
    state = new_state()
    save_epochs(tmp_path, state, [1]).save_best()
    save_epochs(tmp_path, state, [2, 3, 4, 5])
    model = models.build_model(tiny, SHAPE)
    assert restore_best(tmp_path, model) == 1
    assert all((weight == 1).all() for weight in model.get_weights())


@pytest.mark.parametrize("step", [3, 4, 2])
def test_a_new_best_replaces_the_one_before(tmp_path, new_state, tiny, step):
    """After a rollback it may be of the same step, or of an earlier one."""
    state = new_state()
    manager = save_epochs(tmp_path, state, [3])
    manager.save_best()
    fill(state, step)
    state.model.set_weights([np.full_like(weight, 9) for weight in state.model.get_weights()])
    manager.save_best()
    model = models.build_model(tiny, SHAPE)
    assert restore_best(tmp_path, model) == step and all((weight == 9).all() for weight in model.get_weights())
    assert [path.name for path in tmp_path.glob("best*")] == [f"best-{step:09d}"]


# --- Checkpoints of other versions ------------------------------------------------------------------------------------


def test_a_checkpoint_without_a_variable_of_this_version_is_refused_by_name(tmp_path, new_state, monkeypatch):
    state = new_state()
    with monkeypatch.context() as patch:
        patch.setattr(
            type(state), "checkpoint_items", lambda self: {"weights": list(self.model.variables), "step": self.step}
        )
        save_epochs(tmp_path, state, [1])
    with pytest.raises(UserError, match=r"was saved by another version .without best_loss, .*eval.py can"):
        CheckpointManager(tmp_path, new_state()).restore_latest()


@pytest.fixture
def earlier(tmp_path, new_state):
    """A folder as earlier versions left it: three files for each checkpoint, with a list of digests."""
    state = new_state()
    fill(state, 7)
    for name in ("epoch-0007-step-000000007", "best-000000007"):
        tf.train.Checkpoint(**state.checkpoint_items()).write(str(tmp_path / name))
        digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(tmp_path.glob(f"{name}.*"))}
        (tmp_path / f"{name}.sha256").write_text("".join(f"{value}  {path.name}\n" for path, value in digests.items()))
    return tmp_path


@pytest.mark.parametrize("has_digests", [True, False])
def test_the_best_of_an_earlier_version_is_restored(earlier, tiny, has_digests):
    if not has_digests:  # As the first versions left it.
        (earlier / "best-000000007.sha256").unlink()
    model = models.build_model(tiny, SHAPE)
    assert restore_best(earlier, model) == 7 and all((weight == 7).all() for weight in model.get_weights())


@pytest.mark.parametrize("corrupt", [flip_a_bit, truncate])
@pytest.mark.parametrize("file", ["index", "data-00000-of-00001", "sha256"])
def test_a_corrupt_best_of_an_earlier_version_is_an_error(earlier, tiny, corrupt, file):
    corrupt(earlier / f"best-000000007.{file}")
    with pytest.raises(UserError, match="best-000000007, is corrupt"):
        restore_best(earlier, models.build_model(tiny, SHAPE))


def test_a_run_of_an_earlier_version_is_not_resumed(earlier, new_state):
    before = names_in(earlier)
    with pytest.raises(UserError, match=r"has the checkpoints of an earlier version: eval.py can .*; use another --w"):
        CheckpointManager(earlier, new_state()).restore_latest()
    assert names_in(earlier) == before
