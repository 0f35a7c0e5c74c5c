"""The programs on data sets that are streamed."""

import functools
import json
import os
from unittest import mock

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from programs import QUICK_EVALUATION, assert_one_line, call

import cae
from benchmarks import survival
from cae.config import Config
from cae.data import converted, sources

QUICK = ("--image_size=12", "--width=4", "--latent_dim=4", "--noise=gaussian:0.3", "--epochs=1")
DIGITS = ("--dataset=digits", *QUICK)


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Leaves out what takes long and is no matter of how images are read: drawing, enlarging, another process."""

    def save(figure, file, **_):
        Image.new("L", (1, 1)).save(file, "png")

    with (
        mock.patch.object(Figure, "savefig", save),
        mock.patch.object(sources, "_digits", functools.cache(sources._digits)),
        mock.patch.object(converted, "_apart", lambda work, *arguments: work(*arguments)),
    ):
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on the embedded digits in memory, and one that streams them."""
    folder = tmp_path_factory.mktemp("streamed")
    always = ("--streaming=always", "--records_dir=records", "--strategy=single")
    for words in (("--workdir=held",), ("--workdir=streamed", *always)):
        code, out, err = call("train.py", *DIGITS, *words, folder=folder)
        assert code == 0 and err == "", err
    assert "digits is not held in memory but streamed from records/digits/12x12x1-" in out
    return folder


def test_training_is_bit_by_bit_that_on_images_in_memory(folder):
    assert survival.compare(folder / "streamed", folder / "held") == []
    records = [json.loads((folder / name / "config.json").read_text()) for name in ("streamed", "held")]
    assert records[0]["dataset"] == records[1]["dataset"]
    assert [each["settings"]["streaming"] for each in records] == ["always", "auto"]


def test_a_run_goes_on_either_way(folder):
    on = ("--epochs=2", "--records_dir=records")
    for workdir, streaming in (("held", "always"), ("streamed", "never")):
        words = (*DIGITS, *on, f"--workdir={workdir}", f"--streaming={streaming}")
        code, out, err = call("train.py", *words, folder=folder)
        assert code == 0 and "going on after epoch 1" in out, err
        assert ("streamed from" in out) == (streaming == "always")
    assert survival.compare(folder / "streamed", folder / "held") == []


def test_an_evaluation_is_the_same_either_way(folder):
    tasks = ("--tasks=latents,outliers", "--outlier_datasets=", "--max_examples=1")
    tasks += QUICK_EVALUATION
    results = []
    for streaming in ("always", "never"):
        words = ("--workdir=held", *tasks, f"--streaming={streaming}", "--records_dir=records")
        code, _, err = call("eval.py", *words, folder=folder)
        assert code == 0 and err == "", err
        results.append(without_times(json.loads((folder / "held/report/results.json").read_text())))
    assert results[0] == results[1]


def without_times(results):
    """Results without what differs from run to run."""
    if isinstance(results, dict):
        return {key: without_times(value) for key, value in results.items() if "seconds" not in key}
    return [without_times(each) for each in results] if isinstance(results, list) else results


def test_ones_own_records_are_trained_on_and_evaluated(tmp_path):
    source = sources.open_source(Config(dataset="digits", image_size=12))
    chunks = (source.read(split) for split in sources.SPLITS)
    cae.write_records(tmp_path / "own", chunks, source.class_names, {k: s.images for k, s in source.splits.items()})
    words = ("--dataset=records:own", *QUICK[1:], "--workdir=run")
    code, out, err = call("train.py", *words, folder=tmp_path)
    assert code == 0 and err == "" and "records:own is not held in memory but streamed from own" in out, err
    code, out, err = call("eval.py", "--workdir=run", "--tasks=reconstruct", "--max_examples=1", folder=tmp_path)
    assert code == 0 and err == "" and "report: run/report/index.html" in out, err
    # Other images under the same name are another set.
    images, labels = source.read("train")
    (tmp_path / "own").rename(tmp_path / "before")
    cae.write_records(tmp_path / "own", [(np.flip(images, 0), labels)], source.class_names)
    code, _, err = call("train.py", *words, "--epochs=2", folder=tmp_path)
    assert code == 2 and err.count("\n") == 1 and "holds a run with another images under the same name" in err
    os.truncate(tmp_path / "before/00000.tfrecord", 10_000)
    cut = call("train.py", "--dataset=records:before", *QUICK[1:], "--workdir=cut", folder=tmp_path)
    assert_one_line(cut, "before/00000.tfrecord has 10,000 bytes where")
