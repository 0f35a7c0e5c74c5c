"""Folders as data sets: in memory and streamed, with classes, splits of their own, outliers and duplicates."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from record_sets import assert_equal, cached

from cae.config import Config
from cae.data import datasets, image_folder, splits
from cae.data.image_folder import load_images
from cae.errors import UserError

NORMAL, HOLE, CRACK = 10, 200, 240
"""Values of all pixels of normal images, which differ in a corner, and of outliers."""


def save(folder, names, value=NORMAL):
    """Writes images that differ in a corner."""
    for number, name in enumerate(names):
        values = np.full((16, 16), value, np.uint8)
        values[0, :2] = number, len(name)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(folder / name)


@pytest.fixture
def mvtec(tmp_path):
    """A folder of anomaly detection: 24 images to train on, 5 normal test images, outliers and other files."""
    folder = tmp_path / "bottle"
    save(folder, [f"train/good/{number}.png" for number in range(24)])
    save(folder, [f"test/good/{number}.tif" for number in range(5)])
    save(folder, ["test/hole/0.png", "test/hole/1.png"], HOLE)
    save(folder, [f"test/caf\udce9/{number}.png" for number in range(3)], CRACK)
    save(folder, ["ground_truth/hole/0_mask.png"], 255)
    (folder / "test/hole/broken.png").touch()
    (folder / "license.txt").touch()
    return folder


@pytest.fixture(params=["memory", "streamed"])
def config(request, mvtec, always):
    streaming = {"streaming": "always", "cache_dir": always.cache_dir} if request.param == "streamed" else {}
    return Config(dataset=f"folder:{mvtec}", image_size=16, **streaming)


def test_own_splits_are_used_and_classes_that_train_lacks_are_outliers(config, mvtec):
    dataset = datasets.open_dataset(config)
    assert dataset.class_names == () and dataset.skipped == ()
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 20, "validation": 2, "calibration": 2, "test": 5
    }  # fmt: skip
    assert dataset.info()["splits"]["test"] == {"images": 5, "origin": "test/"}
    assert dataset.info()["splits"]["calibration"]["origin"] == "train/ by hashed name[22:24]"
    images = np.concatenate([dataset.load(split)[0] for split in datasets.SPLITS])
    assert (images[:, 1:] == NORMAL).all() and len(np.unique(images[:24, 0, 0])) == 24
    assert sorted(dataset.load("test")[0][:, 0, 0, 0]) == [0, 1, 2, 3, 4]
    assert [*dataset.outliers] == ["caf\\udce9", "hole"]
    found, skipped = dataset.outliers["hole"](100)
    assert found.shape == (2, 16, 16, 1) and (found[:, 1:] == HOLE).all() and skipped == ["test/hole/broken.png"]
    assert len(dataset.outliers["caf\\udce9"](2)[0]) == 2
    assert dataset.warnings()[:4] == [
        "ignored, not images: 1 .txt",
        "ignored 1 images outside of train and test: 1 in ground_truth/",
        "the folder's own splits: train is train/, test is test/; cut from train: validation, calibration",
        "test/caf\\udce9, test/hole: 3 and 3 images of classes that train lacks are outliers",
    ]
    assert json.loads(json.dumps(dataset.info())) == dataset.info()


def test_without_a_normal_test_image_test_is_cut_from_train(config, mvtec):
    shutil.rmtree(mvtec / "test/good")
    dataset = datasets.open_dataset(config)
    assert [len(split) for split in dataset.splits.values()] == [19, 1, 1, 3]  # 24 at 10 : 1 : 1 : 2.
    assert "test/ has no image of a class of train, so that test is cut from train, too" in dataset.notes[2]


def test_duplicates_are_counted_and_removed(config, mvtec):
    shutil.copy(mvtec / "test/good/3.tif", mvtec / "train/good/copy.tif")
    shutil.copy(mvtec / "train/good/copy.tif", mvtec / "test/good/again.tif")
    (line,) = (line for line in datasets.open_dataset(config).notes if line.startswith("warning"))
    # Train has 21 of 25 images, and the copy is among them or in validation or calibration, by its hashed name.
    dataset = datasets.open_dataset(dataclasses.replace(config, remove_duplicates=True))
    assert line.startswith("warning: 2 of 6 test images are training images too (test/good/") and line.count("=") == 2
    assert "= train/good/copy.tif" in line
    assert len(dataset.splits["train"]) == 20 and len(dataset.splits["test"]) == 6
    assert dataset.info()["splits"]["train"]["origin"] == "train/ by hashed name[0:21] without 1 duplicates"


def test_only_a_change_of_the_splits_converts_a_folder_again(mvtec, always):
    config = dataclasses.replace(always, dataset=f"folder:{mvtec}", image_size=16)
    datasets.open_dataset(config)
    save(mvtec, ["test/hole/2.png"], HOLE)
    dataset = datasets.open_dataset(config)
    assert len(cached(config)) == 1 and len(dataset.outliers["hole"](100)[0]) == 3
    assert "3 and 4 images" in dataset.notes[-1]
    (mvtec / "test").rename(mvtec / "docs")  # An ordinary folder of two classes, and masks.
    dataset = datasets.open_dataset(config)
    assert len(cached(config)) == 2 and dataset.class_names == ("docs", "train") and dataset.outliers == {}
    assert_equal(dataset, datasets.open_dataset(dataclasses.replace(config, streaming="never")))


def test_a_folder_that_is_being_filled_is_read_as_it_is_when_it_is_listed(config, mvtec, monkeypatch):
    def survey(path):
        found = survey_folder(path)
        save(mvtec, [f"train/good/later{number}.png" for number in range(4)])
        return found

    survey_folder = image_folder.survey_folder
    monkeypatch.setattr(image_folder, "survey_folder", survey)
    # 24 and 4 images to train on, at 10 : 1 : 1, and 5 to test.
    assert [len(split) for split in datasets.open_dataset(config).splits.values()] == [24, 2, 2, 5]


def test_classes_of_own_splits_are_labels(tmp_path, always, monkeypatch):
    monkeypatch.setattr(splits, "CHUNK_SIZE", 7)
    for kind, value in (("cat", 50), ("dog", 90)):
        save(tmp_path, [f"Train/{kind}/{number}.png" for number in range(24)], value)
        save(tmp_path, [f"val/{kind}/{number}.png" for number in range(3)], value)
    save(tmp_path, ["val/eel/1.png"])
    config = Config(dataset=f"folder:{tmp_path}", image_size=16)
    dataset = datasets.open_dataset(config)
    streamed = dataclasses.replace(always, dataset=config.dataset, image_size=16)
    assert_equal(datasets.open_dataset(streamed), dataset)
    assert dataset.class_names == ("cat", "dog") and [*dataset.outliers] == ["eel"]
    assert [len(split) for split in dataset.splits.values()] == [38, 6, 3, 7]  # Train has 48, at 10 : 1 : 2.
    for split in datasets.SPLITS:
        images, labels = dataset.load(split)
        np.testing.assert_array_equal(images[:, 1, 0, 0], np.array([50, 90])[labels])
    dogs = datasets.open_dataset(dataclasses.replace(config, normal_classes="dog"))
    assert (dogs.load("train")[0][:, 1] == 90).all() and [*dogs.outliers] == ["eel"]


def test_unlabeled_test_images_leave_no_classes(tmp_path):
    save(tmp_path, [f"train/{kind}/{number}.png" for kind in ("cat", "dog") for number in range(6)])
    save(tmp_path, ["test/1.png", "test/2.png"])
    dataset = datasets.open_dataset(Config(dataset=f"folder:{tmp_path}", image_size=16))
    assert dataset.class_names == () and len(dataset.splits["test"]) == 2


def test_classes_without_a_readable_image_are_left_out(tmp_path):
    save(tmp_path, [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(7)])
    for name in ("dog/broken.png", "eel/1.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    dataset = datasets.open_dataset(Config(dataset=f"folder:{tmp_path}", image_size=16))
    assert dataset.class_names == ("cat", "dog") and dataset.skipped == ("dog/broken.png", "eel/1.png")


def test_many_skipped_files_are_abbreviated(tmp_path):
    save(tmp_path, [f"{number}.png" for number in range(14)])
    for number in range(10, 22):
        (tmp_path / f"broken{number}.png").touch()
    dataset = datasets.open_dataset(Config(dataset=f"folder:{tmp_path}", image_size=16))
    (line,) = dataset.warnings()
    assert line.startswith("skipped 12 files that cannot be read: broken10.png, broken11.png")
    assert line.endswith("broken19.png, and 2 more") and len(dataset.info()["skipped"]) == 12


def test_images_are_loaded_whatever_the_layout_of_the_folder(mvtec):
    images, skipped = load_images(mvtec, (16, 16, 1), 1000)
    assert len(images) == 24 + 5 + 2 + 3 and skipped == ["test/hole/broken.png"]
    assert (images[:, 1] < 255).all()  # No masks.


def test_folder_without_readable_images_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "train").mkdir()
    (tmp_path / "train/bad.png").write_text("no")
    save(tmp_path, ["test/1.png"])
    for path, message in (("empty", "it contains none"), ("train", "none of its 1 can be read")):
        with pytest.raises(UserError, match=message):
            load_images(tmp_path / path, (16, 16, 1), 5)
        with pytest.raises(UserError, match=message):
            datasets.open_dataset(Config(dataset=f"folder:{tmp_path / path}"))
    with pytest.raises(UserError, match=f"^--dataset=folder:{tmp_path}/train needs .* none of its 1 can be read"):
        datasets.open_dataset(Config(dataset=f"folder:{tmp_path}"))
