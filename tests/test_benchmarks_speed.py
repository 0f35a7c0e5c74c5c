"""What the speed benchmarks compare is the same thing, and what they count can be worked out by hand."""

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest
import tensorflow as tf
from programs import assert_one_line, call

from benchmarks import blocks, endurance, flops, rows, speed
from cae import models
from cae.config import Config
from cae.data import sources
from cae.errors import UserError
from cae.metrics import find_loss

MNIST = (28, 28, 1)

SMALL = ("--dataset=digits", "--width=2", "--batch_size=16", "--noise=mask:0.5")


def test_operations_of_the_default_model_are_those_worked_out_by_hand():
    model = models.build(Config(), MNIST)
    one = tf.TensorSpec([1, *MNIST])
    # Places times kernel, a multiply-add being two: convolutions at 14x14, strided ones at 7x7, dense layers.
    stem, block, strided, dense = 196 * 9 * 4 * 32, 196 * 9 * 32 * 32, 49 * 9 * 32 * 128, 6272 * 32
    forward = 2 * (2 * stem + 4 * block + 2 * strided + 2 * dense)
    assert flops.of_forward(model, one) == forward
    # Two gradients a layer, but for the one of the images.
    assert flops.of_step(model, one, find_loss("mse")) == 3 * forward - 2 * stem


def test_the_plain_model_is_the_one_that_is_written_down_first():
    model = blocks.plain(Config(), MNIST)
    assert model.count_params() == 278_369
    assert model(tf.zeros([2, *MNIST])).shape == (2, *MNIST)
    # 1-32-64 at 14x14 and 7x7, dense 32, dense 7*7*64, 64 at 7x7, 32 at 14x14, 1 at 28x28.
    layers = 196 * 9 * 32 + 49 * 9 * 32 * 64 + 2 * 3136 * 32 + 49 * 9 * 64 * 64 + 196 * 9 * 64 * 32 + 784 * 9 * 32
    assert flops.of_forward(model, tf.TensorSpec([1, *MNIST])) == 2 * layers


def test_pytorchs_model_is_ours():
    torch = pytest.importorskip("torch")
    from benchmarks import torch_conv

    ours = models.build(Config(width=8, latent_dim=5), MNIST)
    theirs = torch_conv.ConvAutoencoder(MNIST, 5, 8)
    torch_conv.copy_weights([each.numpy() for each in ours.trainable_variables], theirs)
    images, noisy = np.random.default_rng(0).random((2, 16, *MNIST), np.float32)

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(ours(noisy, training=True) - images))
    gradients = tape.gradient(loss, ours.trainable_variables)
    output = theirs(torch.from_numpy(noisy).permute(0, 3, 1, 2))
    their_loss = torch.mean(torch.square(output - torch.from_numpy(images).permute(0, 3, 1, 2)))
    their_loss.backward()

    np.testing.assert_allclose(
        output.detach().permute(0, 2, 3, 1).numpy(), ours(noisy, training=True).numpy(), atol=1e-5
    )
    assert their_loss.item() == pytest.approx(float(loss), rel=1e-5)
    for parameter, gradient in zip(theirs.parameters(), gradients, strict=True):
        wanted = torch_conv.in_torch_axes(gradient.numpy())
        np.testing.assert_allclose(parameter.grad.numpy(), wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_the_table_has_ratios_to_our_step_and_shares_of_the_faster_product():
    rates = {"ours": [1.0, 2.0], "fit": [1.0, 0.5], "waiting": [0.02, 0.01], "product": [1e9], "product_numpy": [2e9]}
    lines = speed.table(rates, Config(batch_size=100), {"steps": 5_000_000, "forward": 1})
    ours, fit, waiting = (
        next(line for line in lines if line.startswith(rows.ROWS[name].title)) for name in list(rates)[:3]
    )
    assert ours.split()[-5:] == ["200", "100", "1.00", "50%", "images/s"]
    assert fit.split()[-5:] == ["100", "50", "0.50", "25%", "images/s"]
    assert waiting.split()[-2:] == ["1.00%", "2.00%"]


def test_rows_are_checked_and_come_in_the_tables_order():
    assert rows.check(["product", "ours"]) == ["ours", "product"]
    assert rows.check([]) == list(rows.ROWS)
    with pytest.raises(UserError, match="--rows: 'torhc' is not known"):
        rows.check(["torhc"])


def test_a_long_run_is_traced_once(monkeypatch):
    # There is more to collect in a process of many tests than in one of its own.
    monkeypatch.setattr(endurance.gc, "collect", lambda: 0)
    traces, memories = endurance.endure(Config(dataset="digits", width=2, latent_dim=2, batch_size=8), 100)
    assert traces == 1 and len(memories) == 10 and min(memories) > 0


@pytest.mark.e2e
def test_a_real_run_measures_and_says_what_it_leaves_out(tmp_path, monkeypatch):
    starts = []
    monkeypatch.setattr(speed, "start_to_first_step", lambda words: starts.append(words) or 12.34)
    code, out, err = call("benchmarks.speed", *SMALL, "--rows=ours,torch_eager", "--workdir=run", folder=tmp_path)
    assert code == 0 and err == "", err
    assert [f"round {number} of 3, each in a second: ours " in out for number in (1, 2, 3)] == [True] * 3
    (ours,) = (line.split() for line in out.splitlines() if line.startswith("our step, noise in the pipeline"))
    # The ratio of our step to itself; no share where no matrix product was measured.
    fastest, slowest, ratio, unit = ours[-4:]
    assert float(fastest.replace(",", "")) >= float(slowest.replace(",", "")) > 0
    assert (ratio, unit) == ("1.00", "images/s")
    # Without PyTorch for want of it, with it for noise that it does not know.
    missing = importlib.util.find_spec("torch") is None
    assert f"PyTorch, eager: left out, {'torch is not installed' if missing else 'PyTorch'}" in out
    # Processes get the settings, and neither the rows nor a run's folder.
    assert out.endswith("start to first step: 12.3 s\n") and starts == [list(SMALL)]


def test_the_first_step_is_timed_in_a_fresh_process(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(speed.subprocess, "run", lambda command, **_: commands.append(command))
    assert 0 <= speed.start_to_first_step([*SMALL]) < 60
    assert commands == [[sys.executable, "-m", "benchmarks.first_step", *SMALL]]
    assert call("benchmarks.first_step", *SMALL, folder=tmp_path) == (0, "", "")


def test_waiting_is_a_part_of_a_rounds_time_and_a_product_has_its_operations():
    settings = Config(dataset="digits", width=2, batch_size=16, noise="mask:0.5")
    waited, seconds = rows.ROWS["waiting"].make(settings, sources.open_source(settings))()
    assert 0 < waited < seconds
    operations, seconds = rows.ROWS["product_numpy"].make(settings, None)()
    # 2048 products and sums for each of 2048 x 2048 numbers.
    assert operations == 2 * 2048**3 and seconds > 0


@pytest.mark.parametrize(
    "words, told", [(["--rows=torhc"], "--rows: 'torhc' is not known"), (["--width=0"], "--width=0")]
)
def test_bad_input_is_one_line(words, told, tmp_path):
    assert_one_line(call("benchmarks.speed", *words, folder=tmp_path), told)


def test_settings_without_a_counterpart_are_refused():
    pytest.importorskip("torch")
    from benchmarks import torch_steps

    assert torch_steps.level_of("gaussian:0.5") == 0.5 and torch_steps.level_of(None) == 0
    for text in ("gaussian:0.1-0.5", "mask:0.5", "gaussian:0.1+mask:0.5"):
        with pytest.raises(UserError, match="Gaussian noise of one level"):
            torch_steps.level_of(text)
    with pytest.raises(UserError, match="--model=conv"):
        torch_steps.training(dataclasses.replace(Config(), model="unet"), None)
