"""Splits and classes by the names of folders, without files."""

from collections import Counter
from pathlib import Path

import pytest

from cae.data.folder_layout import (
    OUTLIERS,
    describe_layout,
    divide,
    find_layout,
    get_group,
    list_class_folders,
    name_classes,
)
from cae.errors import UserError

PATH = Path("images")

MVTEC = ("train/good/1.png", "test/good/1.png", "test/good/2.png", "test/hole/1.png", "ground_truth/hole/1_mask.png")


def locate(*names):
    layout = find_layout("folder", [PATH], map(get_group, names))
    return {name: layout.locate(get_group(name)) for name in names}


@pytest.mark.parametrize(
    "places",
    [
        # Ordinary folders: the first subfolder is the class.
        {"a.png": ("train", ""), "cat/1.png": ("train", "cat"), "cat/more/2.png": ("train", "cat")},
        {"train/a/1.png": ("train", "train"), "docs/1.png": ("train", "docs"), "docs/Ground_Truth/1.png": ("", "")},
        {"test/1.png": ("train", "test"), "val/1.png": ("train", "val"), "test.png": ("train", "")},
        # Own splits under several names; their subfolders are the classes.
        {
            "Training/a/1.png": ("train", "a"),
            "TEST/a/x/1.png": ("test", "a"),
            "docs/1.png": ("", ""),
            "1.png": ("", ""),
        },
        {"train/1.png": ("train", ""), "valid/1.png": ("validation", ""), "calibration/2.png": ("calibration", "")},
        # Anomaly detection: classes that train lacks are outliers, masks are not used.
        dict(zip(MVTEC, [("train", "good"), *[("test", "good")] * 2, (OUTLIERS, "hole"), ("", "")])),
        {"train/1.png": ("train", ""), "test/good/1.png": ("test", "good"), "test/bad/1.png": (OUTLIERS, "bad")},
        {"train/a/1.png": ("train", "a"), "val/b/1.png": (OUTLIERS, "b"), "val/1.png": ("validation", "")},
    ],
)
def test_an_image_is_located_by_its_first_two_folders(places):
    assert locate(*places) == places


@pytest.mark.parametrize(
    "names, message",
    [
        (("train/1.png", "val/1.png", "valid/1.png"), "several folders of validation images, val and valid; keep one"),
        (("train/1.png", "Train/2.png", "test/1.png"), "several folders of train images, Train and train; keep one"),
        (("b/train/1.png", "b/test/1.png", "a/1.png"), "use one of them: --dataset=folder:images/b"),
    ],
)
def test_splits_that_are_not_clear_are_refused(names, message):
    with pytest.raises(UserError, match=f"^--dataset=folder:images has .*{message}$"):
        locate(*names)


def test_missing_splits_are_cut_from_train_in_the_usual_proportions():
    layout = find_layout("folder", [PATH], map(get_group, MVTEC))
    splits = divide("--dataset=folder:images", layout, {"train": 120, "test": 7})
    # 120 at 10 : 1 : 1; the test images follow those of train.
    assert splits == {
        "train": {"images": 100, "origin": "train/ by hashed name[0:100]", "start": 0},
        "validation": {"images": 10, "origin": "train/ by hashed name[100:110]", "start": 100},
        "calibration": {"images": 10, "origin": "train/ by hashed name[110:120]", "start": 110},
        "test": {"images": 7, "origin": "test/", "start": 120},
    }
    without_test = divide("--dataset=folder:images", layout, {"train": 140})
    assert [info["images"] for info in without_test.values()] == [100, 10, 10, 20]
    with pytest.raises(UserError, match=r"^--dataset=folder:images/train has 11 images; 12 are needed"):
        divide("--dataset=folder:images", layout, {"train": 11, "test": 7})


def test_what_is_found_is_described():
    counts = Counter(map(get_group, [*MVTEC, "val/hole/1.png", "docs/1.png", "docs/2.png", "3.png"]))
    assert describe_layout(find_layout("folder", [PATH], counts), counts) == [
        "ignored 4 images outside of train and val and test: 1 in no folder, 2 in docs/, 1 in ground_truth/",
        "the folder's own splits: train is train/, test is test/; cut from train: calibration; val/ has no image of a"
        " class of train, so that validation is cut from train, too",
        "test/hole, val/hole: 1 and 1 images of classes that train lacks are outliers",
    ]
    masks = Counter(map(get_group, ["a/1.png", "a/ground_truth/1.png"]))
    layout = find_layout("folder", [PATH], masks)
    assert describe_layout(layout, masks) == ["ignored 1 images of masks: 1 in ground_truth/"]


def test_folders_are_classes_if_every_image_is_in_one_and_there_are_several():
    assert list_class_folders(["dog", "cat", "dog"]) == ["cat", "dog"]
    assert list_class_folders(["dog", "cat", ""]) == list_class_folders(["dog"]) == list_class_folders([]) == []


def test_different_folders_have_different_printable_names():
    folders = ["caf\udce9", "caf\\udce9", "a\nb", "Größe"]
    assert name_classes(folders) == ["caf\\udce9", "caf\\udce9_", "a\\nb", "Größe"]
