import re

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from cae.report import figures
from cae.report.page import Section
from cae.report.projector import Projection
from cae.training.summaries import METRICS, Summaries, settings_table, write_evaluation


def events(workdir, run, tag):
    accumulator = EventAccumulator(str(workdir / "tensorboard" / run), size_guidance={"tensors": 0})
    accumulator.Reload()
    return [(event.step, tf.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]


def write(workdir, steps, restored=0):
    """Writes epochs that end at these steps, after the one that ended at the step that was restored."""
    summaries = Summaries(workdir, restored // 10, restored)
    for epoch, step in enumerate(steps, start=1 + restored // 10):
        summaries.scalars(step, epoch, {"train/loss": step / 10, "validation/loss": step / 100, "learning_rate": 0.5})
    summaries.flush()
    return summaries


def test_the_same_quantity_of_both_runs_shares_a_chart(tmp_path):
    write(tmp_path, [10, 20])
    assert [(step, float(value)) for step, value in events(tmp_path, "train", "loss")] == [(10, 1.0), (20, 2.0)]
    assert [float(value) for _, value in events(tmp_path, "validation", "loss")] == pytest.approx([0.1, 0.2])
    assert [float(value) for _, value in events(tmp_path, "train", "learning_rate")] == [0.5, 0.5]


def test_what_lies_past_the_restored_step_is_not_shown_twice(tmp_path):
    write(tmp_path, [10, 20, 30])
    write(tmp_path, [20, 30], restored=10)
    # Files that were begun in the same second are read in no certain order.
    assert sorted(step for step, _ in events(tmp_path, "train", "loss")) == [10, 20, 30]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_line_that_was_cut_off_goes(tmp_path):
    write(tmp_path, [10])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')
    write(tmp_path, [20], restored=10)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_an_event_file_that_was_cut_off_can_be_gone_on_from(tmp_path):
    write(tmp_path, [10, 20])
    for path in tmp_path.glob("tensorboard/train/*"):
        path.write_bytes(path.read_bytes()[:-5])
    write(tmp_path, [20], restored=10)
    assert sorted(step for step, _ in events(tmp_path, "train", "loss")) == [10, 20]


def test_a_picture_can_be_read_back(tmp_path, random):
    images = random.random((2, 12, 12, 1))
    summaries = write(tmp_path, [1])
    summaries.picture(1, "examples", figures.display({"input": images, "output": images}, random.random((2, 5))))
    summaries.flush()
    ((step, (width, height, png)),) = events(tmp_path, "validation", "examples")
    assert step == 1 and tf.io.decode_png(png).shape[:2] == (int(height), int(width))
    assert np.std(tf.io.decode_png(png)) > 0


def test_the_settings_stand_under_the_warning(tmp_path):
    text = settings_table({"dataset": "mnist", "noise": None}, "this is 'digits' instead")
    assert text.startswith("**Warning: this is 'digits' instead**") and "| dataset | mnist |" in text
    assert "noise" not in text and "Warning" not in settings_table({}, None)


def evaluated(name, random, results):
    picture = figures.display({"a": random.random((2, 12, 12, 1)), "b": random.random((2, 12, 12, 1))}, None)
    projection = Projection(random.normal(size=(4, 2)), random.random((4, 8, 8, 1)), list("abcd"))
    return Section(name, "A title", results=results, figures={"seen": ("A caption", picture)}, projection=projection)


def test_what_a_task_found_out_is_a_run_of_its_own(tmp_path, random):
    write(tmp_path, [10])
    before = sorted((tmp_path / "tensorboard").rglob("*"))
    found = {"mse": 0.25, "images": 8, "name": "x", "good": True, "none": None, "by_class": [1]}
    folder = write_evaluation(tmp_path, 7, evaluated("latents", random, found))
    assert folder == tmp_path / "tensorboard" / "evaluation" / "latents"
    assert [(step, float(value)) for step, value in events(tmp_path, "evaluation/latents", "latents/mse")] == [
        (7, 0.25)
    ]
    ((step, picture),) = events(tmp_path, "evaluation/latents", "seen")
    assert step == 7 and tf.io.decode_png(picture[2]).shape[:2] == (int(picture[1]), int(picture[0]))
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    assert set(accumulator.Tags()["tensors"]) == {"latents/mse", "latents/images", "seen"}
    assert (folder / "projector_config.pbtxt").exists()
    assert set(before) < set((tmp_path / "tensorboard").rglob("*"))


def test_an_evaluation_takes_the_place_of_the_same_task_s_alone(tmp_path, random):
    write_evaluation(tmp_path, 7, evaluated("latents", random, {"mse": 0.25, "old": 1.0}))
    write_evaluation(tmp_path, 7, evaluated("denoise", random, [{"mse": 3.0}]))
    bare = Section("latents", "A title", results={"mse": 0.5})
    folder = write_evaluation(tmp_path, 9, bare)
    assert [(step, float(value)) for step, value in events(tmp_path, "evaluation/latents", "latents/mse")] == [(9, 0.5)]
    assert len(list(folder.iterdir())) == 1
    assert len(events(tmp_path, "evaluation/denoise", "seen")) == 1


def session_groups(logdir):
    """What TensorBoard's table of hyperparameters holds."""
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


def fitted(workdir, settings, steps, restored=0):
    summaries = Summaries(workdir, restored // 10, restored)
    summaries.hyperparameters(settings)
    for epoch, step in enumerate(steps, start=1 + restored // 10):
        summaries.scalars(step, epoch, {f"validation/{name}": n + step for n, name in enumerate(METRICS)})
    summaries.flush()


def an_hour_earlier(folder):
    """TensorBoard reads event files in the order of the second in their names, which two tries never share."""
    for path in folder.rglob("events.out.tfevents.*"):
        second = re.search(r"tfevents\.(\d+)", path.name)[1]
        path.rename(path.with_name(path.name.replace(second, str(int(second) - 3600), 1)))


def test_each_run_is_a_line_of_the_table_of_hyperparameters_with_its_metrics(tmp_path):
    settings = {"dataset": "mnist", "latent_dim": 8, "learning_rate": 1e-3, "noise": None, "image_size": None}
    fitted(tmp_path / "one", settings, [10, 20])
    fitted(tmp_path / "same", settings, [30])
    fitted(tmp_path / "two", settings | {"latent_dim": 16, "noise": "gaussian:0.5"}, [40])
    groups = session_groups(tmp_path)
    assert set(groups) == {"one/tensorboard", "same/tensorboard", "two/tensorboard"}
    one, two = groups["one/tensorboard"], groups["two/tensorboard"]
    assert one.hparams["latent_dim"].number_value == 8 and two.hparams["latent_dim"].number_value == 16
    assert one.hparams["dataset"].string_value == "mnist" and two.hparams["noise"].string_value == "gaussian:0.5"
    assert "noise" not in one.hparams
    for group, last in ((one, 20), (groups["same/tensorboard"], 30), (two, 40)):
        values = {(each.name.group, each.name.tag): each.value for each in group.metric_values}
        assert values == {
            ("validation", "loss"): last,
            ("validation", "mse"): last + 1,
            ("validation", "psnr"): last + 2,
        }


def test_a_resumed_run_is_one_line_with_the_settings_of_the_last_try(tmp_path):
    fitted(tmp_path / "run", {"epochs": 1}, [10, 20])
    an_hour_earlier(tmp_path / "run" / "tensorboard")
    fitted(tmp_path / "run", {"epochs": 3}, [20, 30], restored=10)
    ((name, group),) = session_groups(tmp_path).items()
    assert name == "run/tensorboard" and len(group.sessions) == 1
    assert group.hparams["epochs"].number_value == 3
    assert {each.name.tag: each.value for each in group.metric_values}["loss"] == 30
    assert len(list((tmp_path / "run" / "tensorboard").glob("events*"))) == 1
