from pathlib import Path
from unittest import mock

import pytest
import tensorflow as tf
from cli import call
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainings import PreemptAfter, assert_same

from cae.errors import UserError
from cae.preemption import Preempted
from cae.training import profiler
from cae.training.profiler import StepProfiler, parse_profile_steps


@pytest.mark.parametrize("text, steps", [(None, None), ("10,20", (10, 20)), ("3, 3", (3, 3))])
def test_profile_steps_are_the_first_and_the_last(text, steps):
    assert parse_profile_steps(text) == steps


@pytest.mark.parametrize("text", ["", "5", "5,4", "0,3", "-1,3", "1,2,3", "1.5,2", "a,b", "1,"])
def test_other_profile_steps_are_refused_in_one_line(text):
    message = f"^--profile_steps={text} must be the first and the last step to profile, such as 10,20$"
    with pytest.raises(UserError, match=message):
        parse_profile_steps(text)


def test_the_program_refuses_them_before_it_writes(tmp_path):
    code, _, err = call("train.py", "--dataset=digits", "--workdir=run", "--profile_steps=20,10", folder=tmp_path)
    assert code == 2 and "--profile_steps=20,10 must be" in err and not [*tmp_path.iterdir()]


# --- Which steps are profiled -----------------------------------------------------------------------------------------


class FakeProfiler:
    """Takes the place of TensorFlow's, and of a run: what happens, in order."""

    def __init__(self, monkeypatch, steps, error=None):
        self.calls, graphs = [], mock.Mock(graph="graph")
        self.train_steps = mock.Mock(side_effect=self.calls.append)
        self.train_steps.get_concrete_function.return_value = graphs
        experimental = mock.Mock()
        experimental.start.side_effect = error or (lambda _: self.calls.append("start"))
        experimental.stop.side_effect = lambda: self.calls.append("stop")
        experimental.Trace = mock.MagicMock()
        fake = mock.Mock(profiler=mock.Mock(experimental=experimental), errors=tf.errors)
        monkeypatch.setattr(profiler, "tf", fake)
        self.profiler = StepProfiler(Path("folder"), steps, self.calls.append, self.calls.append)

    def take(self, step, last_step, most=100):
        """Takes steps as a trainer does; returns how many each call takes."""
        taken = []
        while step < last_step:
            taken.append(min(self.profiler.limit(step, most), last_step - step))
            self.profiler.call(step, self.train_steps, taken[-1])
            step += taken[-1]
        return taken


@pytest.mark.parametrize(
    "first_step, last_step, steps, taken, calls",
    [
        (0, 20, (4, 6), [3, 1, 1, 1, 14], [3, "graph", "start", 1, 1, 1, "stop", 14]),
        (0, 20, (1, 1), [1, 19], ["graph", "start", 1, "stop", 19]),
        # Resumed in between, and after the last.
        (4, 20, (4, 6), [1, 1, 14], ["graph", "start", 1, 1, "stop", 14]),
        (6, 20, (4, 6), [14], [14]),
        # The run ends in between, and before the first.
        (0, 5, (4, 6), [3, 1, 1], [3, "graph", "start", 1, 1, "stop"]),
        (0, 3, (4, 6), [3], [3]),
        (0, 20, None, [20], [20]),
    ],
)
def test_steps_are_profiled_one_by_one(monkeypatch, first_step, last_step, steps, taken, calls):
    fake = FakeProfiler(monkeypatch, steps)
    assert fake.take(first_step, last_step) == taken
    fake.profiler.close()
    lines = [each for each in fake.calls if isinstance(each, str) and " " in each]
    assert [each for each in fake.calls if each not in lines] == calls
    if steps:
        warning = "warning: --profile_steps=4,6: none of these steps was taken, and there is no profile"
        assert lines == ["profile written to folder/plugins/profile" if "start" in calls else warning]
    else:
        assert not lines


def test_a_rollback_ends_the_profile_for_good(monkeypatch):
    fake = FakeProfiler(monkeypatch, (4, 6))
    fake.take(0, 4)
    fake.profiler.stop()
    fake.take(2, 20)
    assert [each for each in fake.calls if each in ("start", "stop")] == ["start", "stop"] and fake.calls[-1] == 18


def test_a_profile_that_fails_is_a_warning(monkeypatch):
    fake = FakeProfiler(monkeypatch, (4, 6), tf.errors.AlreadyExistsError(None, None, "another profiler is running"))
    assert fake.take(0, 20) == [3, 1, 16]
    assert fake.calls == [3, "graph", "warning: --profile_steps=4,6: no profile: another profiler is running", 1, 16]


# --- A run ------------------------------------------------------------------------------------------------------------


def test_a_profiled_run_ends_with_the_same_bits(tmp_path, train, unbroken, four_epochs, capsys):
    """It is preempted within the profile, and resumed without the flag."""
    profiled = tmp_path / "run"
    with pytest.raises(Preempted):
        train(four_epochs, profiled, profile_steps=(2, 9), poll_signal=PreemptAfter(4))
    assert f"profile written to {profiled}" in capsys.readouterr().out
    resumed = train(four_epochs, profiled)
    assert_same(unbroken(four_epochs)[0], resumed, unbroken(four_epochs)[1], profiled)
    (profile,) = (profiled / "tensorboard/train/plugins/profile").glob("*/*.xplane.pb")
    assert profile.stat().st_size > 1000
    events = EventAccumulator(str(profiled / "tensorboard/train")).Reload()
    assert {"batches", "num_steps"} <= {node.name for node in events.Graph().node}
