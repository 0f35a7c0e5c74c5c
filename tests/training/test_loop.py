import dataclasses
import itertools
import json
import re
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cae.data import noise, pipeline, sources
from cae.errors import UserError
from cae.interrupts import Interrupted
from cae.training import loop, objectives
from cae.training.build import build_state
from cae.training.checkpoint import Checkpoints
from cae.training.steps import MOST_IN_A_ROW


@pytest.fixture
def source(random):
    """A data set of 40 images, in which fitting takes no time."""
    images = random.integers(0, 256, (40, 16, 16, 1), np.uint8)
    cut = {"train": slice(0, 20), "validation": slice(20, 30), "calibration": slice(30, 35), "test": slice(35, 40)}
    return sources.Source(
        name="made up",
        image_shape=(16, 16, 1),
        class_names=(),
        splits={name: sources.Split(len(images[part]), "made") for name, part in cut.items()},
        read=lambda split: (images[cut[split]], np.zeros(len(images[cut[split]]), np.int64)),
    )


def fit(source, settings, workdir, batches=None, asked=lambda: 0, strategy=None):
    strategy = strategy or tf.distribute.get_strategy()
    feed = pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)
    if batches:
        feed = dataclasses.replace(feed, training=batches)
    state = build_state(strategy, settings, source.image_shape, feed.steps(settings.epochs))
    record = {"settings": dataclasses.asdict(settings), "dataset": {"warning": None}}
    workdir.mkdir(exist_ok=True)
    loop.fit(strategy, state, objectives.find(settings), feed, workdir, record, asked)
    return state


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


TIMINGS = {"seconds", "images_per_second", "memory_mib"}


def test_a_line_an_epoch_with_what_people_rely_on(tmp_path, source, tiny):
    fit(source, dataclasses.replace(tiny, epochs=3), tmp_path)
    # 20 images in batches of 8: epochs end after 20, 40 and 60 images, in steps 3, 5 and 8.
    assert [(line["epoch"], line["step"]) for line in lines(tmp_path)] == [(1, 3), (2, 5), (3, 8)]
    expected = {"train/loss", "train/psnr", "train/ssim", "learning_rate"} | TIMINGS
    expected |= {f"validation/{name}" for name in ("loss", "mse", "psnr", "ssim")}
    assert expected <= lines(tmp_path)[0].keys()


CHANGES = [
    {"lr_schedule": "constant"},
    {"lr_schedule": "cosine"},
    {"optimizer": "muon", "width": 16, "model": "unet"},
    {"regularizer": "acai"},
    {"model": "vae"},
    {"precision": "mixed_float16"},
]


@pytest.fixture(params=CHANGES, ids=str)
def settings(request, tiny):
    yield dataclasses.replace(tiny, epochs=4, **request.param)
    keras.config.set_dtype_policy("float32")


def variables(state):
    """All that a state holds: weights, slots, the loss scale, counts and sums."""
    players = [state, *([state.critic] if state.critic else [])]
    own = [value for value in [*vars(state).values(), *vars(state.tally).values()] if isinstance(value, tf.Variable)]
    return [each for player in players for each in (*player.model.variables, *player.optimizer.variables)] + own


def assert_same(one, other, *workdirs):
    """The same to the last bit, and so is what was written, but for its timings."""
    for a, b in zip(variables(one), variables(other), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in zip(*map(lines, workdirs), strict=True):
        assert {key: a[key] for key in a.keys() - TIMINGS} == {key: b[key] for key in b.keys() - TIMINGS}


class At:
    """Asks for an end when the run looks up for the so-manieth time."""

    def __init__(self, looks):
        self.left = looks

    def __call__(self):
        self.left -= 1
        return signal.SIGTERM if self.left <= 0 else 0


def in_parts(source, settings, workdir, looks):
    """Fits in tries that look up so often each; returns the state, and the steps at which tries ended."""
    ended = []
    for most in looks:
        try:
            # A look is for either signal.
            return fit(source, settings, workdir, asked=At(2 * most)), ended
        except Interrupted as stop:
            assert stop.number == signal.SIGTERM
            ended.append(int(re.search(r"interrupted at step (\d+)", str(stop))[1]))


def test_a_run_that_is_interrupted_again_and_again_is_the_run(tmp_path, source, tiny):
    """It looks up before each call of some steps, and after each batch that it measures."""
    settings = dataclasses.replace(tiny, epochs=4)
    whole = fit(source, settings, tmp_path / "whole")
    resumed, ended = in_parts(source, settings, tmp_path / "parts", itertools.cycle([2, 5, 7]))
    assert len(ended) > 3 and whole.steps == resumed.steps == 10
    assert_same(whole, resumed, tmp_path / "whole", tmp_path / "parts")


def test_whatever_is_fitted_goes_on_as_if_nothing_had_been(tmp_path, source, settings):
    whole = fit(source, settings, tmp_path / "whole")
    resumed, ended = in_parts(source, settings, tmp_path / "parts", [8, 1000])
    assert len(ended) == 1 and 1 < ended[0] < 10
    assert_same(whole, resumed, tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("step", [1, 4, 5, 10])
def test_it_goes_on_from_any_step(tmp_path, source, tiny, step):
    """Epochs end at steps 3, 5, 8 and 10; a call takes one step at least."""
    settings = dataclasses.replace(tiny, epochs=4)
    whole = fit(source, settings, tmp_path / "whole")

    class AtStep:
        def __init__(self):
            self.state = None

        def __call__(self):
            return signal.SIGINT if self.state and self.state.steps >= step else 0

    asked = AtStep()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "MOST_STEPS_PER_CALL", 1)
        build = loop.Fitting.__init__

        def noting(self, strategy, state, *rest):
            asked.state = state
            build(self, strategy, state, *rest)

        patch.setattr(loop.Fitting, "__init__", noting)
        with pytest.raises(Interrupted, match=f"at step {step}"):
            fit(source, settings, tmp_path / "parts", asked=asked)
    assert_same(whole, fit(source, settings, tmp_path / "parts"), tmp_path / "whole", tmp_path / "parts")


def test_another_seed_is_another_run(tmp_path, source, tiny):
    one, other = (fit(source, dataclasses.replace(tiny, seed=seed), tmp_path / str(seed)) for seed in (0, 1))
    assert any(not np.array_equal(a, b) for a, b in zip(one.model.get_weights(), other.model.get_weights()))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["one to two replicas", "two to one"])
def test_a_run_goes_on_with_another_number_of_replicas(tmp_path, source, tiny, mirrored, order):
    strategies = [tf.distribute.get_strategy(), mirrored]
    settings = dataclasses.replace(tiny, epochs=4)
    whole = fit(source, settings, tmp_path / "whole")
    fit(source, dataclasses.replace(settings, epochs=2), tmp_path / "parts", strategy=strategies[order[0]])
    resumed = fit(source, settings, tmp_path / "parts", strategy=strategies[order[1]])
    assert resumed.steps == 10
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights()):
        np.testing.assert_allclose(one, other, atol=1e-6)
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        assert other["validation/mse"] == pytest.approx(one["validation/mse"], rel=1e-5)


def test_checkpoints_are_made_within_an_epoch(tmp_path, source, tiny, monkeypatch):
    saved = []
    monkeypatch.setattr(loop.Checkpoints, "save", lambda self: saved.append(self._state.steps))
    fit(source, dataclasses.replace(tiny, epochs=2, checkpoint_minutes=0), tmp_path / "often")
    assert saved and set(saved) < set(range(6))
    saved.clear()
    fit(source, dataclasses.replace(tiny, epochs=2), tmp_path / "seldom")
    assert saved == []


def test_where_checkpoints_are_gone_nothing_starts_afresh(tmp_path, source, tiny):
    fit(source, tiny, tmp_path)
    for path in (tmp_path / "checkpoints").iterdir():
        path.unlink()
    with pytest.raises(UserError, match="its checkpoints are gone"):
        fit(source, tiny, tmp_path)


def test_parts_of_the_loss_and_samples_go_to_tensorboard(tmp_path, source, tiny):
    fit(source, dataclasses.replace(tiny, model="vae", beta=2.0), tmp_path / "vae")
    (line,) = lines(tmp_path / "vae")
    pixels = 16 * 16
    for split in ("train", "validation"):
        parts = line[f"{split}/reconstruction"] + 2 * line[f"{split}/divergence"] / pixels
        assert line[f"{split}/loss"] == pytest.approx(parts, rel=1e-4)
    shown = EventAccumulator(str(tmp_path / "vae/tensorboard/validation"), size_guidance={"tensors": 0}).Reload()
    assert {"examples", "samples", "divergence", "reconstruction"} <= set(shown.Tags()["tensors"])
    fit(source, dataclasses.replace(tiny, regularizer="acai"), tmp_path / "acai")
    (line,) = lines(tmp_path / "acai")
    assert line["train/loss"] == pytest.approx(line["train/reconstruction"] + 0.125 * line["train/critic_on_mixed"])


def test_a_finished_run_says_so_and_stays(tmp_path, source, tiny, capsys):
    fit(source, tiny, tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text()
    fit(source, tiny, tmp_path)
    assert "already trained for 1 epochs" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_text() == before
    fit(source, dataclasses.replace(tiny, epochs=2), tmp_path)
    assert "going on after epoch 1" in capsys.readouterr().out
    assert len(lines(tmp_path)) == 2


def bad_from(source, settings, first, last):
    """Batches of a data set, those of some steps being no numbers."""
    corrupt = noise.parse(settings.noise)

    def training(first_step, last_step):
        batches = pipeline.feed(source, corrupt, settings.batch_size, settings.seed).training(first_step, last_step)
        steps = tf.data.Dataset.range(first_step, last_step)
        return tf.data.Dataset.zip(steps, batches).map(
            lambda step, batch: (
                batch | {"noisy": tf.where((step >= first) & (step < last), tf.constant(float("nan")), batch["noisy"])}
            )
        )

    return training


def test_a_bad_step_is_counted_and_the_run_goes_on(tmp_path, source, tiny):
    settings = dataclasses.replace(tiny, epochs=3)
    fit(source, settings, tmp_path, bad_from(source, settings, 4, 5))
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


@pytest.mark.parametrize("times", [1, 3])
def test_when_it_persists_the_run_goes_back_and_learns_more_slowly(tmp_path, source, tiny, capsys, times):
    settings = dataclasses.replace(tiny, epochs=20)
    bad, good = (bad_from(source, settings, 9, last) for last in (50, 9))
    state = fit(source, settings, tmp_path, Passing(good, bad, times))
    assert state.steps == 50 and int(state.times_back) == times
    # The third epoch ended at step 8.
    said = f"{0.5**times:g} of the learning rate from now on, {times} of 3 times: going back to step 8"
    assert said in capsys.readouterr().out
    told = lines(tmp_path)
    assert [line["epoch"] for line in told] == list(range(1, 21))
    assert [line["learning_rate"] for line in told[2:4]] == pytest.approx([1e-3, 0.5**times * 1e-3])
    assert told[3]["skipped_steps"] == times * MOST_IN_A_ROW and told[3]["times_back"] == times


def test_in_the_end_it_is_given_up_and_what_was_saved_stays_good(tmp_path, source, tiny):
    settings = dataclasses.replace(tiny, epochs=20)
    with pytest.raises(UserError, match="although the run went back 3 times; its checkpoints stay good"):
        fit(source, settings, tmp_path, bad_from(source, settings, 9, 50))
    state = build_state(tf.distribute.get_strategy(), settings, source.image_shape, 8)
    assert Checkpoints(tmp_path / "checkpoints", state).restore_newest() == []
    assert all(np.isfinite(weight).all() for weight in state.model.get_weights())


def test_a_run_that_went_back_and_was_interrupted_is_the_run(tmp_path, source, tiny):
    settings = dataclasses.replace(tiny, epochs=20)
    bad, good = (bad_from(source, settings, 9, last) for last in (50, 9))
    whole = fit(source, settings, tmp_path / "whole", Passing(good, bad, 1))
    # Interrupted in the bad steps, and again a while after it went back.
    with pytest.raises(Interrupted):
        fit(source, settings, tmp_path / "parts", bad, asked=At(2 * 35))
    with pytest.raises(Interrupted):
        fit(source, settings, tmp_path / "parts", Passing(good, bad, 1), asked=At(2 * 110))
    resumed = fit(source, settings, tmp_path / "parts", good)
    assert int(resumed.times_back) == 1
    assert_same(whole, resumed, tmp_path / "whole", tmp_path / "parts")
