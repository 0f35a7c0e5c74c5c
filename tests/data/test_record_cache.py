import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
from PIL import Image

import cae
from cae.config import Config
from cae.data import (
    datasets,
    image_dataset,
    lines,
    noise,
    outlier_sets,
    pipeline,
    record_cache,
    record_writer,
    records,
    splits,
)
from cae.data import tfds as tfds_datasets
from cae.data.records import Records
from cae.errors import UserError, unwrap_graph_error

ROOT = Path(__file__).resolve().parents[2]

DIGITS = Config(dataset="digits", image_size=12)


def assert_equal(streamed, in_memory):
    """Two data sets have the same metadata and the same images."""
    assert streamed.folder and not in_memory.folder
    assert streamed.info() == in_memory.info()
    for split in datasets.SPLITS:
        for one, other in zip(streamed.load(split), in_memory.load(split), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.fixture
def always(tmp_path):
    """The configuration of digits that are streamed, with a cache of the test's own."""
    return dataclasses.replace(DIGITS, streaming="always", cache_dir=str(tmp_path / "cache"))


def cached(config):
    """The folders in the cache."""
    return sorted(path for path in Path(config.cache_dir).glob("*/*") if not path.name.startswith("."))


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


def test_each_image_shape_has_its_own_records(always):
    for config in (always, dataclasses.replace(always, image_size=13), dataclasses.replace(always, channels=3)):
        datasets.open_dataset(config)
    assert sorted(path.name.split("-")[0] for path in cached(always)) == ["12x12x1", "12x12x3", "13x13x1"]


def test_records_of_an_earlier_version_are_not_reused(always, monkeypatch):
    before = datasets.open_dataset(always).folder
    for module in (records, record_writer):
        monkeypatch.setattr(module, "VERSION", 3)
    assert datasets.open_dataset(always).folder != before


def test_streamed_lines_keep_their_interpolation_metric(always, few_lines):
    dataset = datasets.open_dataset(dataclasses.replace(always, dataset="lines", image_size=None))
    assert dataset.interpolation_metric is lines.evaluate_interpolation and dataset.folder
    assert dataset.num_images == 700


def test_batches_equal_those_of_images_in_memory(always, mirrored):
    corruption = noise.parse_noise("gaussian:0.1-0.5+salt_pepper:0.2")
    streamed, in_memory = (
        pipeline.make_train_data(datasets.open_dataset(each), corruption, 100, 3) for each in (always, DIGITS)
    )
    pairs = [
        (streamed.train(0, 30), in_memory.train(0, 30)),
        (streamed.train(10**7, 10**7 + 2), in_memory.train(10**7, 10**7 + 2)),
        (streamed.validation, in_memory.validation),
        (streamed.train_eval, in_memory.train_eval),
    ]
    for one, other in pairs:
        assert one.element_spec == other.element_spec
        for batch, expected in zip(one, other, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, batch, expected)
    distributed = mirrored.experimental_distribute_dataset(streamed.train(5, 9))
    for expected, batch in zip(in_memory.train(5, 9), distributed):
        slices = mirrored.experimental_local_results(batch["input"])
        np.testing.assert_array_equal(np.concatenate(slices), expected["input"])


def test_every_image_occurs_once_an_epoch(tmp_path):
    images = np.zeros((700, 12, 12, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(700), 256)
    cae.write_records(tmp_path / "set", [(images, np.zeros(700, int))])
    dataset = datasets.open_dataset(Config(dataset=f"records:{tmp_path / 'set'}"))
    data = pipeline.make_train_data(dataset, None, 50, 0)
    assert data.num_images == 500 and data.num_steps(2) == 20
    batches = [np.rint(batch["image"].numpy() * 255).astype(int) for batch in data.train(0, 20)]
    indices = np.concatenate(batches)[:, 0, :2, 0] @ [256, 1]
    for epoch in indices.reshape(2, 500):
        assert sorted(epoch) == list(range(500))
    assert not np.array_equal(indices[:500], indices[500:])


def test_evaluation_batches_equal_those_of_images_in_memory(always):
    corruption = noise.parse_noise("gaussian:0.3")
    streamed, in_memory = (pipeline.make_eval_batches(datasets.open_dataset(each), 0) for each in (always, DIGITS))
    for indices in (None, [7, 3, 3, 20]):
        pairs = zip(streamed("test", corruption, indices), in_memory("test", corruption, indices), strict=True)
        for batch, expected in pairs:
            tf.nest.map_structure(np.testing.assert_array_equal, batch, expected)


def test_evaluation_of_many_images_takes_the_first_and_warns(always, monkeypatch):
    images, _ = datasets.open_dataset(DIGITS).load("train")
    dataset = datasets.open_dataset(always)
    assert dataset.truncation_warnings() == []
    monkeypatch.setattr(image_dataset, "MAX_EVAL_BYTES", 12 * 12 * 200)
    assert dataset.truncation_warnings() == [
        "evaluating on the first 200 of 1,285 train images of digits",
        "evaluating on the first 200 of 256 test images of digits",
    ]
    np.testing.assert_array_equal(dataset.load("train")[0], images[:200])
    batches = pipeline.make_eval_batches(dataset, 0)("train", None)
    assert sum(len(batch["image"]) for batch in batches) == 200
    # Training has all of them.
    assert pipeline.make_train_data(dataset, None, 8, 0).num_images == 1285


# --- Whether a data set is streamed -----------------------------------------------------------------------------------


@pytest.fixture
def set_memory(monkeypatch):
    """Sets the number of bytes of memory that the machine has."""
    return lambda total: monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=total))


def test_size_decides_by_default(always, set_memory):
    auto = dataclasses.replace(always, streaming="auto")
    set_memory(4 * 1797 * 144)
    assert not datasets.open_dataset(auto).folder
    set_memory(4 * 1797 * 144 - 4)
    dataset = datasets.open_dataset(auto)
    assert dataset.folder
    set_memory(1797 * 144)
    datasets.check_dataset(dataset, 8)
    with pytest.raises(UserError, match=r"of memory; use --streaming=auto or a smaller --image_size"):
        datasets.check_dataset(datasets.open_dataset(dataclasses.replace(auto, streaming="never")), 8)


def test_classes_can_be_selected_in_memory_only(always, set_memory, tmp_path):
    threes = dataclasses.replace(always, normal_classes="3")
    message = r"--normal_classes=3 needs all images in memory, and --dataset=digits is streamed; use --streaming="
    with pytest.raises(UserError, match=message + "auto"):
        datasets.open_dataset(threes)
    auto = dataclasses.replace(threes, streaming="auto")
    assert len(datasets.open_dataset(auto).splits["test"]) < 40
    images, labels = datasets.open_dataset(DIGITS).load("train")
    cae.write_records(tmp_path / "set", [(images, labels)], "0123456789")
    written = dataclasses.replace(auto, dataset=f"records:{tmp_path / 'set'}", image_size=None)
    assert set(datasets.open_dataset(written).load("train")[1]) == {3}
    set_memory(1000)
    with pytest.raises(UserError, match=message + "never"):
        datasets.open_dataset(auto)


# --- records:PATH -----------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, random):
    """A folder that `cae.write_records` wrote, and its images and labels."""
    images, labels = random.integers(0, 256, (140, 14, 16, 3), np.uint8), random.integers(0, 2, 140)
    cae.write_records(tmp_path / "written", [(images, labels)], ["good", "bad"])
    return tmp_path / "written", images, labels


def test_written_records_are_streamed_or_held_in_memory(written):
    folder, images, labels = written
    config = Config(dataset=f"records:{folder}")
    dataset = datasets.open_dataset(config)
    assert_equal(dataset, datasets.open_dataset(dataclasses.replace(config, streaming="never")))
    assert dataset.name == f"records:{folder}" and dataset.image_shape == (14, 16, 3)
    assert dataset.class_names == ("good", "bad") and dataset.fingerprint == Records(folder).fingerprint
    np.testing.assert_array_equal(np.concatenate([dataset.load(split)[0] for split in datasets.SPLITS]), images)
    np.testing.assert_array_equal(dataset.load("train")[1], labels[:100])
    assert dataset.info()["splits"]["test"] == {"images": 20, "origin": "[120:140]"}


def test_other_image_sizes_than_those_of_records_are_not_supported(written, tmp_path):
    config = Config(dataset=f"records:{written[0]}")
    with pytest.raises(UserError, match="has images of 14x16x3; --image_size=28 and --channels=1 not supported"):
        datasets.open_dataset(dataclasses.replace(config, image_size=28, channels=1))
    assert datasets.open_dataset(dataclasses.replace(config, channels=3)).image_shape == (14, 16, 3)
    with pytest.raises(UserError, match=r"missing has no records.json"):
        datasets.open_dataset(Config(dataset=f"records:{tmp_path / 'missing'}"))


def test_records_are_outliers_too(written):
    name = f"records:{written[0]}"
    found, _ = outlier_sets.load_outlier_datasets([name], None, (14, 16, 3), 5)
    np.testing.assert_array_equal(found[name], written[1][120:125])
    assert outlier_sets.load_outlier_datasets([name], None, (28, 28, 1), 5)[0][name].shape == (5, 28, 28, 1)


def test_damage_that_a_graph_finds_is_named(written):
    folder, *_ = written
    data = pipeline.make_train_data(datasets.open_dataset(Config(dataset=f"records:{folder}")), None, 8, 0)
    path = folder / "records.bin"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)

    @tf.function
    def read_all(iterator):
        for _ in tf.range(13):
            next(iterator)

    with pytest.raises(tf.errors.UnknownError) as caught:
        read_all(iter(data.train(0, 13)))
    message = str(unwrap_graph_error(caught.value))
    assert message == f"{path} is damaged at record 0: remove {folder}, and write it again"
    assert unwrap_graph_error(ValueError("anything else")) is None


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
    with pytest.raises(UserError, match="needs PNG, JPEG or BMP images, and it contains none"):
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


def test_the_cache_is_in_the_folder_of_tfds_by_default(tmp_path):
    config = dataclasses.replace(DIGITS, streaming="always", data_dir=str(tmp_path))
    assert datasets.open_dataset(config).folder.parent == tmp_path / "cae_records" / "digits"
    path = record_cache._cache_path(DIGITS, (12, 12, 1), None)
    assert path.parts[-4:-1] == ("tensorflow_datasets", "cae_records", "digits")


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


def test_the_first_line_of_a_tensorflow_error_is_the_message(tmp_path):
    def write(writer):
        raise tf.errors.DataLossError(None, None, "corrupted record\nat 7")

    with pytest.raises(UserError, match=r"^DataLossError: corrupted record$"):
        record_cache._create(tmp_path / "set", write, 5)


def test_a_cache_that_cannot_be_written_is_a_one_line_error(always, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write records to .*: (Not a directory|File exists); set --cache_dir"):
        datasets.open_dataset(dataclasses.replace(always, cache_dir=str(tmp_path / "file")))


def test_damaged_records_in_the_cache_are_named(always):
    folder = datasets.open_dataset(always).folder
    (folder / "records.json").write_text("{")
    with pytest.raises(UserError, match=r"records.json is damaged: remove .*write it again"):
        datasets.open_dataset(always)


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
