import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cae.data import noise, pipeline, sources
from cae.errors import UserError
from cae.training import loop, objectives
from cae.training.checkpoint import Checkpoints
from cae.training.state import build_state


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


def fit(source, settings, workdir, batches=None):
    strategy = tf.distribute.get_strategy()
    feed = pipeline.feed(source, noise.parse(settings.noise), settings.batch_size, settings.seed)
    if batches:
        feed = dataclasses.replace(feed, training=batches)
    state = build_state(strategy, settings, source.image_shape, feed.steps(settings.epochs))
    record = {"settings": dataclasses.asdict(settings), "dataset": {"warning": None}}
    loop.fit(strategy, state, objectives.find(settings), feed, workdir, record)
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


@pytest.mark.parametrize(
    "changes",
    [
        {"lr_schedule": "constant"},
        {"lr_schedule": "cosine"},
        {"optimizer": "muon", "width": 16, "model": "unet"},
        {"regularizer": "acai"},
        {"model": "vae"},
    ],
    ids=str,
)
def test_a_resumed_run_is_the_run(tmp_path, source, tiny, changes):
    settings = dataclasses.replace(tiny, epochs=4, **changes)
    whole = fit(source, settings, tmp_path / "whole")
    fit(source, settings, tmp_path / "parts")
    # As if the run had been killed after two epochs: epochs end at steps 3, 5, 8 and 10.
    for step in (8, 10):
        for path in (tmp_path / "parts" / "checkpoints").glob(f"step-{step:09d}.*"):
            path.unlink()
    resumed = fit(source, settings, tmp_path / "parts")
    assert int(whole.step) == int(resumed.step) == 10
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights()):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(lines(tmp_path / "whole"), lines(tmp_path / "parts"), strict=True):
        for key in one.keys() - TIMINGS:
            assert one[key] == other[key]


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


def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(tmp_path, source, tiny):
    settings = dataclasses.replace(tiny, epochs=3)
    corrupt = noise.parse(settings.noise)

    def spoiled(first_step, last_step):
        batches = pipeline.feed(source, corrupt, settings.batch_size, settings.seed).training(first_step, last_step)
        steps = tf.data.Dataset.range(first_step, last_step)
        spoil = tf.constant(float("nan"))
        # Step 4 lies in the second epoch.
        return tf.data.Dataset.zip(steps, batches).map(
            lambda step, batch: batch | {"noisy": tf.where(step == 4, spoil, batch["noisy"])}
        )

    with pytest.raises(UserError, match="training loss is not finite at step 4"):
        fit(source, settings, tmp_path, spoiled)
    saved = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.index"))
    assert saved == ["best-000000003.index", "step-000000003.index"]
    state = build_state(tf.distribute.get_strategy(), settings, source.image_shape, 8)
    Checkpoints(tmp_path / "checkpoints", state).restore_newest()
    assert all(np.isfinite(weight).all() for weight in state.model.get_weights())
