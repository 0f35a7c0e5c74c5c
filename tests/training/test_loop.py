import dataclasses
import itertools
import re
import signal

import fits
import numpy as np
import pytest
import tensorflow as tf
from fits import TIMINGS, assert_same, lines
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from benchmarks import survival
from cae.data import noise, pipeline
from cae.errors import UserError
from cae.interrupts import Interrupted
from cae.training import build, loop, steps
from cae.training.checkpoint import Checkpoints

BAD_STEPS = 5
"""Steps in a row here that change nothing, after which a run goes back; test_step.py has as many as in real runs."""


@pytest.fixture(autouse=True)
def same_calls_on_any_machine(monkeypatch):
    """From the third call on, each takes all steps that are left of an epoch, however slow the machine."""
    monkeypatch.setattr(loop, "SECONDS_PER_CALL", 1e9)


@pytest.fixture(scope="module", autouse=True)
def few_bad_steps():
    """For the module, since graph functions are traced with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MOST_IN_A_ROW", BAD_STEPS)
        patch.setattr(loop, "MOST_IN_A_ROW", BAD_STEPS)
        yield


@pytest.fixture(scope="module")
def builds():
    """Graph functions with the module's `BAD_STEPS`."""
    return fits.Builds()


@pytest.fixture
def fit(builds, source):
    """Fits as a process does that starts."""
    return lambda settings, workdir, **options: fits.fit(builds, source, settings, workdir, **options)


@pytest.fixture(scope="module")
def whole(builds, source, tmp_path_factory):
    """Runs that nobody interrupts, by settings: what each ended with, and its folder."""
    found = {}

    def find(settings):
        if settings not in found:
            workdir = tmp_path_factory.mktemp("whole")
            found[settings] = fits.fit(builds, source, settings, workdir), workdir
        return found[settings]

    return find


@pytest.fixture
def four_epochs(tiny):
    """20 images in batches of 8: epochs end after 20, 40, 60 and 80 images, in steps 3, 5, 8 and 10."""
    return dataclasses.replace(tiny, epochs=4)


def test_a_line_an_epoch_with_what_people_rely_on(whole, four_epochs):
    _, workdir = whole(four_epochs)
    assert [(line["epoch"], line["step"]) for line in lines(workdir)] == [(1, 3), (2, 5), (3, 8), (4, 10)]
    expected = {"train/loss", "train/psnr", "train/ssim", "learning_rate"} | TIMINGS
    expected |= {f"validation/{name}" for name in ("loss", "mse", "psnr", "ssim")}
    assert expected <= lines(workdir)[0].keys()


class At:
    """Asks for an end when the run looks up for the so-manieth time; a look is for either signal."""

    def __init__(self, looks):
        self.left = 2 * looks

    def __call__(self, state):
        self.left -= 1
        return signal.SIGTERM if self.left <= 0 else 0


def in_parts(fit, settings, workdir, looks):
    """Fits in tries that look up so often each; returns what the last ended with, and at which steps tries ended."""
    ended = []
    for most in looks:
        try:
            return fit(settings, workdir, asked=At(most)), ended
        except Interrupted as stop:
            assert stop.number == signal.SIGTERM
            ended.append(int(re.search(r"interrupted at step (\d+)", str(stop))[1]))


def test_a_run_that_is_interrupted_again_and_again_is_the_run(tmp_path, fit, whole, four_epochs):
    """It looks up before each call of some steps, and after each of five batches that it measures in an epoch."""
    resumed, ended = in_parts(fit, four_epochs, tmp_path, itertools.cycle([3, 9]))
    assert len(ended) > 3 and whole(four_epochs)[0].steps == resumed.steps == 10
    assert_same(whole(four_epochs)[0], resumed, whole(four_epochs)[1], tmp_path)


CHANGES = [
    {"lr_schedule": "cosine"},
    {"optimizer": "muon", "width": 16, "model": "unet"},
    {"regularizer": "acai"},
    {"model": "vae"},
    {"precision": "mixed_float16"},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_whatever_is_fitted_goes_on_as_if_nothing_had_been(tmp_path, fit, whole, four_epochs, changes):
    settings = dataclasses.replace(four_epochs, **changes)
    resumed, ended = in_parts(fit, settings, tmp_path, [8, 1000])
    assert len(ended) == 1 and 1 < ended[0] < 10
    assert_same(whole(settings)[0], resumed, whole(settings)[1], tmp_path)


def test_a_model_that_is_built_anew_goes_on_as_if_nothing_had_been(tmp_path, source, whole, four_epochs):
    """Nothing is left of what was built and traced before, as in a real process."""
    anew = lambda settings, workdir, **options: fits.fit(None, source, settings, workdir, **options)  # noqa: E731
    resumed, ended = in_parts(anew, four_epochs, tmp_path, [8, 1000])
    assert len(ended) == 1
    assert_same(whole(four_epochs)[0], resumed, whole(four_epochs)[1], tmp_path)


@pytest.mark.parametrize("changes", [{}, {"regularizer": "acai", "precision": "mixed_float16"}], ids=str)
def test_variables_that_are_given_again_are_as_new(tmp_path, builds, tiny, changes):
    """Of the other tests: no variable is left out when a process is made believe."""
    settings, strategy = dataclasses.replace(tiny, **changes), tf.distribute.get_strategy()
    for variable in fits.variables(builds.state(strategy, settings)):
        variable.assign(tf.ones_like(variable))
    given = builds.state(strategy, settings)
    fresh = build.build_state(strategy, settings, fits.IMAGE_SHAPE, 10)
    for one, other in zip(fits.variables(given), fits.variables(fresh), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    tf.train.Checkpoint(**fresh.held()).write(str(tmp_path / "all"))
    held = [name for name, _ in tf.train.list_variables(str(tmp_path / "all")) if name.endswith("VARIABLE_VALUE")]
    assert len(fits.variables(fresh)) == len(held)


@pytest.mark.parametrize("step", [1, 4, 5, 10])
def test_it_goes_on_from_any_step(tmp_path, fit, whole, four_epochs, monkeypatch, step):
    """Epochs end at steps 3, 5, 8 and 10; a call takes one step at least."""
    monkeypatch.setattr(loop, "MOST_STEPS_PER_CALL", 1)
    with pytest.raises(Interrupted, match=f"at step {step},"):
        fit(four_epochs, tmp_path, asked=lambda state: signal.SIGINT if state.steps >= step else 0)
    assert_same(whole(four_epochs)[0], fit(four_epochs, tmp_path), whole(four_epochs)[1], tmp_path)


def test_another_seed_is_another_run(tmp_path, fit, whole, four_epochs):
    """And what compares the folders of runs that were killed sees it."""
    one, workdir = whole(four_epochs)
    other = fit(dataclasses.replace(four_epochs, seed=1), tmp_path)
    assert any(not np.array_equal(a, b) for a, b in zip(one.weights, other.weights))
    assert survival.compare(workdir, workdir) == []
    assert any("weights" in each for each in survival.compare(workdir, tmp_path))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["one to two replicas", "two to one"])
def test_a_run_goes_on_with_another_number_of_replicas(tmp_path, fit, whole, four_epochs, mirrored, order):
    strategies = [tf.distribute.get_strategy(), mirrored]
    alone, workdir = whole(four_epochs)
    fit(dataclasses.replace(four_epochs, epochs=2), tmp_path, strategy=strategies[order[0]])
    resumed = fit(four_epochs, tmp_path, strategy=strategies[order[1]])
    assert resumed.steps == 10
    for one, other in zip(alone.weights, resumed.weights):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(lines(workdir), lines(tmp_path), strict=True):
        assert other["validation/mse"] == pytest.approx(one["validation/mse"], rel=1e-5)


def test_checkpoints_are_made_within_an_epoch(tmp_path, fit, tiny, monkeypatch):
    saved = []
    monkeypatch.setattr(loop.Checkpoints, "save", lambda self: saved.append(self._state.steps))
    fit(dataclasses.replace(tiny, epochs=2, checkpoint_minutes=0), tmp_path / "often")
    assert saved and set(saved) < set(range(6))
    saved.clear()
    fit(dataclasses.replace(tiny, epochs=2), tmp_path / "seldom")
    assert saved == []


def test_where_checkpoints_are_gone_nothing_starts_afresh(tmp_path, fit, tiny):
    fit(tiny, tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="its checkpoints are gone"):
        fit(tiny, tmp_path)


def test_parts_of_the_loss_and_samples_go_to_tensorboard(tmp_path, fit, whole, tiny, four_epochs):
    fit(dataclasses.replace(tiny, model="vae", beta=2.0), tmp_path, pictures=True)
    (line,) = lines(tmp_path)
    pixels = 16 * 16
    for split in ("train", "validation"):
        parts = line[f"{split}/reconstruction"] + 2 * line[f"{split}/divergence"] / pixels
        assert line[f"{split}/loss"] == pytest.approx(parts, rel=1e-4)
    shown = EventAccumulator(str(tmp_path / "tensorboard/validation"), size_guidance={"tensors": 0}).Reload()
    assert {"examples", "samples", "divergence", "reconstruction"} <= set(shown.Tags()["tensors"])
    for line in lines(whole(dataclasses.replace(four_epochs, regularizer="acai"))[1]):
        expected = line["train/reconstruction"] + 0.125 * line["train/critic_on_mixed"]
        assert line["train/loss"] == pytest.approx(expected)


def test_a_finished_run_says_so_and_stays(tmp_path, fit, tiny, capsys):
    fit(tiny, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    fit(tiny, tmp_path)
    assert "already trained for 1 epochs" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_text() == before
    fit(dataclasses.replace(tiny, epochs=2), tmp_path)
    assert "going on after epoch 1" in capsys.readouterr().out
    assert len(lines(tmp_path)) == 2


@pytest.fixture
def bad_from(source):
    """Makes batches of the data set, those of some steps being no numbers."""

    def make(settings, first, last):
        corrupt = noise.parse(settings.noise)

        def training(first_step, last_step):
            batches = pipeline.feed(source, corrupt, settings.batch_size, settings.seed).training(first_step, last_step)
            numbers = tf.data.Dataset.range(first_step, last_step)
            nothing = tf.constant(float("nan"))
            return tf.data.Dataset.zip(numbers, batches).map(
                lambda step, batch: (
                    batch | {"noisy": tf.where((step >= first) & (step < last), nothing, batch["noisy"])}
                )
            )

        return training

    return make


def test_a_bad_step_is_counted_and_the_run_goes_on(tmp_path, fit, bad_from, tiny):
    settings = dataclasses.replace(tiny, epochs=3)
    fit(settings, tmp_path, batches=bad_from(settings, 4, 5))
    # Step 4 lies in the second epoch.
    assert [line["skipped_steps"] for line in lines(tmp_path)] == [0, 1, 1]
    assert all(np.isfinite(line["train/loss"]) for line in lines(tmp_path))
    shown = EventAccumulator(str(tmp_path / "tensorboard/train"), size_guidance={"tensors": 0}).Reload()
    assert [float(tf.make_ndarray(each.tensor_proto)) for each in shown.Tensors("skipped_steps")] == [0, 1, 1]


class Passing:
    """A fault that lasts for some tries and then goes away, as one does that halving the learning rate cures."""

    def __init__(self, good, bad, tries):
        self.good, self.bad, self.tries = good, bad, tries

    def __call__(self, first_step, last_step):
        self.tries -= 1
        return (self.bad if self.tries >= 0 else self.good)(first_step, last_step)


@pytest.fixture
def six_epochs(tiny):
    """15 steps, of which those from the tenth on can be bad: a run goes back after step 14, to 8, the third epoch's."""
    return dataclasses.replace(tiny, epochs=6)


@pytest.mark.parametrize("times", [1, 3])
def test_when_it_persists_the_run_goes_back_and_learns_more_slowly(tmp_path, fit, bad_from, six_epochs, capsys, times):
    bad, good = (bad_from(six_epochs, 9, last) for last in (15, 9))
    ended = fit(six_epochs, tmp_path, batches=Passing(good, bad, times))
    assert ended.steps == 15 and ended.times_back == times
    said = f"{0.5**times:g} of the learning rate from now on, {times} of 3 times: going back to step 8"
    assert said in capsys.readouterr().out
    told = lines(tmp_path)
    assert [line["epoch"] for line in told] == list(range(1, 7))
    assert [line["learning_rate"] for line in told[2:4]] == pytest.approx([1e-3, 0.5**times * 1e-3])
    assert told[3]["skipped_steps"] == times * BAD_STEPS and told[3]["times_back"] == times


def test_in_the_end_it_is_given_up_and_what_was_saved_stays_good(tmp_path, fit, builds, bad_from, six_epochs):
    with pytest.raises(UserError, match="although the run went back 3 times; its checkpoints stay good"):
        fit(six_epochs, tmp_path, batches=bad_from(six_epochs, 9, 15))
    state = builds.state(tf.distribute.get_strategy(), six_epochs)
    assert Checkpoints(tmp_path / "checkpoints", state).restore_newest() == []
    assert state.steps > 0 and all(np.isfinite(weight).all() for weight in state.model.get_weights())


def test_a_run_that_went_back_and_was_interrupted_is_the_run(tmp_path, fit, bad_from, six_epochs):
    bad, good = (bad_from(six_epochs, 9, last) for last in (15, 9))
    whole = fit(six_epochs, tmp_path / "whole", batches=Passing(good, bad, 1))
    # Interrupted in the bad steps, and again a while after it went back.
    with pytest.raises(Interrupted, match="at step 13,"):
        fit(six_epochs, tmp_path / "parts", batches=bad, asked=At(30))
    with pytest.raises(Interrupted, match="at step 10,"):
        fit(six_epochs, tmp_path / "parts", batches=Passing(good, bad, 1), asked=At(11))
    resumed = fit(six_epochs, tmp_path / "parts", batches=good)
    assert resumed.times_back == 1
    assert_same(whole, resumed, tmp_path / "whole", tmp_path / "parts")
