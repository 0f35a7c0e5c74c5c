"""Writing records: what is refused, and writers that are killed or wait for each other."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from record_sets import CLASSES, in_chunks

import cae
from cae.data import record_writer
from cae.data.records import Records
from cae.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def visible(folder):
    """Names in a folder, without those of locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda images, labels: (images.astype(np.float32), labels), "must be uint8 of 12x13x3 .*, not float32"),
        (lambda images, labels: (images[:, :11], labels), r"must be uint8 of 12x13x3 .*, not uint8 \(17, 11, 13, 3\)"),
        (lambda images, labels: (images[..., 0], labels), r"are not \[n, height, width, channels\]"),
        (lambda images, labels: (images, labels[:-1]), "labels must be 17 integers of 0 or more"),
        (lambda images, labels: (images, labels - 1), "labels must be 17 integers of 0 or more"),
        (lambda images, labels: (images, labels + 1), "label 3 has no name among the 3 class names"),
    ],
)
def test_invalid_images_and_labels_are_refused_and_leave_nothing(data, tmp_path, change, message):
    def chunks():
        for number, chunk in enumerate(in_chunks(*data)):
            yield change(*chunk) if number == 3 else chunk

    with pytest.raises(UserError, match=message):
        cae.write_records(tmp_path / "set", chunks(), CLASSES)
    assert visible(tmp_path) == []


def test_wrong_split_sizes_and_an_existing_folder_are_refused(data, tmp_path, folder):
    for sizes in ({"train": 100}, {"train": 70, "validation": 10, "calibration": 10, "test": 11}):
        with pytest.raises(UserError, match=r"splits must be train, validation, calibration, test, .* 100 in all"):
            cae.write_records(tmp_path / "new", in_chunks(*data), CLASSES, sizes)
    with pytest.raises(UserError, match="already exists; use a new folder"):
        cae.write_records(folder, in_chunks(*data), CLASSES)
    with pytest.raises(UserError, match="new has 13 images; 14 are needed"):
        cae.write_records(tmp_path / "new", in_chunks(data[0][:13], data[1][:13]), CLASSES)
    with pytest.raises(UserError, match="new has 0 images; 14 are needed"):
        cae.write_records(tmp_path / "new", [(data[0][:0], data[1][:0])], CLASSES)
    assert visible(tmp_path) == ["set"]


def test_a_full_disk_is_one_line_and_leaves_nothing(data, tmp_path, limit_file_size):
    limit_file_size(5000)
    with pytest.raises(UserError, match=r"cannot write records to .*set: File too large"):
        cae.write_records(tmp_path / "set", in_chunks(*data), CLASSES)
    assert visible(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write records to .*file/set: (Not a directory|File exists)"):
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


def start_writer(folder, seconds):
    """Starts a process that writes 200 images to a folder and pauses after every ten."""
    command = [sys.executable, "-c", SLOW, str(folder), str(seconds)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def num_images(folder):
    return sum(len(split) for split in Records(folder).splits.values())


@pytest.mark.e2e
def test_a_killed_writer_leaves_no_set_and_the_next_one_removes_the_rest(tmp_path):
    killed = start_writer(tmp_path / "set", 30)
    assert killed.stdout.readline() == "0\n"
    assert visible(tmp_path) == ["set.partial"]
    killed.kill()
    killed.wait()
    (tmp_path / "set.partial" / "other").touch()
    assert start_writer(tmp_path / "set", 0).wait() == 0
    assert visible(tmp_path) == ["set"] and visible(tmp_path / "set") == ["records.bin", "records.json"]
    assert num_images(tmp_path / "set") == 200


@pytest.mark.e2e
def test_partial_sets_of_killed_writers_are_removed_and_others_are_not(tmp_path):
    killed, alive = start_writer(tmp_path / "killed", 30), start_writer(tmp_path / "alive", 0.1)
    assert killed.stdout.readline() == alive.stdout.readline() == "0\n"
    killed.kill()
    killed.wait()
    record_writer.remove_stale_partials(tmp_path)
    assert visible(tmp_path) == ["alive.partial"]
    assert alive.wait() == 0 and num_images(tmp_path / "alive") == 200


@pytest.mark.e2e
def test_of_two_writers_one_waits_for_the_other(tmp_path, capfd):
    alive = start_writer(tmp_path / "set", 0.05)
    assert alive.stdout.readline() == "0\n"
    assert not record_writer.create(tmp_path / "set", lambda writer: pytest.fail("wrote"))
    assert "another process is writing" in capfd.readouterr().out
    assert alive.wait() == 0 and num_images(tmp_path / "set") == 200
    assert visible(tmp_path) == ["set"]


@pytest.mark.e2e
def test_a_waiting_writer_writes_if_the_other_is_killed(tmp_path, data):
    alive = start_writer(tmp_path / "set", 30)
    assert alive.stdout.readline() == "0\n"
    threading.Timer(0.3, alive.kill).start()
    splits = {name: {"images": 25, "origin": ""} for name in ("train", "validation", "calibration", "test")}

    def write(writer):
        writer.add(*data)
        return {"class_names": CLASSES, "splits": splits}

    start = time.monotonic()
    assert record_writer.create(tmp_path / "set", write) and time.monotonic() - start > 0.2
    alive.wait()
    assert json.loads((tmp_path / "set/records.json").read_text())["splits"] == splits
    assert num_images(tmp_path / "set") == 100
