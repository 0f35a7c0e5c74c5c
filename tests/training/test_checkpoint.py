import numpy as np
import pytest
import tensorflow as tf

from cae import models
from cae.errors import UserError
from cae.training.build import build_state
from cae.training.checkpoint import NEWEST, Checkpoints, restore_best

SHAPE = (16, 16, 1)


@pytest.fixture
def new_state(tiny):
    return lambda: build_state(tf.distribute.get_strategy(), tiny, SHAPE, steps=10)


def saved(folder, state, steps=(1, 2, 3, 4, 5)):
    """Checkpoints whose weights are all the number of the step."""
    checkpoints = Checkpoints(folder, state)
    for step in steps:
        state.step.assign(step)
        state.epoch.assign(step)
        state.model.set_weights([np.full_like(weight, step) for weight in state.model.get_weights()])
        checkpoints.save_epoch()
    return checkpoints


def assert_step(state, step):
    assert int(state.step.numpy()) == step
    assert all((weight == step).all() for weight in state.model.get_weights())


def test_everything_that_changes_comes_back(tmp_path, new_state):
    state = new_state()
    state.best_loss.assign(0.25)
    state.tally.sums.assign([1.0 / 3.0])
    for variable in state.optimizer.variables:
        variable.assign(tf.cast(tf.fill(variable.shape, 3), variable.dtype))
    saved(tmp_path, state, [7])
    fresh = new_state()
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
    assert len(list(tmp_path.iterdir())) == 2 * NEWEST


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
