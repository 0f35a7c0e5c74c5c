import itertools

import numpy as np
import pytest
import tensorflow as tf

from cae import models
from cae.errors import UserError
from cae.training.build import build_state
from cae.training.checkpoint import NEWEST, Checkpoints, restore_best

SHAPE = (16, 16, 1)

PIECES = ("index", "data-00000-of-00001", "sha256")


@pytest.fixture
def new_state(builds, tiny):
    """Makes states, each with variables of its own in a test; the next test has them again, with initial values."""
    numbers = itertools.count()
    return lambda: builds.state(tf.distribute.get_strategy(), tiny, number=next(numbers))


def saved(folder, state, steps=(1, 2, 3, 4, 5)):
    """Checkpoints whose weights are all the number of the step."""
    checkpoints = Checkpoints(folder, state)
    for step in steps:
        state.step.assign(step)
        state.epoch.assign(step)
        state.model.set_weights([np.full_like(weight, step) for weight in state.model.get_weights()])
        checkpoints.save_epoch()
    return checkpoints


def assert_step(state, step, saved_at=None):
    assert int(state.step.numpy()) == (saved_at or step)
    assert all((weight == step).all() for weight in state.model.get_weights())


def test_everything_that_changes_comes_back(tmp_path, new_state, tiny):
    state = new_state()
    state.best_loss.assign(0.25)
    state.tally.sums.assign([1.0 / 3.0])
    for variable in state.optimizer.variables:
        variable.assign(tf.cast(tf.fill(variable.shape, 3), variable.dtype))
    saved(tmp_path, state, [7])
    fresh = build_state(tf.distribute.get_strategy(), tiny, SHAPE, steps=10)
    assert Checkpoints(tmp_path, fresh).restore_newest() == []
    assert_step(fresh, 7)
    assert float(fresh.best_loss) == 0.25 and float(fresh.tally.sums[0]) == 1 / 3
    for one, other in zip(state.optimizer.variables, fresh.optimizer.variables):
        np.testing.assert_array_equal(one, other)


def test_only_the_newest_few_are_kept(tmp_path, new_state):
    saved(tmp_path, new_state())
    assert sorted(path.name for path in tmp_path.glob("*.index")) == [
        f"epoch-000{n}-step-00000000{n}.index" for n in (3, 4, 5)
    ]
    assert len(list(tmp_path.iterdir())) == len(PIECES) * NEWEST


def test_nothing_is_restored_where_nothing_was_saved(tmp_path, new_state):
    state = new_state()
    before = state.model.get_weights()
    assert Checkpoints(tmp_path, state).restore_newest() == []
    assert all(np.array_equal(one, other) for one, other in zip(before, state.model.get_weights()))


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize("piece", ["index", "data-00000-of-00001"])
@pytest.mark.parametrize("spoil", [damage, cut_off])
def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path, new_state, piece, spoil):
    saved(tmp_path, new_state())
    spoil(tmp_path / f"epoch-0005-step-000000005.{piece}")
    state = new_state()
    assert Checkpoints(tmp_path, state).restore_newest() == ["epoch-0005-step-000000005"]
    assert_step(state, 4)


def every_variable(state):
    return [*state.model.variables, *state.optimizer.variables, state.step, state.tally.sums]


def refused_or_right(folder, state, values):
    """Whether a damaged newest checkpoint was named and the one before taken; false where it was read, and is right."""
    if Checkpoints(folder, state).restore_newest() == ["epoch-0005-step-000000005"]:
        assert_step(state, 4)
        return True
    for variable, value in zip(every_variable(state), values, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    return False


@pytest.fixture
def newest(tmp_path, new_state):
    """A folder of checkpoints, a state to restore into, and the content of the newest's pieces and of its variables."""
    writer = new_state()
    checkpoints = saved(tmp_path, writer, [3, 4])
    for variable in writer.optimizer.variables:  # As different as in training: zeros compress to nothing.
        variable.assign(tf.cast(tf.random.stateless_uniform(variable.shape, [0, 5], maxval=9.0), variable.dtype))
    saved_values(writer)
    checkpoints.save_epoch()
    pieces = {piece: tmp_path / f"epoch-0005-step-000000005.{piece}" for piece in PIECES}
    contents = {piece: path.read_bytes() for piece, path in pieces.items()}
    return tmp_path, new_state(), pieces, contents, [each.numpy() for each in every_variable(writer)]


def saved_values(state):
    state.step.assign(5)
    state.epoch.assign(5)
    state.model.set_weights([np.full_like(weight, 5) for weight in state.model.get_weights()])


@pytest.mark.parametrize("piece", PIECES)
def test_wherever_a_checkpoint_is_cut_off_it_is_found_out(newest, piece):
    folder, state, pieces, contents, values = newest
    whole = len(contents[piece])
    for length in np.linspace(0, whole - 1, 10).astype(int):
        pieces[piece].write_bytes(contents[piece][:length])
        assert refused_or_right(folder, state, values), length


def test_no_flipped_bit_gets_into_the_weights(newest, random):
    """A hundred flips, most of them in the small pieces."""
    folder, state, pieces, contents, values = newest
    for number in range(100):
        piece = PIECES[number % 3]
        content = bytearray(contents[piece])
        bit = int(random.integers(8 * len(content)))
        content[bit // 8] ^= 1 << bit % 8
        pieces[piece].write_bytes(bytes(content))
        assert refused_or_right(folder, state, values), (piece, bit)
        pieces[piece].write_bytes(contents[piece])


@pytest.mark.parametrize("piece", PIECES)
def test_a_checkpoint_that_lacks_a_piece_is_named(newest, piece):
    folder, state, pieces, _, values = newest
    pieces[piece].unlink()
    assert refused_or_right(folder, state, values)


@pytest.mark.parametrize("content", [b"", b'model_checkpoint_path: "epoch-00', None])
def test_tensorflows_own_list_of_checkpoints_is_not_needed(newest, content):
    folder, state, _, _, values = newest
    if content is not None:
        (folder / "checkpoint").write_bytes(content)
    assert not refused_or_right(folder, state, values)


def test_a_run_that_was_killed_in_its_first_save_starts(tmp_path, new_state):
    state = new_state()
    saved(tmp_path, state, [0])
    (tmp_path / "epoch-0000-step-000000000.sha256").unlink()
    fresh = new_state()
    checkpoints = Checkpoints(tmp_path, fresh)
    assert checkpoints.restore_newest() == ["epoch-0000-step-000000000"] and not checkpoints.restored
    checkpoints.save_epoch()
    assert Checkpoints(tmp_path, new_state()).restore_newest() == []


def test_damaged_ones_push_no_good_one_out(tmp_path, new_state):
    saved(tmp_path, new_state())
    for step in (4, 5):
        cut_off(tmp_path / f"epoch-000{step}-step-00000000{step}.data-00000-of-00001")
    state = new_state()
    checkpoints = Checkpoints(tmp_path, state)
    assert checkpoints.restore_newest() == ["epoch-0005-step-000000005", "epoch-0004-step-000000004"]
    state.step.assign(4)
    checkpoints.save()
    assert_step(restored(tmp_path, new_state()), 3, saved_at=4)


def restored(folder, state):
    Checkpoints(folder, state).restore_newest()
    return state


def test_going_back_is_to_the_end_of_an_epoch_and_forgets_what_came_after(tmp_path, new_state):
    state = new_state()
    checkpoints = saved(tmp_path, state, [3, 4])
    for step in (5, 6):
        state.step.assign(step)
        state.model.set_weights([np.full_like(weight, step) for weight in state.model.get_weights()])
        checkpoints.save()
    assert checkpoints.go_back() == []
    assert_step(state, 4)
    assert sorted(path.stem for path in tmp_path.glob("*.index")) == [
        "epoch-0003-step-000000003", "epoch-0004-step-000000004",
    ]  # fmt: skip


def test_an_epoch_that_ended_badly_is_nothing_to_go_back_to(tmp_path, new_state):
    state = new_state()
    checkpoints = saved(tmp_path, state, [3])
    state.step.assign(4)
    state.tally.in_a_row.assign(2)
    checkpoints.save_epoch()
    assert {path.stem for path in tmp_path.glob("*.index")} == {"epoch-0003-step-000000003", "step-000000004"}
    checkpoints.go_back()
    assert_step(state, 3)


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path, new_state):
    state = new_state()
    tf.train.Checkpoint(weights=list(state.model.variables), step=state.step).write(str(tmp_path / "step-000000009"))
    with pytest.raises(UserError, match="was saved by another version, which had no best_loss"):
        Checkpoints(tmp_path, new_state()).restore_newest()


def test_a_process_that_does_not_write_leaves_everything(tmp_path, new_state):
    saved(tmp_path, new_state(), [1, 2])
    (tmp_path / "part_temp").touch()
    before = sorted(tmp_path.iterdir())
    state = new_state()
    other = Checkpoints(tmp_path, state, writes=False)
    assert other.restore_newest() == [] and state.steps == 2
    other.save(), other.save_epoch(), other.save_best()
    assert sorted(tmp_path.iterdir()) == before


def test_where_all_are_damaged_nothing_starts_afresh(tmp_path, new_state):
    saved(tmp_path, new_state())
    for path in tmp_path.glob("*.data*"):
        path.unlink()
    with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read: epoch-0005-step-000000005"):
        Checkpoints(tmp_path, new_state()).restore_newest()


def test_what_a_killed_save_left_is_cleared(tmp_path, new_state):
    (tmp_path / "step-000000001_temp").mkdir()
    (tmp_path / "step-000000001_temp" / "part").touch()
    (tmp_path / "step-000000001.data-00000-of-00001.tempstate123").touch()
    Checkpoints(tmp_path, new_state())
    assert list(tmp_path.iterdir()) == []


def test_the_best_is_kept_apart_and_restored_into_a_model_alone(tmp_path, new_state, tiny):
    state = new_state()
    checkpoints = saved(tmp_path, state, [1])
    checkpoints.save_best()
    saved(tmp_path, state, [2, 3, 4, 5])
    model = models.build(tiny, SHAPE)
    assert restore_best(tmp_path, model) == 1
    assert all((weight == 1).all() for weight in model.get_weights())


def test_a_missing_or_damaged_best_is_told(tmp_path, new_state, tiny):
    model = models.build(tiny, SHAPE)
    with pytest.raises(UserError, match="holds no checkpoint yet"):
        restore_best(tmp_path, model)
    saved(tmp_path, new_state(), [1]).save_best()
    cut_off(tmp_path / "best-000000001.data-00000-of-00001")
    with pytest.raises(UserError, match="best-000000001, is damaged"):
        restore_best(tmp_path, model)
