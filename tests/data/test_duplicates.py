"""Images that are in training and in another split: found, described, removed."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from record_sets import DIGITS, assert_equal, in_chunks

import cae
from cae.config import Config
from cae.data import datasets, digits, duplicates, pipeline
from cae.errors import UserError

SIZES = {"train": 5, "validation": 1, "calibration": 1, "test": 3}

BOUNDS = {"train": (0, 5), "validation": (5, 6), "calibration": (6, 7), "test": (7, 10)}

VALUES = [1, 2, 3, 2, 4, 9, 2, 3, 8, 1]
"""Of train, validation, calibration and test: all but 4 of train are in another split."""


def make_images(values):
    return np.tile(np.array(values, np.uint8)[:, None, None, None], (1, 12, 12, 1))


def test_images_of_train_that_another_split_has_are_found():
    hashes = duplicates.hash_images(make_images(VALUES))
    assert hashes.dtype == np.uint64 and len(set(hashes.tolist())) == len(set(VALUES))
    assert duplicates.find_duplicates([hashes[:4], hashes[4:]], BOUNDS).tolist() == [0, 1, 2, 3]
    names = [*"abcdefghij"]
    assert duplicates.describe_duplicates([hashes], BOUNDS, names) == [
        "warning: 1 of 1 calibration images and 2 of 3 test images are training images too (g = b, h = c, j = a);"
        " --remove_duplicates removes such images from training"
    ]
    assert duplicates.describe_duplicates([hashes], BOUNDS | {"train": (4, 5)}, names) == []


@pytest.mark.parametrize("streaming", ["auto", "never"])
@pytest.mark.parametrize("version", ["this", "earlier"])
def test_they_are_removed_from_records(tmp_path, streaming, version):
    folder = tmp_path / "set"
    cae.write_records(folder, in_chunks(make_images(VALUES), np.arange(10), 3), [*"abcdefghij"], SIZES)
    metadata = json.loads((folder / "records.json").read_text())
    assert metadata.pop("duplicates") == [0, 1, 2, 3]
    if version == "earlier":
        (folder / "records.json").write_text(json.dumps(metadata))
    config = Config(dataset=f"records:{folder}", streaming=streaming, remove_duplicates=True)
    dataset = datasets.open_dataset(config)
    assert dataset.load("train")[1].tolist() == [4] and len(dataset.splits["train"]) == 1
    assert dataset.load("test")[1].tolist() == [7, 8, 9]
    assert dataset.info()["splits"]["train"] == {"images": 1, "origin": "[0:5] without 4 duplicates"}
    note = "--remove_duplicates: removed 4 of 5 training images, which other splits have too"
    assert dataset.warnings()[0] == note
    kept = datasets.open_dataset(dataclasses.replace(config, remove_duplicates=False))
    assert kept.load("train")[1].tolist() == [0, 1, 2, 3, 4] and kept.notes == ()


def test_any_image_is_taken_from_a_split_without_some(tmp_path):
    cae.write_records(tmp_path / "set", [(make_images(range(14)), np.arange(14))], [*"abcdefghijklmn"])
    split = datasets.open_dataset(Config(dataset=f"records:{tmp_path / 'set'}")).splits["train"]
    kept = split.without(np.array([0, 3, 4, 9]), "some")
    assert kept.load()[1].tolist() == [1, 2, 5, 6, 7, 8]
    assert kept.take(np.array([5, 0, 2]))[1].tolist() == [8, 1, 5]
    assert np.concatenate([labels for _, labels in kept.read()]).tolist() == [1, 2, 5, 6, 7, 8]


def test_a_converted_data_set_lacks_the_same_images(always, monkeypatch):
    load = digits._load

    def load_with_duplicates(size, channels):
        images, labels = load(size, channels)
        return np.concatenate([images[:-2], images[:2]]), labels

    monkeypatch.setattr(digits, "_load", load_with_duplicates)
    streamed = datasets.open_dataset(dataclasses.replace(always, remove_duplicates=True))
    in_memory = datasets.open_dataset(dataclasses.replace(DIGITS, remove_duplicates=True))
    assert_equal(streamed, in_memory)
    assert in_memory.info()["splits"]["train"] == {
        "images": 1283,
        "origin": "permuted images[0:1285] without 2 duplicates",
    }


@pytest.mark.parametrize("streaming", ["never", "always"])
@pytest.mark.parametrize("count", [0, 1])
def test_crops_are_cut_out_of_images_that_no_other_split_has(tmp_path, random, streaming, count):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(20):
        Image.fromarray(random.integers(0, 256, (14, 16), np.uint8)).save(folder / f"{index}.png")
    config = Config(dataset=f"folder:{folder}", crop_size=12, streaming=streaming, cache_dir=str(tmp_path / "cache"))
    train, test = (datasets.open_dataset(config).splits[name].names for name in ("train", "test"))
    for name in train[3 : 3 + count]:
        shutil.copy(folder / name, folder / test[0])
    dataset = datasets.open_dataset(dataclasses.replace(config, remove_duplicates=True))
    assert [*dataset.splits["train"].names] == [*train[:3], *train[3 + count :]]
    lines = "".join(dataset.warnings())
    assert f"--remove_duplicates: removed {count} of 17 training images, which" in lines
    assert "training images too" not in lines
    (batch,) = pipeline.make_train_data(dataset, None, 4, 0).train(0, 1)
    assert batch["image"].shape == (4, 12, 12, 1)


def test_a_train_split_that_would_be_empty_is_refused(tmp_path):
    cae.write_records(tmp_path / "set", [(make_images([7] * 14), np.zeros(14, int))])
    with pytest.raises(
        UserError, match=r"^--remove_duplicates leaves no training image: other splits of records:.*all$"
    ):
        datasets.open_dataset(Config(dataset=f"records:{tmp_path / 'set'}", remove_duplicates=True))
