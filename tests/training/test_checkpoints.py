import hashlib
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from cae import models
from cae.errors import UserError
from cae.training import checkpoint_files
from cae.training.checkpoints import MAX_TO_KEEP, CheckpointManager, restore_best
from cae.training.train_state import TrainState

SHAPE = (16, 16, 1)

FILES = ("ckpt.index", "ckpt.data-00000-of-00001", "metadata.json")


def end_of_epoch(step, epoch=None):
    """Returns the name of the checkpoint of the end of an epoch; in these tests most epochs have one step."""
    return f"step-{step:09d}-epoch-{epoch or step:04d}"


@pytest.fixture
def new_state(state_cache, tiny):
    """Makes states, each with variables of its own in a test; the next test has them again, with initial values."""
    numbers = itertools.count()
    return lambda: state_cache.state(tf.distribute.get_strategy(), tiny, index=next(numbers))


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


# --- Corrupt checkpoints ----------------------------------------------------------------------------------------------


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[:100])


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


def test_a_rollback_without_a_readable_end_of_an_epoch_fails(tmp_path, new_state):
    state = new_state()
    manager = CheckpointManager(tmp_path, state)
    manager.save_epoch()
    truncate(tmp_path / "step-000000000-epoch-0000" / FILES[0])
    with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read: step-000000000-epoch-0000"):
        manager.restore_last_epoch()


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


def test_a_missing_or_corrupt_best_is_an_error(tmp_path, new_state, tiny):
    model = models.build_model(tiny, SHAPE)
    with pytest.raises(UserError, match="has no checkpoint yet"):
        restore_best(tmp_path, model)
    save_epochs(tmp_path, new_state(), [1]).save_best()
    truncate(tmp_path / "best-000000001" / FILES[1])
    with pytest.raises(UserError, match="best-000000001, is corrupt"):
        restore_best(tmp_path, model)


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
