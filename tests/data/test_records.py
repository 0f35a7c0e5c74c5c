import concurrent.futures
import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import cae
from cae.data import records
from cae.data.records import Records
from cae.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

CLASSES = ("a", "b", "c")


@pytest.fixture
def data(random):
    """Images that are no squares, and their labels."""
    return random.integers(0, 256, (100, 12, 13, 3), np.uint8), random.integers(0, 3, 100)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """A dozen images a shard."""
    monkeypatch.setattr(records, "SHARD_BYTES", 13 * 500)


def in_chunks(images, labels, size=17):
    return ((images[at : at + size], labels[at : at + size]) for at in range(0, len(images), size))


@pytest.fixture
def folder(data, tmp_path):
    cae.write_records(tmp_path / "set", in_chunks(*data), CLASSES)
    return tmp_path / "set"


def shards(folder):
    return sorted(folder.glob("*.tfrecord"))


def test_the_checksum_is_crc_32c(random):
    # The check value of the catalogue of parametrised CRC algorithms, and vectors of RFC 3720, appendix B.4.
    known = {
        b"123456789": 0xE3069283,
        bytes(32): 0x8A9136AA,
        b"\xff" * 32: 0x62A8AB43,
        bytes(range(32)): 0x46DD794E,
        bytes(range(31, -1, -1)): 0x113FDB5C,
    }
    for content, checksum in known.items():
        assert records.checksums(np.frombuffer(content, np.uint8)[None]) == [checksum]


@pytest.mark.parametrize("length", [4, 255, 256, 257, 258, 259, 513, 5000])
def test_the_checksum_is_that_of_tensorflows_writer_at_any_length(length, tmp_path, random):
    rows = random.integers(0, 256, (3, length), np.uint8)
    with tf.io.TFRecordWriter(str(tmp_path / "one")) as writer:
        for row in rows:
            writer.write(row.tobytes())
    held = np.frombuffer((tmp_path / "one").read_bytes(), np.uint8).reshape(3, -1)[:, -4:]
    np.testing.assert_array_equal(held.copy().view("<u4")[:, 0], records._masked(records.checksums(rows)))


def test_tensorflow_reads_the_same_files(folder, data):
    files = tf.data.TFRecordDataset([str(path) for path in shards(folder)])
    features = {name: tf.io.FixedLenFeature([], tf.string) for name in ("image", "label")}
    examples = tf.io.parse_example(next(iter(files.batch(1000))), features)
    pixels = tf.reshape(tf.io.decode_raw(examples["image"], tf.uint8), [-1, 12, 13, 3])
    np.testing.assert_array_equal(pixels, data[0])
    np.testing.assert_array_equal(tf.io.decode_raw(examples["label"], tf.int64)[:, 0], data[1])


def test_any_images_are_read_in_any_order_and_as_often_as_wanted(folder, data):
    held = Records(folder)
    assert len(shards(folder)) > 5 and held.image_shape == (12, 13, 3) and held.class_names == CLASSES
    for wanted in ([99, 0, 50, 50, 13, 12, 11], list(range(100)), [7], []):
        images, labels = held.take(np.array(wanted, np.int64))
        np.testing.assert_array_equal(images, data[0][wanted])
        np.testing.assert_array_equal(labels, data[1][wanted])
        assert images.dtype == np.uint8 and labels.dtype == np.int64


def test_splits_follow_each_other(folder, data, tmp_path):
    held = Records(folder)
    # 100 at 10 : 1 : 1 : 2, and what is left over goes to the first.
    assert {name: split.images for name, split in held.splits.items()} == {
        "train": 72, "validation": 7, "calibration": 7, "test": 14
    }  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([held.split(name).all()[0] for name in held.splits]), data[0])
    np.testing.assert_array_equal(held.split("test")[2:5].all()[0], data[0][88:91])
    said = {"train": 40, "validation": 30, "calibration": 20, "test": 10}
    cae.write_records(tmp_path / "said", in_chunks(*data), CLASSES, said)
    np.testing.assert_array_equal(Records(tmp_path / "said").split("calibration").all()[0], data[0][70:90])


def test_many_threads_read_at_once_and_few_files_are_open(folder, data, monkeypatch):
    monkeypatch.setattr(records, "MOST_OPEN", 3)
    before = len(os.listdir("/proc/self/fd"))
    held = Records(folder)
    wanted = np.random.default_rng(0).integers(0, 100, (200, 20))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for positions, (images, _) in zip(wanted, pool.map(held.take, wanted)):
            np.testing.assert_array_equal(images, data[0][positions])
    assert len(os.listdir("/proc/self/fd")) == before + 3
    del held
    assert len(os.listdir("/proc/self/fd")) == before


# --- What is damaged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byte", [0, 9, 20, 60, 300, -2])
def test_a_flipped_bit_is_found_wherever_it_is_and_named(folder, byte):
    held = Records(folder)
    path, size = shards(folder)[2], held._layout.size
    content = bytearray(path.read_bytes())
    content[3 * size + byte % size] ^= 16
    path.write_bytes(content)
    first = 2 * held._in_shard
    for wanted in (np.arange(100), np.array([first + 3]), np.array([0, first + 3, first + 3])):
        with pytest.raises(UserError, match=rf"00002.tfrecord has a damaged record at byte {3 * size}: remove .*again"):
            held.take(wanted)
    held.take(np.delete(np.arange(100), first + 3))


def test_a_record_in_anothers_place_is_found_only_where_it_is_another_set(folder, data, tmp_path):
    """A record says nothing of its position; records of other images are told by their fingerprint."""
    cae.write_records(tmp_path / "other", in_chunks(data[0][::-1], data[1]), CLASSES)
    assert Records(folder).fingerprint != Records(tmp_path / "other").fingerprint
    cae.write_records(tmp_path / "same", in_chunks(*data, size=5), CLASSES)
    assert Records(folder).fingerprint == Records(tmp_path / "same").fingerprint


def test_a_cut_off_shard_is_found_at_the_start(folder):
    path = shards(folder)[1]
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(UserError, match=r"00001.tfrecord has [\d,]+ bytes where [\d,]+ are right: remove"):
        Records(folder)


def test_a_shard_that_is_cut_off_or_gone_while_it_is_used_is_named(folder):
    held = Records(folder)
    os.truncate(shards(folder)[1], 10)
    with pytest.raises(UserError, match=r"00001.tfrecord was cut off while it was read"):
        held.take(np.arange(100))
    shards(folder)[2].unlink()
    with pytest.raises(UserError, match=r"00002.tfrecord cannot be read \(No such file or directory\)"):
        held.take(np.array([99, 3 * held._in_shard - 1]))


def test_a_missing_shard_is_found_at_the_start(folder):
    shards(folder)[3].unlink()
    with pytest.raises(UserError, match=r"00003.tfrecord cannot be read \(No such file or directory\): remove"):
        Records(folder)


def test_a_missing_or_half_a_record_is_told(folder, tmp_path):
    path = folder / "records.json"
    whole = path.read_text()
    for content in (whole[:100], "[]", "7", whole.replace('"train"', '"trian"'), whole.replace("12,", "-12,")):
        path.write_text(content)
        with pytest.raises(UserError, match=r"records.json is (damaged|not what was written): remove .*again"):
            Records(folder)
    path.write_text(whole.replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match=r"is of version 2; this version of the code reads 1"):
        Records(folder)
    path.write_text(whole.replace("12,", "15,"))
    with pytest.raises(UserError, match=r"00000.tfrecord has .* bytes where"):
        Records(folder)
    for nowhere in (tmp_path, tmp_path / "nowhere", path):
        with pytest.raises(UserError, match=r"holds no records: there is no records.json; cae.write_records writes"):
            Records(nowhere)


# --- Writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda images, labels: (images.astype(np.float32), labels), "float32 .* do not fit among uint8 images of 12x"),
        (lambda images, labels: (images[:, :11], labels), "do not fit among uint8 images of 12x13x3"),
        (lambda images, labels: (images, labels[:-1]), "labels must be 17 whole numbers"),
        (lambda images, labels: (images, labels - 1), "labels must be 17 whole numbers from 0"),
        (lambda images, labels: (images, labels + 1), "the label 3 has no name: 3 class names were said"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(data, tmp_path, change, told):
    def chunks():
        for number, chunk in enumerate(in_chunks(*data)):
            yield change(*chunk) if number == 3 else chunk

    with pytest.raises(UserError, match=told):
        cae.write_records(tmp_path / "set", chunks(), CLASSES)
    assert not any(tmp_path.iterdir())


def test_splits_that_do_not_add_up_and_a_folder_that_is_there_are_refused(data, tmp_path, folder):
    for sizes in ({"train": 100}, {"train": 70, "validation": 10, "calibration": 10, "test": 11}):
        with pytest.raises(UserError, match=r"splits must be train, validation, calibration, test, .* 100 together"):
            cae.write_records(tmp_path / "new", in_chunks(*data), CLASSES, sizes)
    with pytest.raises(UserError, match="there already; name a new folder"):
        cae.write_records(folder, in_chunks(*data), CLASSES)
    with pytest.raises(UserError, match="new has 13 images; 14 are needed"):
        cae.write_records(tmp_path / "new", in_chunks(data[0][:13], data[1][:13]), CLASSES)
    with pytest.raises(UserError, match="new has 0 images; 14 are needed"):
        cae.write_records(tmp_path / "new", [(data[0][:0], data[1][:0])], CLASSES)
    assert [*tmp_path.iterdir()] == [folder]


def test_a_full_disk_is_one_line_and_leaves_nothing(data, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(UserError, match=r"records cannot be written to .*set: File too large"):
            cae.write_records(tmp_path / "set", in_chunks(*data), CLASSES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_line(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"records cannot be written to .*file/set: Not a directory"):
        cae.write_records(tmp_path / "file" / "set", in_chunks(*data), CLASSES)


SLOW = """
import sys, time, numpy as np, cae
def chunks():
    for number in range(20):
        yield np.full((10, 12, 13, 3), number, np.uint8), np.zeros(10, int)
        print(number, flush=True)
        time.sleep(float(sys.argv[2]))
cae.write_records(sys.argv[1], chunks())
"""


def writer(folder, seconds):
    """A process that writes 200 images to a folder, with such a pause after every ten."""
    words = [sys.executable, "-c", SLOW, str(folder), str(seconds)]
    return subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


@pytest.mark.e2e
def test_a_killed_writer_leaves_no_set_and_the_next_one_clears_up(tmp_path):
    killed = writer(tmp_path / "set", 30)
    assert killed.stdout.readline() == "0\n"
    assert [path.name for path in tmp_path.iterdir()] == ["set.partial"]
    killed.kill()
    killed.wait()
    (tmp_path / "set.partial" / "99999.tfrecord").touch()
    assert writer(tmp_path / "set", 0).wait() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["00000.tfrecord", "records.json"]
    assert Records(tmp_path / "set").images == 200


@pytest.mark.e2e
def test_what_the_killed_left_is_swept_but_not_what_is_being_written(tmp_path):
    killed, alive = writer(tmp_path / "killed", 30), writer(tmp_path / "alive", 0.1)
    assert killed.stdout.readline() == alive.stdout.readline() == "0\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    records.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["alive.partial"]
    assert alive.wait() == 0 and Records(tmp_path / "alive").images == 200


@pytest.mark.e2e
def test_of_two_at_once_one_writes_and_the_other_waits_for_it(tmp_path, capfd):
    alive = writer(tmp_path / "set", 0.05)
    assert alive.stdout.readline() == "0\n"
    assert not records.make(tmp_path / "set", lambda writer: pytest.fail("wrote"))
    assert "another process is writing" in capfd.readouterr().out
    assert alive.wait() == 0 and Records(tmp_path / "set").images == 200
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.e2e
def test_where_the_one_before_fails_the_one_that_waited_writes(tmp_path, data):
    alive = writer(tmp_path / "set", 30)
    assert alive.stdout.readline() == "0\n"

    def end():
        time.sleep(0.3)
        alive.kill()

    threading.Thread(target=end).start()
    splits = {"train": 70, "validation": 10, "calibration": 10, "test": 10}
    described = {name: records.Split(count, "") for name, count in splits.items()}

    def write(writer):
        writer.add(*data)
        writer.finish(CLASSES, described)

    assert records.make(tmp_path / "set", write)
    alive.wait()
    assert Records(tmp_path / "set").splits == described
    assert json.loads((tmp_path / "set/records.json").read_text())["splits"]["test"] == dataclasses.asdict(
        described["test"]
    )
