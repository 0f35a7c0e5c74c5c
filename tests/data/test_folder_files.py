"""The files of a folder: what is counted, listed, read and skipped."""

import os

import numpy as np
import pytest
from PIL import Image

from cae.data import folder_files
from cae.data.folder_files import FileReader, list_files, survey_folder
from cae.errors import UserError

SHAPE = (16, 16, 1)


def save(path, value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (20, 20), value).save(path)


def test_files_are_counted_by_kind(tmp_path):
    for name in ("a.png", "cat/b.JPG", "cat/deep/c.tif", "ground_truth/a.png"):
        save(tmp_path / name)
    for name in ("readme", "notes.txt", "cat/notes.TXT", ".hidden.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    survey = survey_folder(tmp_path)
    assert survey.counts == {("", ""): 1, ("cat", ""): 1, ("cat", "deep"): 1, ("ground_truth", ""): 1}
    assert survey.describe_others() == ["ignored, not images: 2 .txt, 1 without a suffix"]
    assert set(list_files(tmp_path)) == {"a.png", "cat/b.JPG", "cat/deep/c.tif"}


def test_order_depends_on_names_alone(tmp_path):
    names = [*"abcdef", "caf\udce9", "caf\udcea"]  # The bytes of the last two are not UTF-8.
    for folder, ordered in (("one", names), ("other", names[::-1])):
        for name in ordered:
            save(tmp_path / folder / f"{name}.png")
    one, other = list_files(tmp_path / "one"), list_files(tmp_path / "other")
    assert one == other != sorted(one) and len(one) == 8
    assert [*FileReader(tmp_path / "one", SHAPE).read(one)] == one


def test_hashes_change_with_names_and_contents_of_their_group(tmp_path):
    save(tmp_path / "a/1.png")
    save(tmp_path / "b/1.png")
    first = survey_folder(tmp_path).hashes
    assert survey_folder(tmp_path).hashes == first
    save(tmp_path / "b/1.png", 7)
    second = survey_folder(tmp_path).hashes
    (tmp_path / "b/1.png").rename(tmp_path / "b/2.png")
    (tmp_path / "b/broken.png").symlink_to(tmp_path / "missing.png")
    third = survey_folder(tmp_path)
    assert third.counts["b", ""] == 2 and len({each["b", ""] for each in (first, second, third.hashes)}) == 3
    assert first["a", ""] == third.hashes["a", ""]


def test_missing_folder_is_refused(tmp_path):
    for function in (survey_folder, list_files):
        with pytest.raises(UserError, match="there is no such folder"):
            function(tmp_path / "missing")


def test_unreadable_files_are_skipped_and_the_first_readable_ones_taken(tmp_path):
    for number in range(6):
        save(tmp_path / f"{number}.png", 10 * number)
    (tmp_path / "0.png").write_text("no image")
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    # A one-bit image of 400 million pixels, whose file is small.
    Image.new("1", (20_000, 20_000)).save(tmp_path / "4.png")
    names, reader = sorted(os.listdir(tmp_path)), FileReader(tmp_path, SHAPE)
    assert [*reader.read(names)] == ["1.png", "3.png", "5.png"] and reader.skipped == ["0.png", "2.png", "4.png"]
    reader = FileReader(tmp_path, SHAPE)
    images = reader.read_first(names, 2)
    assert images.shape == (2, *SHAPE) and images[:, 0, 0, 0].tolist() == [10, 30]
    assert reader.skipped == ["0.png", "2.png"]  # The rest is not read.
    assert FileReader(tmp_path, SHAPE).read_first(["0.png"], 2).shape == (0, *SHAPE)


def test_warnings_are_counted_by_message_and_bounded(tmp_path, monkeypatch):
    def read_resized(path, shape):
        number = int(path.stem)
        return np.zeros(shape, np.uint8), ("guessed",) if number < 4 else (f"own {number}",) if number < 16 else ()

    monkeypatch.setattr(folder_files, "read_resized", read_resized)
    reader = FileReader(tmp_path, SHAPE)
    for start in (0, 9):
        reader.read([f"{number}.png" for number in range(start, start + 9)])
    lines = reader.describe_warnings()
    assert lines[0] == "warning: 4 files: guessed (0.png, 1.png, 2.png, ...)"
    assert lines[1] == "warning: 1 file: own 4 (4.png)"
    # One message of four files, nine of one, and three more.
    assert len(lines) == 11 and lines[-1] == "warning: 3 files with other warnings"
