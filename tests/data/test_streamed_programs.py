"""The programs on data sets that are streamed."""

import json
import os
import re
from unittest import mock

import numpy as np
import pytest
from cli import QUICK_EVALUATION, assert_one_line, call
from matplotlib.figure import Figure
from PIL import Image

import cae
from benchmarks import fault_injection
from cae.config import Config
from cae.data import datasets, record_cache

QUICK = ("--image_size=12", "--base_filters=4", "--latent_dim=4", "--noise=gaussian:0.3", "--epochs=1")
DIGITS = ("--dataset=digits", *QUICK)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Skips what takes long and does not depend on how images are read: figures and a subprocess."""

    def save(figure, file, **_):
        Image.new("L", (1, 1)).save(file, "png")

    with (
        mock.patch.object(Figure, "savefig", save),
        mock.patch.object(record_cache, "run_in_subprocess", lambda function, *arguments: function(*arguments)),
    ):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on digits in memory, and one that streams them."""
    folder = tmp_path_factory.mktemp("streamed")
    always = ("--streaming=always", "--cache_dir=cache", "--distribution_strategy=one_device")
    for words in (("--workdir=memory",), ("--workdir=streamed", *always)):
        code, out, err = call("train.py", *DIGITS, *words, folder=folder)
        assert code == 0 and err == "", err
    assert "streaming digits from cache/digits/12x12x1-" in out
    return folder


def test_training_equals_that_on_images_in_memory(folder):
    assert fault_injection.compare(folder / "streamed", folder / "memory") == []
    run_configs = [json.loads((folder / name / "config.json").read_text()) for name in ("streamed", "memory")]
    assert run_configs[0]["dataset"] == run_configs[1]["dataset"]
    assert [each["config"]["streaming"] for each in run_configs] == ["always", "auto"]


def test_a_run_resumes_either_way(folder):
    options = ("--epochs=2", "--cache_dir=cache")
    for workdir, streaming in (("memory", "always"), ("streamed", "never")):
        words = (*DIGITS, *options, f"--workdir={workdir}", f"--streaming={streaming}")
        code, out, err = call("train.py", *words, folder=folder)
        assert code == 0 and re.search("(going on|resuming) (after|from) epoch 1", out), err
        assert ("streaming digits from" in out) == (streaming == "always")
    assert fault_injection.compare(folder / "streamed", folder / "memory") == []


def test_an_evaluation_is_the_same_either_way(folder):
    tasks = ("--tasks=latents,outliers", "--outlier_datasets=", "--num_examples=1")
    tasks += QUICK_EVALUATION
    results = []
    for streaming in ("always", "never"):
        words = ("--workdir=memory", *tasks, f"--streaming={streaming}", "--cache_dir=cache")
        code, _, err = call("eval.py", *words, folder=folder)
        assert code == 0 and err == "", err
        results.append(without_times(json.loads((folder / "memory/report/results.json").read_text())))
    assert results[0] == results[1]


def without_times(results):
    """Results without those that differ from run to run."""
    if isinstance(results, dict):
        return {key: without_times(value) for key, value in results.items() if "seconds" not in key}
    return [without_times(each) for each in results] if isinstance(results, list) else results


def test_written_records_are_trained_on_and_evaluated(tmp_path):
    dataset = datasets.open_dataset(Config(dataset="digits", image_size=12))
    chunks = (dataset.load(split) for split in datasets.SPLITS)
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    cae.write_records(tmp_path / "written", chunks, dataset.class_names, sizes)
    words = ("--dataset=records:written", *QUICK[1:], "--workdir=run")
    code, out, err = call("train.py", *words, folder=tmp_path)
    assert code == 0 and err == "" and "streaming records:written from written" in out, err
    code, out, err = call("eval.py", "--workdir=run", "--tasks=reconstruct", "--num_examples=1", folder=tmp_path)
    assert code == 0 and err == "" and "report: run/report/index.html" in out, err
    # Other images under the same name are another data set.
    images, labels = dataset.load("train")
    (tmp_path / "written").rename(tmp_path / "before")
    cae.write_records(tmp_path / "written", [(np.flip(images, 0), labels)], dataset.class_names)
    code, _, err = call("train.py", *words, "--epochs=2", folder=tmp_path)
    assert code == 2 and err.count("\n") == 1 and "other images in dataset=records:written" in err, err
    os.truncate(tmp_path / "before/records.bin", 10_000)
    truncated = call("train.py", "--dataset=records:before", *QUICK[1:], "--workdir=truncated", folder=tmp_path)
    assert_one_line(truncated, "before/records.bin has 10,000 bytes instead of")
