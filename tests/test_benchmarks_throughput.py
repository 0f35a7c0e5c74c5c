"""The throughput benchmark: its cases compute the same thing, and FLOPs agree with those worked out by hand."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from cli import assert_one_line, call

from benchmarks import cases, common, flops, startup, throughput
from benchmarks.baseline_models import build_baseline
from cae import models
from cae.config import Config
from cae.errors import UserError
from cae.metrics import get_loss

MNIST = (28, 28, 1)

SMALL = ("--dataset=digits", "--base_filters=2", "--batch_size=16", "--noise=masking:0.5")


def test_flops_of_the_default_model_are_those_worked_out_by_hand():
    model = models.build_model(Config(), MNIST)
    image = tf.TensorSpec([1, *MNIST])
    # Positions times kernel, a multiply-add being two: convolutions at 14x14, strided ones at 7x7, dense layers.
    stem, block, strided, dense = 196 * 9 * 4 * 32, 196 * 9 * 32 * 32, 49 * 9 * 32 * 128, 6272 * 32
    forward = 2 * (2 * stem + 4 * block + 2 * strided + 2 * dense)
    assert flops.count_forward(model, image) == forward
    # Two gradients a layer, except for that of the images.
    assert flops.count_step(model, image, get_loss("mse")) == 3 * forward - 2 * stem


def test_flops_of_the_baseline_are_those_worked_out_by_hand():
    model = build_baseline(Config(), MNIST)
    # 1-32-64 at 14x14 and 7x7, dense 32, dense 7*7*64, 64 at 7x7, 32 at 14x14, 1 at 28x28.
    layers = 196 * 9 * 32 + 49 * 9 * 32 * 64 + 2 * 3136 * 32 + 49 * 9 * 64 * 64 + 196 * 9 * 64 * 32 + 784 * 9 * 32
    assert flops.count_forward(model, tf.TensorSpec([1, *MNIST])) == 2 * layers


def transpose_weight(weight):
    """Returns a kernel [height, width, a, b] as [b, a, height, width], a dense one [a, b] as [b, a], and a bias."""
    return np.ascontiguousarray(weight.transpose({4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]))


def test_pytorch_model_equals_the_keras_model():
    torch = pytest.importorskip("torch")
    from benchmarks import torch_model

    keras_model = models.build_model(Config(base_filters=8, latent_dim=5), MNIST)
    model = torch_model.ConvAutoencoder(MNIST, 5, 8)
    with torch.no_grad():
        for parameter, variable in zip(model.parameters(), keras_model.trainable_variables, strict=True):
            parameter.copy_(torch.from_numpy(transpose_weight(variable.numpy())))
    images, noisy = np.random.default_rng(0).random((2, 16, *MNIST), np.float32)

    with tf.GradientTape() as tape:
        keras_loss = tf.reduce_mean(tf.square(keras_model(noisy, training=True) - images))
    keras_gradients = tape.gradient(keras_loss, keras_model.trainable_variables)
    output = model(torch.from_numpy(noisy).permute(0, 3, 1, 2))
    loss = torch.mean(torch.square(output - torch.from_numpy(images).permute(0, 3, 1, 2)))
    loss.backward()

    np.testing.assert_allclose(
        output.detach().permute(0, 2, 3, 1).numpy(), keras_model(noisy, training=True).numpy(), atol=1e-5
    )
    assert loss.item() == pytest.approx(float(keras_loss), rel=1e-5)
    for parameter, keras_gradient in zip(model.parameters(), keras_gradients, strict=True):
        expected = transpose_weight(keras_gradient.numpy())
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_pytorch_rejects_configurations_without_a_counterpart():
    pytest.importorskip("torch")
    from benchmarks import torch_cases

    assert torch_cases.parse_gaussian_level("gaussian:0.5") == 0.5 and torch_cases.parse_gaussian_level(None) == 0
    for text in ("gaussian:0.1-0.5", "masking:0.5", "gaussian:0.1+masking:0.5"):
        with pytest.raises(UserError, match="Gaussian noise of one level"):
            torch_cases.parse_gaussian_level(text)
    with pytest.raises(UserError, match="--model=conv"):
        torch_cases.train(Config(model="unet"), None)


def test_table_has_ratios_to_the_training_step_and_fractions_of_the_faster_gemm(capsys):
    rates = {"train": [1.0, 2.0], "fit": [1.0, 0.5], "input_bound": [0.02, 0.01], "gemm": [1e9], "gemm_numpy": [2e9]}
    throughput.print_table(rates, 100, {"steps": 5_000_000, "forward": 1})
    lines = capsys.readouterr().out.splitlines()
    train, fit, input_bound = (
        next(line for line in lines if line.startswith(cases.CASES[name].title)) for name in list(rates)[:3]
    )
    assert lines[0] == "batches of 100, 5.0 million FLOPs per image and training step"
    assert train.split()[-5:] == ["200", "100", "1.00", "50%", "images/s"]
    assert fit.split()[-5:] == ["100", "50", "0.50", "25%", "images/s"]
    assert input_bound.split()[-2:] == ["1.00%", "2.00%"]


@pytest.mark.e2e
def test_cases_are_measured_in_processes_and_those_that_cannot_be_are_skipped(tmp_path, monkeypatch):
    starts = []
    monkeypatch.setattr(throughput, "time_first_step", lambda *flags: starts.append(flags) or 12.34)
    monkeypatch.setattr(throughput, "NUM_ROUNDS", 2)
    code, out, err = call("benchmarks.throughput", *SMALL, "--cases=train,torch", "--workdir=run", folder=tmp_path)
    assert code == 0 and err == "", err
    assert [f"round {number} of 2, per second: train " in out for number in (1, 2)] == [True] * 2
    (train,) = (line.split() for line in out.splitlines() if line.startswith("training step, with noise"))
    # The ratio of the training step to itself; no fraction where no GEMM was measured.
    fastest, slowest, ratio, unit = train[-4:]
    assert float(fastest.replace(",", "")) >= float(slowest.replace(",", "")) > 0
    assert (ratio, unit) == ("1.00", "images/s")
    # PyTorch is not installed, or has no such noise.
    reason = "PyTorch" if importlib.util.find_spec("torch") else "No module named 'torch'"
    assert f"PyTorch, eager: skipped, {reason}" in out
    # The process that is timed gets the configuration, and not --cases or --workdir.
    assert out.endswith("start to first step: 12.3 s\n") and [set(each) for each in starts] == [set(SMALL)]


def test_first_step_is_timed_in_a_new_process(tmp_path, monkeypatch):
    commands, results = [], [(0, 'a line\n{"a": 1.5, "b": 2}\n', ""), (2, "", "a traceback\nthere is no data set\n")]
    monkeypatch.setattr(
        common.subprocess,
        "run",
        lambda command, **_: commands.append(command) or subprocess.CompletedProcess(command, *results.pop(0)),
    )
    assert common.time_first_step(*SMALL) == 3.5
    with pytest.raises(UserError, match=r"^there is no data set$"):
        common.time_first_step(*SMALL)
    assert commands.pop() and commands == [[sys.executable, "-m", "benchmarks.first_step", *SMALL]]
    code, out, err = call("benchmarks.first_step", *SMALL, folder=tmp_path)
    pieces = json.loads(out)
    assert (code, err) == (0, "") and len(pieces) == 6 and all(seconds >= 0 for seconds in pieces.values())


def test_pieces_of_a_start_are_medians_over_processes(tmp_path, monkeypatch):
    starts = iter([{"a": 99.0, "b": 99.0}, {"a": 3.0, "b": 1.0}, {"a": 1.0, "b": 6.0}, {"a": 2.0, "b": 5.0}])
    monkeypatch.setattr(startup, "time_pieces", lambda *words: next(starts))
    code, out, err = call("benchmarks.startup", *SMALL, "--starts=3", "--json=pieces.json", folder=tmp_path)
    assert (code, err) == (0, "")
    # The first start is not counted; the sums are 4, 7 and 7.
    assert [line.split() for line in out.splitlines()[1:]] == [
        ["a", "2.00", "1.00"], ["b", "5.00", "1.00"], ["in", "all", "7.00", "4.00"],
    ]  # fmt: skip
    assert json.loads((tmp_path / "pieces.json").read_text())[2] == {"piece": "in all", "median s": 7, "fastest s": 4}


def test_cases_return_rates():
    config = Config(dataset="digits", base_filters=2, batch_size=16, noise="masking:0.5")
    # Seconds of waiting per second.
    assert 0 < cases.make_round(cases.CASES["input_bound"], config)() < 1
    assert cases.make_round(cases.CASES["gemm_numpy"], config)() > 0
    # 2048 products and sums for each of 2048 x 2048 elements.
    assert flops.GEMM_FLOPS == 2 * 2048**3


@pytest.mark.parametrize(
    "words, message", [(["--cases=torhc"], "unknown --cases 'torhc'"), (["--base_filters=0"], "--base_filters=0")]
)
def test_bad_flags_are_reported_in_one_line(words, message, tmp_path):
    assert_one_line(call("benchmarks.throughput", *words, folder=tmp_path), message)
