"""Conversion of data sets to records, in a process of its own, and what interrupts it or makes it fail."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from record_sets import DIGITS, assert_equal, cached

from cae.config import Config
from cae.data import datasets, record_cache, splits
from cae.data import tfds as tfds_datasets
from cae.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
def test_a_data_set_is_converted_once(always, convert_in_subprocess, capfd, monkeypatch):
    dataset = datasets.open_dataset(always)
    assert_equal(dataset, datasets.open_dataset(DIGITS))
    (folder,) = cached(always)
    out = capfd.readouterr()
    assert out.out == f"writing the 1,797 images of digits to {folder}, to stream them\n" and out.err == ""
    assert dataset.warnings() == [f"streaming digits from {folder}"]
    monkeypatch.setattr(record_cache, "run_in_subprocess", lambda *_: pytest.fail("converted again"))
    assert_equal(datasets.open_dataset(always), datasets.open_dataset(DIGITS))


# --- Image folders, TensorFlow Datasets -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, random):
    """Images of three classes; those of a fourth, and one of another, cannot be read."""
    for number in range(40):
        path = tmp_path / "images" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 30), np.uint8)).save(path)
    (tmp_path / "images" / "aa").mkdir()
    for name in ("aa/broken.png", "b/broken.png"):
        (tmp_path / "images" / name).write_bytes(b"no image")
    return tmp_path / "images"


def test_a_folder_is_the_same_streamed_or_in_memory(folder, always):
    in_memory = Config(dataset=f"folder:{folder}", image_size=12)
    streamed = dataclasses.replace(always, dataset=in_memory.dataset)
    assert_equal(datasets.open_dataset(streamed), datasets.open_dataset(in_memory))
    dataset = datasets.open_dataset(streamed)
    assert dataset.skipped == ("aa/broken.png", "b/broken.png") and dataset.class_names == ("a", "b", "c")
    assert dataset.warnings()[0] == "skipped 2 files that cannot be read: aa/broken.png, b/broken.png"
    assert len(cached(streamed)) == 1
    # The same names with another content are converted again.
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "a" / "0.png")
    assert_equal(datasets.open_dataset(streamed), datasets.open_dataset(in_memory))
    assert len(cached(streamed)) == 2


def test_a_folder_is_converted_in_chunks(folder, always, monkeypatch):
    monkeypatch.setattr(splits, "CHUNK_SIZE", 7)
    in_memory = Config(dataset=f"folder:{folder}", image_size=12)
    streamed = dataclasses.replace(always, dataset=in_memory.dataset)
    assert_equal(datasets.open_dataset(streamed), datasets.open_dataset(in_memory))


def test_a_folder_without_images_is_refused_and_leaves_nothing(always, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="needs PNG, JPEG, TIFF, BMP, GIF, WebP or PNM images, and it contains none"):
        datasets.open_dataset(dataclasses.replace(always, dataset=f"folder:{tmp_path / 'empty'}"))
    with pytest.raises(UserError, match="no such folder"):
        datasets.open_dataset(dataclasses.replace(always, dataset=f"folder:{tmp_path / 'missing'}"))
    assert cached(always) == []


@pytest.mark.real_data
def test_mnist_is_the_same_streamed_or_in_memory(tfds_dir, always, monkeypatch):
    official = tfds_datasets.partition_official_splits

    def take_tenth(dataset, sizes):
        splits = official(dataset, sizes).items()
        return {name: (split, start, start + (stop - start) // 10) for name, (split, start, stop) in splits}

    monkeypatch.setattr(tfds_datasets, "partition_official_splits", take_tenth)
    in_memory = Config(dataset="mnist", data_dir=tfds_dir)
    streamed = dataclasses.replace(in_memory, streaming="always", cache_dir=always.cache_dir)
    dataset = datasets.open_dataset(streamed)
    assert dataset.num_images == 7000
    assert_equal(dataset, datasets.open_dataset(in_memory))


# --- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_full_disk_is_a_one_line_error(always, convert_in_subprocess, limit_file_size, monkeypatch):
    limit_file_size(20_000)
    with pytest.raises(UserError, match=r"cannot write records to .*: File too large; set --cache_dir"):
        datasets.open_dataset(always)
    assert cached(always) == []
    monkeypatch.setattr(record_cache.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=2**17))
    with pytest.raises(UserError, match=r"--dataset=digits take 0.0 GiB, and .* has 0.0 GiB left; set --cache_dir"):
        datasets.open_dataset(always)


def test_what_killed_processes_left_is_removed_before_the_room_is_measured(always, monkeypatch):
    folder = datasets.open_dataset(always).folder
    shutil.rmtree(folder)
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir()
    monkeypatch.setattr(
        record_cache.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=0 if partial.exists() else 2**40)
    )
    assert datasets.open_dataset(always).folder == folder


@pytest.mark.e2e
def test_errors_of_a_subprocess_are_raised_and_it_hides_gpus(convert_in_subprocess, capfd):
    with pytest.raises(UserError, match="CUDA_VISIBLE_DEVICES=-1"):
        record_cache.run_in_subprocess(raise_environment)
    assert "Traceback" not in capfd.readouterr().err
    # A bug keeps its traceback.
    with pytest.raises(UserError, match="the process that writes records ended early, with exit code 1"):
        record_cache.run_in_subprocess(int, "x")
    assert "ValueError: invalid literal for int() with base 10: 'x'" in capfd.readouterr().err
    with pytest.raises(UserError, match="the process that writes records ended early, with exit code 9"):
        record_cache.run_in_subprocess(os._exit, 9)
    assert multiprocessing.active_children() == []


def raise_environment():
    raise UserError(f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}")


SLOW = """
import signal, sys, time
from cae.config import Config
from cae.data import datasets, record_cache
def write_slowly(open_dataset, config, writer):
    images, labels = open_dataset(config).load("train")
    writer.add(images[:100], labels[:100])
    time.sleep(60)
record_cache._write_dataset = write_slowly
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # It may be ignored by what started the tests.
    datasets.open_dataset(Config(dataset="digits", image_size=12, streaming="always", cache_dir=sys.argv[1]))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_conversion_leaves_nothing_and_is_repeated(always, tmp_path, number):
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, str(tmp_path / "slow.py"), always.cache_dir]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(Path(always.cache_dir).glob("*/*.partial/.records.bin.tmp")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    (writer,) = (child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline()))
    process.send_signal(number)
    process.wait(20)
    psutil.wait_procs([writer], 20)
    assert not writer.is_running()
    assert cached(always) == []
    # The traceback is that of the process itself.
    err = process.stderr.read()
    assert err.count("Traceback") == (1 if number == signal.SIGINT else 0) and "leaked" not in err
    assert_equal(datasets.open_dataset(always), datasets.open_dataset(DIGITS))
    assert len(cached(always)) == 1 and json.loads((cached(always)[0] / "records.json").read_text())
