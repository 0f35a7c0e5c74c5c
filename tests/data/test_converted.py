import contextlib
import dataclasses
import json
import os
import resource
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
from cae.data import converted, lines, noise, panel, pipeline, prepared, sources
from cae.data.records import Records
from cae.errors import UserError, raised_in_graph

pytestmark = pytest.mark.usefixtures("digits_once")

ROOT = Path(__file__).resolve().parents[2]

DIGITS = Config(dataset="digits", image_size=12)


def alike(streamed, held):
    """Two sources tell the same of themselves and have the same images."""
    assert streamed.streamed and not held.streamed
    assert streamed.describe() == held.describe()
    for split in sources.SPLITS:
        for one, other in zip(streamed.read(split), held.read(split), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype


@pytest.fixture
def always(tmp_path):
    """Settings of the embedded digits, streamed from a folder of the test's own."""
    return dataclasses.replace(DIGITS, streaming="always", records_dir=str(tmp_path / "records"))


def written(settings):
    return sorted(Path(settings.records_dir).glob("*/*"))


@pytest.mark.e2e
def test_a_set_is_written_once_and_reused(always, written_apart, capfd, monkeypatch):
    source = sources.open_source(always)
    alike(source, sources.open_source(DIGITS))
    (folder,) = written(always)
    out = capfd.readouterr()
    assert out.out == f"writing the 1,797 images of digits to {folder}, to stream them from there\n" and out.err == ""
    assert source.notices() == [f"digits is not held in memory but streamed from {folder}"]
    monkeypatch.setattr(converted, "_apart", lambda *_: pytest.fail("wrote again"))
    alike(sources.open_source(always), sources.open_source(DIGITS))


def test_another_size_is_another_set(always):
    for settings in (always, dataclasses.replace(always, image_size=13), dataclasses.replace(always, channels=3)):
        sources.open_source(settings)
    assert sorted(path.name.split("-")[0] for path in written(always)) == ["12x12x1", "12x12x3", "13x13x1"]


def test_lines_are_still_judged(always, few_lines):
    source = sources.open_source(dataclasses.replace(always, dataset="lines", image_size=None))
    assert source.judge is lines.judge and source.streamed.images == 700


def test_batches_are_bit_by_bit_those_of_images_in_memory(always, mirrored):
    corrupt = noise.parse("gaussian:0.1-0.5+salt_pepper:0.2")
    streamed, held = (pipeline.feed(sources.open_source(each), corrupt, 100, 3) for each in (always, DIGITS))
    pairs = [
        (streamed.training(0, 30), held.training(0, 30)),
        (streamed.training(10**7, 10**7 + 2), held.training(10**7, 10**7 + 2)),
        (streamed.validation, held.validation),
        (streamed.sample, held.sample),
    ]
    for one, other in pairs:
        assert one.element_spec == other.element_spec
        for ours, theirs in zip(one, other, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)
    for whole, shared in zip(held.training(5, 9), mirrored.experimental_distribute_dataset(streamed.training(5, 9))):
        parts = mirrored.experimental_local_results(shared["noisy"])
        np.testing.assert_array_equal(np.concatenate(parts), whole["noisy"])


def test_every_image_comes_once_an_epoch(tmp_path):
    images = np.zeros((700, 12, 12, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(700), 256)
    cae.write_records(tmp_path / "set", [(images, np.zeros(700, int))])
    feed = pipeline.feed(sources.open_source(Config(dataset=f"records:{tmp_path / 'set'}")), None, 50, 0)
    assert feed.images == 500 and feed.steps(2) == 20
    batches = [np.rint(batch["image"].numpy() * 255).astype(int) for batch in feed.training(0, 20)]
    numbers = np.concatenate(batches)[:, 0, :2, 0] @ [256, 1]
    for epoch in numbers.reshape(2, 500):
        assert sorted(epoch) == list(range(500))
    assert not np.array_equal(numbers[:500], numbers[500:])


def test_an_evaluation_sees_the_same_images_with_the_same_noise(always):
    corrupt = noise.parse("gaussian:0.3")
    streamed, held = (pipeline.held_out(sources.open_source(each), 0) for each in (always, DIGITS))
    for only in (None, [7, 3, 3, 20]):
        for ours, theirs in zip(streamed("test", corrupt, only), held("test", corrupt, only), strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, ours, theirs)


def test_an_evaluation_of_many_images_takes_the_first_and_says_so(always, monkeypatch):
    everything = sources.open_source(DIGITS).read("train")[0]
    source = sources.open_source(always)
    assert source.limits() == []
    monkeypatch.setattr(sources, "MOST_READ", 12 * 12 * 200)
    assert source.limits() == [
        "digits is streamed: of its 1,285 train images an evaluation takes the first 200",
        "digits is streamed: of its 256 test images an evaluation takes the first 200",
    ]
    np.testing.assert_array_equal(source.read("train")[0], everything[:200])
    batches = pipeline.held_out(source, 0)("train", None)
    assert sum(len(batch["image"]) for batch in batches) == 200
    # Training still has all of them.
    assert pipeline.feed(source, None, 8, 0).images == 1285


# --- What decides ----------------------------------------------------------------------------------------------------


@pytest.fixture
def memory(monkeypatch):
    """Says how many bytes of memory the machine has."""

    def say(total):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: dataclasses.make_dataclass("Memory", ["total"])(total))

    return say


def test_size_decides_unless_told(always, memory):
    auto = dataclasses.replace(always, streaming="auto")
    memory(4 * 1797 * 144)
    assert not sources.open_source(auto).streamed
    memory(4 * 1797 * 144 - 4)
    source = sources.open_source(auto)
    assert source.streamed
    memory(1797 * 144)
    sources.check(source, 8)
    with pytest.raises(UserError, match=r"of memory, where images are held; --streaming=auto leaves them on disk"):
        sources.check(sources.open_source(dataclasses.replace(auto, streaming="never")), 8)


def test_some_classes_are_taken_of_what_is_held_alone(always, memory, tmp_path):
    threes = dataclasses.replace(always, classes="3")
    with pytest.raises(UserError, match=r"--classes=3 can only be taken .* is streamed. --streaming=auto holds it"):
        sources.open_source(threes)
    auto = dataclasses.replace(threes, streaming="auto")
    assert sources.open_source(auto).splits["test"].images < 40
    images, labels = sources.open_source(DIGITS).read("train")
    cae.write_records(tmp_path / "set", [(images, labels)], "0123456789")
    records = dataclasses.replace(auto, dataset=f"records:{tmp_path / 'set'}", image_size=None)
    assert set(sources.open_source(records).read("train")[1]) == {3}
    memory(1000)
    with pytest.raises(UserError, match=r"--classes=3 .* --streaming=never holds it"):
        sources.open_source(auto)


# --- records:PATH ----------------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path, random):
    """A folder of somebody's own records, and what is in it."""
    images, labels = random.integers(0, 256, (140, 14, 16, 3), np.uint8), random.integers(0, 2, 140)
    cae.write_records(tmp_path / "own", [(images, labels)], ["good", "bad"])
    return tmp_path / "own", images, labels


def test_ones_own_records_are_streamed_or_held(own):
    folder, images, labels = own
    settings = Config(dataset=f"records:{folder}")
    source = sources.open_source(settings)
    alike(source, sources.open_source(dataclasses.replace(settings, streaming="never")))
    assert source.name == f"records:{folder}" and source.image_shape == (14, 16, 3)
    assert source.class_names == ("good", "bad") and source.fingerprint == Records(folder).fingerprint
    np.testing.assert_array_equal(np.concatenate([source.read(split)[0] for split in sources.SPLITS]), images)
    np.testing.assert_array_equal(source.read("train")[1], labels[:100])
    assert source.describe()["splits"]["test"] == {"images": 20, "origin": "[120:140]"}


def test_what_records_cannot_be_is_told(own, tmp_path):
    settings = Config(dataset=f"records:{own[0]}")
    with pytest.raises(UserError, match="has images of 14x16x3 alone: --image_size=28 and --channels=1 cannot be had"):
        sources.open_source(dataclasses.replace(settings, image_size=28, channels=1))
    assert sources.open_source(dataclasses.replace(settings, channels=3)).image_shape == (14, 16, 3)
    cae.write_records(tmp_path / "tiny", [(own[1][:, :10, :10], own[2])], ["good", "bad"])
    with pytest.raises(UserError, match="has images smaller than 11"):
        sources.open_source(Config(dataset=f"records:{tmp_path / 'tiny'}"))
    with pytest.raises(UserError, match="nowhere holds no records"):
        sources.open_source(Config(dataset=f"records:{tmp_path / 'nowhere'}"))


def test_records_are_outliers_too(own):
    name = f"records:{own[0]}"
    found, _ = panel.read_each([name], None, (14, 16, 3), 5)
    np.testing.assert_array_equal(found[name], own[1][120:125])
    assert panel.read_each([name], None, (28, 28, 1), 5)[0][name].shape == (5, 28, 28, 1)


def test_damage_that_a_graph_comes_upon_is_told_by_its_file(own):
    folder, *_ = own
    feed = pipeline.feed(sources.open_source(Config(dataset=f"records:{folder}")), None, 8, 0)
    shard = folder / "00000.tfrecord"
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)

    @tf.function
    def all_batches(iterator):
        for _ in tf.range(13):
            next(iterator)

    with pytest.raises(tf.errors.UnknownError) as caught:
        all_batches(iter(feed.training(0, 13)))
    told = str(raised_in_graph(caught.value))
    assert told == f"{shard} has a damaged record at byte 0: remove {folder}, and make its records again"
    assert raised_in_graph(ValueError("anything else")) is None


# --- Folders of pictures, TensorFlow Datasets ------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, random):
    """Pictures of three classes; those of a fourth, and one of another, cannot be read."""
    for number in range(40):
        path = tmp_path / "pictures" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 30), np.uint8)).save(path)
    (tmp_path / "pictures" / "aa").mkdir()
    for name in ("aa/broken.png", "b/broken.png"):
        (tmp_path / "pictures" / name).write_bytes(b"no picture")
    return tmp_path / "pictures"


def test_a_folder_is_the_same_streamed_or_held(folder, always):
    held = Config(dataset=f"folder:{folder}", image_size=12)
    streamed = dataclasses.replace(always, dataset=held.dataset)
    alike(sources.open_source(streamed), sources.open_source(held))
    source = sources.open_source(streamed)
    assert source.skipped == ("aa/broken.png", "b/broken.png") and source.class_names == ("a", "b", "c")
    assert len(written(streamed)) == 1
    # The same names with another content: records are made of what is there now.
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(folder / "a" / "0.png")
    alike(sources.open_source(streamed), sources.open_source(held))
    assert len(written(streamed)) == 2


def test_pictures_are_written_a_few_at_a_time(folder, always, monkeypatch):
    monkeypatch.setattr(sources, "AT_ONCE", 7)
    held = Config(dataset=f"folder:{folder}", image_size=12)
    alike(sources.open_source(dataclasses.replace(always, dataset=held.dataset)), sources.open_source(held))


def test_a_folder_without_pictures_is_told_and_leaves_nothing(always, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="needs PNG, JPEG or BMP pictures, and it holds none"):
        sources.open_source(dataclasses.replace(always, dataset=f"folder:{tmp_path / 'empty'}"))
    with pytest.raises(UserError, match="there is no such folder"):
        sources.open_source(dataclasses.replace(always, dataset=f"folder:{tmp_path / 'nowhere'}"))
    assert written(always) == []


@pytest.mark.real_data
def test_mnist_is_the_same_streamed_or_held(tfds_dir, always, monkeypatch):
    official = sources._official_splits

    def tenth(dataset, sizes):
        cuts = official(dataset, sizes).items()
        return {name: (split, start, start + (stop - start) // 10) for name, (split, start, stop) in cuts}

    monkeypatch.setattr(sources, "_official_splits", tenth)
    held = Config(dataset="mnist", data_dir=tfds_dir)
    streamed = sources.open_source(dataclasses.replace(held, streaming="always", records_dir=always.records_dir))
    assert streamed.streamed.images == 7000
    alike(streamed, sources.open_source(held))


def test_records_go_beside_what_tfds_prepared(tmp_path):
    settings = dataclasses.replace(DIGITS, streaming="always", data_dir=str(tmp_path))
    folder = sources.open_source(settings).streamed.folder
    assert folder.parent == tmp_path / "cae_records" / "digits"
    assert prepared.place(None).name == "tensorflow_datasets"


# --- What goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.e2e
def test_a_full_disk_is_one_line(always, written_apart, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"records cannot be written to .*: File too large; --records_dir names"):
            sources.open_source(always)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert written(always) == []
    usage = dataclasses.make_dataclass("Usage", ["free"])(2**17)
    monkeypatch.setattr(converted.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"--dataset=digits take 0.0 GiB, and .* has 0.0 GiB left; --records_dir names"):
        sources.open_source(always)


def test_an_error_goes_from_the_process_that_writes_to_the_one_that_waits(monkeypatch):
    monkeypatch.setattr(converted, "_end_with_parent", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    answers = []

    def ended(error=None):
        def work(*arguments):
            assert arguments == (1, 2) and os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
            if error:
                raise error

        converted._answer(types.SimpleNamespace(send=answers.append), work, (1, 2))
        return answers.pop()

    assert ended() is None
    assert ended(UserError("--records_dir is full")) == "--records_dir is full"
    assert ended(tf.errors.DataLossError(None, None, "corrupted record\nat 7")) == "DataLossError: corrupted record"
    # A fault of the code is no answer, and keeps its traceback.
    with pytest.raises(ValueError, match="a fault"):
        ended(ValueError("a fault"))
    assert answers == []


def test_a_place_that_cannot_be_written_is_one_line(always, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"records cannot be written to .*: Not a directory; --records_dir"):
        sources.open_source(dataclasses.replace(always, records_dir=str(tmp_path / "file")))


def test_damaged_records_of_a_set_are_named(always):
    folder = sources.open_source(always).streamed.folder
    (folder / "records.json").write_text("{")
    with pytest.raises(UserError, match=r"records.json is damaged: remove .*again"):
        sources.open_source(always)


SLOW = """
import signal, sys, time
from cae.config import Config
from cae.data import sources
def slowed(writer, dataset, settings):
    images, labels = sources.open_source(settings).read("train")
    writer.add(images[:100], labels[:100])
    writer._file.flush()
    time.sleep(60)
sources._write_source = slowed
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Whoever started the tests may ignore it.
    sources.open_source(Config(dataset="digits", image_size=12, streaming="always", records_dir=sys.argv[1]))
"""


@pytest.mark.e2e
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_conversion_leaves_nothing_and_starts_again(always, tmp_path, how):
    (tmp_path / "slow.py").write_text(SLOW)
    words = [sys.executable, str(tmp_path / "slow.py"), always.records_dir]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list(Path(always.records_dir).glob("*/*.partial/*.tfrecord")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    (writer,) = (child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline()))
    process.send_signal(how)
    process.wait()
    with contextlib.suppress(psutil.NoSuchProcess):
        writer.wait(20)
    assert ["partial" in path.name for path in written(always)] == ([True] if how == signal.SIGKILL else [])
    # That of the process itself, which has nobody who says it in a line, and none of the one that writes.
    assert process.stderr.read().count("Traceback") == (1 if how == signal.SIGINT else 0)
    alike(sources.open_source(always), sources.open_source(DIGITS))
    assert len(written(always)) == 1 and json.loads((written(always)[0] / "records.json").read_text())
