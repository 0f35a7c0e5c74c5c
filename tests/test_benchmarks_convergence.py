"""The convergence benchmark, fault injection, and the soak test."""

import json
import time

import pytest
import tensorflow as tf
from cli import assert_one_line, call

from benchmarks import convergence, fault_injection, soak
from benchmarks.baseline_models import build_baseline, build_keras_example
from benchmarks.convergence import Progress
from benchmarks.stepper import Stepper
from cae.config import Config
from cae.data import datasets

MNIST = (28, 28, 1)

QUICK = ("--dataset=digits", "--image_size=12", "--base_filters=2", "--latent_dim=2", "--batch_size=256")


def test_baseline_models_have_the_published_numbers_of_weights():
    baseline = build_baseline(Config(), MNIST)
    assert baseline.count_params() == 278_369
    output = 100 * baseline(tf.random.stateless_uniform([2, *MNIST], [0, 0]))
    assert output.shape == (2, *MNIST) and float(tf.reduce_min(output)) >= 0
    example = build_keras_example()
    assert example(tf.zeros([2, *MNIST])).shape == (2, *MNIST) and example.count_params() == 28_353


def test_first_step_counts_as_long_as_the_mean_of_the_others(monkeypatch):
    stepper = Stepper.__new__(Stepper)
    stepper.num_steps, stepper.tracing_seconds, stepper._other_seconds = 0, 0.0, 0.0
    clock = iter([0.0, 50.0, 50.0, 56.4, 56.4, 63.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    stepper._batches, loops = None, []
    stepper._train_steps = lambda _, count: (loops.append(int(count)) or {"loss": 0.0}, None)
    stepper.run(65)
    # Tracing takes 50 s, and 64 steps 13 s, of which 65 take 65 / 64.
    assert loops == [1, 32, 32]
    assert stepper.tracing_seconds == 50 and stepper.seconds == pytest.approx(13 * 65 / 64)


def test_recipes_are_trained_in_turn_and_evaluated_on_the_test_split_at_the_end(tmp_path):
    words = ("--recipes=baseline,conv", "--epochs=1", "--baseline_epochs=2", "--figure=figure.png", "--json=rows.json")
    code, out, err = call("benchmarks.convergence", *QUICK, *words, folder=tmp_path)
    assert code == 0 and err == "", err
    rows = [line.split() for line in out.splitlines()[2:]]
    names = [row[0] for row in rows]
    assert names == ["baseline", "conv", "baseline", "conv,", "baseline,"]
    # Two epochs of 1,285 images are 11 batches of 256, the half of which is 5.
    assert [row[3] for row in rows if row[0] == "baseline"] == ["5", "11"]
    assert (tmp_path / "figure.png").stat().st_size > 1000
    written = json.loads((tmp_path / "rows.json").read_text())
    assert [f"{row['steps']}" for row in written] == [row[-8] for row in rows] and written[0]["mse"] > 0


def test_models_are_trained_for_the_same_time(tmp_path):
    words = ("--recipes=baseline_tuned", "--seconds=0.2")
    code, out, err = call("benchmarks.convergence", *QUICK, *words, folder=tmp_path)
    assert code == 0 and err == "", err
    _, _, row, test_row = (line.split() for line in out.splitlines())
    assert row[0] == "baseline_tuned" and int(row[3]) % 10 == 1 and test_row[:2] == ["baseline_tuned,", "test"]


def test_time_is_compared_with_the_median_epoch_of_the_keras_example(capsys):
    example = [Progress(None, n, n, seconds, 9.0) for n, seconds in enumerate((3.0, 5.0, 8.0), start=1)]
    convergence.compare_with_published(
        {"keras_example": example, "unet": [Progress(None, 1, 1, 8.0, 1.0), Progress(None, 2, 2, 10.0, 2.0, 0.08)]}
    )
    # Epochs took 3, 2 and 3 seconds, so that 150 take 450; 10 seconds and 2 of tracing are 1/37.5 of that.
    first, second = capsys.readouterr().out.splitlines()
    assert "450 s" in first and second == "unet: loss 0.0800 in 12 s with tracing, 1/38 of that"


def test_keras_example_is_trained_by_fit():
    config = Config(dataset="digits", seed=3)
    points = [*convergence.train_keras_example(config, datasets.open_dataset(config), epochs=1)]
    assert [(point.epochs, point.steps) for point in points] == [(1, 11)]
    assert points[0].seconds > 0 and points[0].model.count_params() == 28_353


@pytest.mark.parametrize(
    "words, message",
    [
        (["--recipes=cnov"], "unknown --recipes 'cnov' (did you mean 'conv'?)"),
        (["--regularizer=acai"], "--regularizer=acai is not supported"),
        (["--recipes=keras_example", "--seconds=1"], "--seconds is not supported by keras_example"),
        (["--recipes=baseline", "--seconds=1"], "--seconds is not supported by baseline"),
    ],
)
def test_recipes_that_cannot_be_trained_are_reported_in_one_line(words, message, tmp_path):
    assert_one_line(call("benchmarks.convergence", *words, folder=tmp_path), message)


def test_soak_test_traces_the_step_once(monkeypatch):
    # There is more to collect in a process of many tests than in one of its own.
    monkeypatch.setattr(soak.gc, "collect", lambda: 0)
    config = Config(dataset="digits", base_filters=2, latent_dim=2, batch_size=8, max_steps=100)
    num_traces, memory_mib = soak.run_steps(config)
    assert num_traces == 1 and len(memory_mib) == 10 and min(memory_mib) > 0


def test_soak_test_prints_growth_after_the_first_tenth(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "run_steps", lambda config: (1, [100.0] * 9 + [102.5]))
    code, out, _ = call("benchmarks.soak", "--max_steps=50", "--json=soak.json", folder=tmp_path)
    assert code == 0 and out.splitlines()[0].split() == ["step", "5", "100.0", "MiB"]
    assert out.endswith("50 steps: traces: 1; memory grew by 2.50% after the first tenth\n")
    expected = {"steps": 50, "traces": 1, "first MiB": 100.0, "last MiB": 102.5}
    assert json.loads((tmp_path / "soak.json").read_text()) == [expected]
    assert_one_line(call("benchmarks.soak", "--max_steps=5", folder=tmp_path), "--max_steps=5 must be at least 10")


def test_fault_injection_counts_kills_and_fails_where_a_run_differs(tmp_path, monkeypatch):
    trials = [fault_injection.Trial(1), fault_injection.Trial(3, kills_in_save=2), fault_injection.Trial(1)]
    monkeypatch.setattr(fault_injection, "run_uninterrupted", lambda workdir, *more_flags: 1.0)
    monkeypatch.setattr(fault_injection, "compare", lambda workdir, other: ["weights", "metrics.jsonl"])
    monkeypatch.setattr(fault_injection, "run_trials", lambda *arguments: trials)
    words = ("benchmarks.fault_injection", "--trials=3", "--json=counts.json")
    code, out, _ = call(*words, folder=tmp_path)
    assert code == 0 and "3 of 3 ended bit-equal; 5 kills, 1 trials with one during a save" in out
    expected = {"trials": 3, "bit-equal": 3, "kills": 5, "killed in a save": 1, "different with another seed": 2}
    assert json.loads((tmp_path / "counts.json").read_text()) == [expected]
    trials[0].differences = ("weights",)
    assert call(*words, folder=tmp_path)[0] == 1
    assert json.loads((tmp_path / "counts.json").read_text())[0]["bit-equal"] == 2
