import contextlib
import json
import re
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from cae import models
from cae.config import Config
from cae.training import metric_writer
from cae.training.event_files import HPARAMS_METRICS, purge_events_after
from cae.training.metric_writer import MetricWriter, config_table, image_summaries

CONFIG = {"epochs": 100, "image_summary_epochs": 100, "dataset": "mnist", "noise": None}

SCALARS = {
    "train/loss": 0.5, "validation/loss": 0.25, "validation/mse": 0.25, "validation/psnr": 20.0,
    "validation/ssim": 0.9, "images_per_second": 1000.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(metric_writer, "image_summaries", lambda *_: {})


@pytest.fixture
def state():
    """A state whose epochs have 10 steps."""
    model = types.SimpleNamespace(count_params=lambda: 1234)
    return types.SimpleNamespace(model=model, global_step=0, completed_epochs=0)


@pytest.fixture
def train_data():
    """Batches of 4 images, of which an epoch has 10."""
    batches = {"validation": iter(()), "examples": None}
    return types.SimpleNamespace(num_images=40, batch_size=4, num_steps=lambda epochs: 10 * epochs, **batches)


@pytest.fixture
def train(state, train_data):
    """Returns a function that writes some epochs, after those that were restored; it returns the open writer."""

    def write(workdir, epochs, config=CONFIG, is_chief=True):
        workdir.mkdir(exist_ok=True)
        state.completed_epochs = epochs[0] - 1
        state.global_step = 10 * state.completed_epochs
        run_config = {"config": config, "dataset": {"warning": None}}
        writer = MetricWriter(workdir, run_config, train_data, state, is_chief)
        writer.start(num_replicas=1)
        for epoch in epochs:
            state.global_step = 10 * epoch
            scalars = SCALARS | {"train/loss": float(epoch), "validation/loss": epoch / 10, "learning_rate": 0.5}
            writer.write_epoch(epoch, scalars)
            state.completed_epochs = epoch
            writer.log_epoch(epoch, scalars, is_best=True)
        return writer

    return write


def events(workdir, run, tag):
    accumulator = EventAccumulator(str(workdir / "tensorboard" / run), size_guidance={"tensors": 0})
    accumulator.Reload()
    return [(event.step, tf.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_metric_of_both_splits_shares_a_chart(tmp_path, train):
    train(tmp_path, [1, 2])
    assert events(tmp_path, "train", "epoch/loss") == [(10, 1.0), (20, 2.0)]
    assert [float(value) for _, value in events(tmp_path, "validation", "epoch/loss")] == pytest.approx([0.1, 0.2])
    assert [float(value) for _, value in events(tmp_path, "train", "epoch_rates/learning_rate")] == [0.5, 0.5]
    assert [(line["step"], line["epoch"], line["train/loss"]) for line in lines(tmp_path)] == [(10, 1, 1), (20, 2, 2)]


# --- Resuming ---------------------------------------------------------------------------------------------------------


def test_what_lies_past_the_restored_epoch_is_removed(tmp_path, train):
    train(tmp_path, [1, 2, 3])
    train(tmp_path, [2, 3])
    # Files that were created in the same second are read in no certain order.
    assert sorted(step for step, _ in events(tmp_path, "train", "epoch/loss")) == [10, 20, 30]
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3]


def test_a_run_without_a_complete_epoch_starts_with_empty_files(tmp_path, train):
    train(tmp_path, [1, 2])
    train(tmp_path, [1])
    assert [step for step, _ in events(tmp_path, "train", "epoch/loss")] == [10] and len(lines(tmp_path)) == 1
    assert len(events(tmp_path, "train", "config")) == 1


def test_a_rollback_removes_what_was_written_past_the_restored_epoch(tmp_path, train, state, capsys):
    writer = train(tmp_path, [1, 2])
    state.global_step, state.completed_epochs = 10, 1
    writer.roll_back("the loss is NaN")
    assert capsys.readouterr().out.endswith("warning: the loss is NaN: rolling back to step 10\n")
    assert [step for step, _ in events(tmp_path, "train", "epoch/loss")] == [10] and len(lines(tmp_path)) == 1
    state.global_step = 20
    writer.write_epoch(2, SCALARS)
    assert sorted(step for step, _ in events(tmp_path, "train", "epoch/loss")) == [10, 20] and len(lines(tmp_path)) == 2


def test_a_truncated_line_is_removed(tmp_path, train):
    train(tmp_path, [1])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')
    train(tmp_path, [2])
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2]


@pytest.mark.parametrize("num_bytes", [1, 5, 50])
def test_a_truncated_event_file_is_kept_up_to_the_last_complete_event(tmp_path, train, num_bytes):
    train(tmp_path, [1, 2]).close()
    for path in tmp_path.glob("tensorboard/*/*"):
        path.write_bytes(path.read_bytes()[:-num_bytes])
    train(tmp_path, [2])
    assert sorted(step for step, _ in events(tmp_path, "train", "epoch/loss")) == [10, 20]


def test_an_event_file_may_be_empty_or_corrupt(tmp_path):
    contents = {"events.out.tfevents.1": b"", "events.out.tfevents.2": bytes(100), "other": b"kept"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".events.out.tfevents.3.tmp").touch()  # Of a process that was killed.
    purge_events_after(5, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "events.out.tfevents.1": b"", "events.out.tfevents.2": b"", "other": b"kept"
    }  # fmt: skip


def test_a_full_disk_is_an_error(tmp_path, train, monkeypatch):
    """TensorFlow's writer does not report it."""

    class FullDisk:
        def __init__(self, dir):
            assert str(dir) == str(tmp_path / "tensorboard")

        def __enter__(self):
            raise OSError(28, "No space left on device")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(metric_writer.tempfile, "TemporaryFile", FullDisk)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, [1])


# --- Console ----------------------------------------------------------------------------------------------------------


def test_the_console_shows_where_a_run_starts_and_each_epoch(tmp_path, train, capsys):
    train(tmp_path, [5])
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == [
        f"1,234 parameters, 40 images in batches of 4, 1 replica; writing to {tmp_path}",
        "resuming from epoch 4 (step 40)",
    ]
    columns = "epoch 5/100  loss 5.00000  validation loss 0.50000 (best)  PSNR 20.00 dB  SSIM 0.900  1,000 images/s"
    assert printed[2].startswith(columns) and printed[2].endswith(" left") and len(printed) == 3


def test_the_time_left_is_that_of_the_steps_left(tmp_path, train, monkeypatch, capsys):
    seconds = iter([100.0, 100.0, 102.0])  # Two for an epoch of 10 steps.
    monkeypatch.setattr(metric_writer, "time", types.SimpleNamespace(monotonic=lambda: next(seconds)))
    train(tmp_path, [5])
    assert capsys.readouterr().out.endswith("  3 min 10 s left\n")  # 95 epochs.
    seconds = iter([100.0, 100.0, 102.0])
    train(tmp_path, [5], CONFIG | {"max_steps": 70})
    assert capsys.readouterr().out.endswith("  4 s left\n")


def test_corrupt_checkpoints_are_named(tmp_path, train, capsys):
    writer = train(tmp_path, [1])
    capsys.readouterr()
    writer.log_corrupt_checkpoints(["step-000000005", "step-000000004"])
    assert capsys.readouterr().out == "".join(f"skipping corrupt checkpoint step-00000000{step}\n" for step in (5, 4))
    writer.log_corrupt_checkpoints([])
    assert capsys.readouterr().out == ""


def test_a_worker_that_is_not_the_chief_writes_nothing(tmp_path, train, capsys):
    with contextlib.closing(train(tmp_path, [1, 2], is_chief=False)) as writer:
        writer.advance(3, 1, 0.5)
        writer.roll_back("the loss is NaN")
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


# --- Images and text --------------------------------------------------------------------------------------------------


def test_images_are_written_in_the_first_and_last_epoch_and_every_few(tmp_path, train, monkeypatch):
    figure = image_summaries_of("conv")["reconstructions"]
    monkeypatch.setattr(metric_writer, "image_summaries", lambda *_: {"reconstructions": figure})
    train(tmp_path, [1, 2, 3, 4, 5, 6, 7], CONFIG | {"epochs": 7, "image_summary_epochs": 3})
    found = events(tmp_path, "validation", "images/epoch/reconstructions")
    assert [step for step, _ in found] == [10, 30, 60, 70]
    width, height, png = found[0][1]
    assert tf.io.decode_png(png).shape[:2] == (int(height), int(width)) and np.std(tf.io.decode_png(png)) > 0


@pytest.mark.parametrize(
    ("epochs", "expected"), [(3, [1, 2, 3]), (25, [1, *range(3, 25, 3), 25]), (100, [1, *range(12, 97, 12), 100])]
)
def test_by_default_there_are_no_more_images_than_tensorboard_shows(
    tmp_path, train, state, monkeypatch, epochs, expected
):
    written = []
    monkeypatch.setattr(metric_writer, "image_summaries", lambda *_: written.append(state.global_step // 10) or {})
    train(tmp_path, [*range(1, epochs + 1)], CONFIG | {"epochs": epochs, "image_summary_epochs": None})
    assert written == expected and len(written) <= 10


def image_summaries_of(name, scale=0.5):
    model = models.build_model(Config(model=name, latent_dim=4, base_filters=4), (16, 16, 1))
    images = tf.random.stateless_uniform([10, 16, 16, 1], [0, 0])
    return image_summaries(model, [{"image": images, "input": images * scale}])


@pytest.mark.parametrize("scale, titles", [(0.5, ["input", "noisy input", "output"]), (1, ["input", "output"])])
def test_images_without_noise_are_shown_once(scale, titles):
    figure = image_summaries_of("conv", scale)["reconstructions"]
    assert [axes.get_title() for axes in figure.axes[: len(titles)]] == titles


def test_only_a_model_with_a_prior_has_samples_of_it():
    assert {name: set(image_summaries_of(name)) for name in ("conv", "unet", "vae")} == {
        "conv": {"reconstructions"}, "unet": {"reconstructions"}, "vae": {"reconstructions", "prior_samples"}
    }  # fmt: skip


def test_the_config_is_a_table_below_the_warning():
    text = config_table({"dataset": "mnist", "noise": None}, "this is 'digits' instead")
    assert text.startswith("**Warning: this is 'digits' instead**") and "| dataset | mnist |" in text
    assert "noise" not in text and "Warning" not in config_table({}, None)


# --- Hyperparameters --------------------------------------------------------------------------------------------------


def session_groups(logdir):
    """Returns the lines of TensorBoard's table of hyperparameters, by name."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(logdir)).Reload()
    provider = MultiplexerDataProvider(runs, str(logdir))
    backend = backend_context.Context(TBContext(logdir=str(logdir), data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        slice_size=100,
        allowed_statuses=[api_pb2.STATUS_RUNNING, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_UNKNOWN],
    )
    handler = list_session_groups.Handler(
        request_context=RequestContext(),
        backend_context=backend,
        experiment_id="",
        request=request,
    )
    return {group.name: group for group in handler.run().session_groups}


def move_an_hour_back(folder):
    """TensorBoard reads event files in the order of the second in their names, which two processes never share."""
    for path in folder.rglob("events.out.tfevents.*"):
        second = re.search(r"tfevents\.(\d+)", path.name)[1]
        path.rename(path.with_name(path.name.replace(second, str(int(second) - 3600), 1)))


def test_each_run_is_a_line_of_the_table_of_hyperparameters(tmp_path, train):
    config = CONFIG | {"latent_dim": 8, "image_size": None, "cache_dir": "/tmp"}
    train(tmp_path / "one", [1, 2], config)
    train(tmp_path / "same", [1, 2, 3], config)
    train(tmp_path / "two", [1, 2, 3, 4], config | {"latent_dim": 16, "noise": "gaussian:0.5"})
    groups = session_groups(tmp_path)
    assert set(groups) == {"one/tensorboard", "same/tensorboard", "two/tensorboard"}
    one, two = groups["one/tensorboard"], groups["two/tensorboard"]
    assert one.hparams["latent_dim"].number_value == 8 and two.hparams["latent_dim"].number_value == 16
    assert one.hparams["dataset"].string_value == "mnist" and two.hparams["noise"].string_value == "gaussian:0.5"
    assert one.hparams["noise"].string_value == "none" and not {"image_size", "cache_dir"} & set(one.hparams)
    for group, last in ((one, 2), (groups["same/tensorboard"], 3), (two, 4)):
        values = {(each.name.group, each.name.tag): each.value for each in group.metric_values}
        assert values.keys() == {(run, tag) for run, tag in HPARAMS_METRICS if run != "eval"}
        assert values["validation", "epoch/loss"] == pytest.approx(last / 10)
        assert values["validation", "epoch/psnr"] == 20


def test_a_resumed_run_is_one_line_with_its_latest_config(tmp_path, train):
    train(tmp_path / "run", [1, 2], CONFIG | {"epochs": 2})
    move_an_hour_back(tmp_path / "run" / "tensorboard")
    train(tmp_path / "run", [2, 3], CONFIG | {"epochs": 3})
    ((name, group),) = session_groups(tmp_path).items()
    assert name == "run/tensorboard" and len(group.sessions) == 1
    assert group.hparams["epochs"].number_value == 3
    values = {(each.name.group, each.name.tag): each.value for each in group.metric_values}
    assert values["validation", "epoch/loss"] == pytest.approx(0.3)
    assert len(list((tmp_path / "run" / "tensorboard").glob("events*"))) == 1
