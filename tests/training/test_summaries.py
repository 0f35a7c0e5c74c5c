import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cae.report import figures
from cae.training.summaries import Summaries, settings_table


def events(workdir, run, tag):
    accumulator = EventAccumulator(str(workdir / "tensorboard" / run), size_guidance={"tensors": 0})
    accumulator.Reload()
    return [(event.step, tf.make_ndarray(event.tensor_proto)) for event in accumulator.Tensors(tag)]


def write(workdir, steps, restored=0):
    summaries = Summaries(workdir, restored)
    for epoch, step in enumerate(steps, start=1):
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
    assert [step for step, _ in events(tmp_path, "train", "loss")] == [10, 20, 30]
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
    assert [step for step, _ in events(tmp_path, "train", "loss")] == [10, 20]


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
