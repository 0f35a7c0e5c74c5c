import dataclasses
import socket

import numpy as np
import pytest
from PIL import Image

import cae
from cae.config import Config
from cae.data import datasets, outlier_sets, tfds
from cae.errors import UserError

DIGITS = Config(dataset="digits")


def assert_disjoint(splits):
    """No image is in two splits, if images of the same content are the same."""
    hashes = [{image.tobytes() for image in images} for images in splits]
    assert sum(map(len, hashes)) == len(set().union(*hashes))


def test_digits_need_no_network(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("used the network"))
    dataset = datasets.open_dataset(DIGITS)
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    # 1,797 images at 10 : 1 : 1 : 2.
    assert sizes == {"train": 1285, "validation": 128, "calibration": 128, "test": 256}
    assert dataset.image_shape == (28, 28, 1) and dataset.class_names == tuple("0123456789")
    splits = [dataset.load(name) for name in datasets.SPLITS]
    assert [len(images) for images, _ in splits] == list(sizes.values())
    assert_disjoint([images for images, _ in splits])
    assert all(set(labels) == set(range(10)) for _, labels in splits)


def test_digits_are_centered_as_those_of_mnist():
    images, _ = datasets.open_dataset(DIGITS).load("train")
    assert images.dtype == np.uint8 and images.max() == 255
    assert images[:, :2].max() == images[:, :, -2:].max() == 0


def test_splits_are_the_same_every_time():
    first, second = (datasets.open_dataset(DIGITS).load("test")[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_size_and_channels_can_be_set():
    dataset = datasets.open_dataset(dataclasses.replace(DIGITS, image_size=33, channels=3))
    assert dataset.image_shape == (33, 33, 3) == dataset.load("test")[0].shape[1:]


def test_official_splits_are_divided_as_those_of_mnist():
    splits = tfds.partition_official_splits("mnist", {"train": 60_000, "test": 10_000})
    assert splits == {
        "train": ("train", 0, 50_000),
        "validation": ("train", 50_000, 55_000),
        "calibration": ("train", 55_000, 60_000),
        "test": ("test", 0, 10_000),
    }


def test_a_single_official_split_is_divided_in_four():
    splits = tfds.partition_official_splits("flowers", {"train": 70_000})
    assert [stop - start for _, start, stop in splits.values()] == [50_000, 5_000, 5_000, 10_000]


@pytest.fixture
def folder(tmp_path, random):
    for number in range(30):
        Image.fromarray(random.integers(0, 256, (20, 30), np.uint8)).save(tmp_path / f"{number}.png")
    return Config(dataset=f"folder:{tmp_path}")


def test_a_folder_has_four_disjoint_splits(folder):
    dataset = datasets.open_dataset(folder)
    assert [len(split) for split in dataset.splits.values()] == [22, 2, 2, 4]
    assert_disjoint([dataset.load(name)[0] for name in datasets.SPLITS])
    assert dataset.info()["splits"]["test"] == {"images": 4, "origin": "files by hashed name[26:30]"}
    assert dataset.info()["class_names"] == []


def test_a_folder_that_changed_has_another_fingerprint(folder, tmp_path):
    before = datasets.open_dataset(folder).fingerprint
    (tmp_path / "0.png").rename(tmp_path / "other.png")
    assert datasets.open_dataset(folder).fingerprint != before


def test_too_few_images_and_too_large_a_batch_are_refused(folder, tmp_path):
    dataset = datasets.open_dataset(folder)
    with pytest.raises(UserError, match=r"--batch_size=128 is larger than the 22 training images"):
        datasets.check_dataset(dataset, 128)
    datasets.check_dataset(dataset, 22)
    for path in list(tmp_path.iterdir())[13:]:
        path.unlink()
    with pytest.raises(UserError, match=r"has 13 images; 14 are needed"):
        datasets.open_dataset(folder)


def test_too_small_images_are_refused(tmp_path):
    cae.write_records(tmp_path / "tiny", [(np.zeros((14, 10, 20, 1), np.uint8), np.zeros(14, int))])
    with pytest.raises(UserError, match="has images smaller than 11"):
        datasets.open_dataset(Config(dataset=f"records:{tmp_path / 'tiny'}"))
    with pytest.raises(UserError, match=r"--image_size=8 must be at least 11"):
        datasets.open_dataset(dataclasses.replace(DIGITS, image_size=8))


def test_images_that_do_not_fit_into_memory_are_refused():
    dataset = dataclasses.replace(datasets.open_dataset(DIGITS), image_shape=(200_000, 200_000, 3))
    with pytest.raises(UserError, match=r"GiB of memory; use --streaming=auto or a smaller --image_size"):
        datasets.check_dataset(dataset, 8)


def test_an_unknown_name_suggests_the_closest(tmp_path):
    with pytest.raises(UserError, match=r"unknown --dataset 'mnits'.*did you mean 'mnist'"):
        datasets.open_dataset(Config(dataset="mnits", data_dir=str(tmp_path)))


# --- Real data -------------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_mnist_has_its_official_test_split(tfds_dir):
    dataset = datasets.open_dataset(Config(dataset="mnist", data_dir=tfds_dir))
    assert [len(split) for split in dataset.splits.values()] == [50_000, 5_000, 5_000, 10_000]
    images, labels = dataset.load("test")
    assert images.shape == (10_000, 28, 28, 1)
    # The official test set's counts of each digit.
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


@pytest.mark.real_data
def test_mnist_can_be_resized(tfds_dir):
    dataset = datasets.open_dataset(Config(dataset="mnist", data_dir=tfds_dir, image_size=32, channels=3))
    assert dataset.load("validation")[0].shape == (5_000, 32, 32, 3)


@pytest.mark.real_data
def test_a_prepared_copy_without_the_training_split_is_refused(tfds_dir):
    with pytest.raises(UserError, match=r"has no split 'train' in its prepared copy, only test"):
        datasets.open_dataset(Config(dataset="fashion_mnist", data_dir=tfds_dir))


@pytest.mark.real_data
def test_omniglot_as_a_folder(shared):
    folder = shared / "data" / "images" / "omniglot"
    dataset = datasets.open_dataset(Config(dataset=f"folder:{folder}"))
    assert sum(len(split) for split in dataset.splits.values()) == 2720
    assert dataset.skipped == () and len(dataset.class_names) == 5


def test_classes_are_selected_or_excluded_and_keep_their_labels():
    everything = datasets.open_dataset(Config(dataset="digits"))
    for flag, kept in {"3": [3], "1, 7": [1, 7], "-3": [0, 1, 2, 4, 5, 6, 7, 8, 9]}.items():
        dataset = datasets.open_dataset(Config(dataset="digits", normal_classes=flag))
        for split in datasets.SPLITS:
            images, labels = everything.load(split)
            members = np.isin(labels, kept)
            np.testing.assert_array_equal(dataset.load(split)[0], images[members])
            np.testing.assert_array_equal(dataset.load(split)[1], labels[members])
            np.testing.assert_array_equal(dataset.excluded_classes(split)[0], images[~members])
            assert len(dataset.splits[split]) == members.sum()
        assert dataset.class_names == everything.class_names and flag in dataset.info()["splits"]["test"]["origin"]
    assert everything.excluded_classes is None


def test_unknown_and_empty_classes_are_refused():
    with pytest.raises(UserError, match="unknown --normal_classes '12'"):
        datasets.open_dataset(Config(dataset="digits", normal_classes="12"))
    with pytest.raises(UserError, match="the train split of digits has no such image"):
        datasets.open_dataset(Config(dataset="digits", normal_classes="-0,-1,-2,-3,-4,-5,-6,-7,-8,-9"))


def test_classes_with_commas_in_their_names_are_matched_greedily():
    digits = datasets.open_dataset(Config(dataset="digits"))
    dataset = dataclasses.replace(digits, class_names=("a", "a,b", "b", "-c", "d, e", *"56789"))
    for flag, labels in {
        "a": [0], "a,b": [1], "a, b": [0, 2], "b,a,b": [1, 2], "-c": [3], "d, e,a": [0, 4],
        "-a,b": [0, 2, 3, 4, 5, 6, 7, 8, 9], "-b,-a": [1, 3, 4, 5, 6, 7, 8, 9],
    }.items():  # fmt: skip
        assert datasets._class_indices(flag, dataset) == labels, flag
    for flag, unknown in {"a,c": "c", "-a,5": "-a", "-x": "x"}.items():
        with pytest.raises(UserError, match=f"unknown --normal_classes '{unknown}'"):
            datasets._class_indices(flag, dataset)


def test_normal_classes_of_unlabeled_images_are_refused(folder):
    with pytest.raises(
        UserError, match=r"^--normal_classes=cat: folder:.* has no classes; a folder has, if each of its"
    ):
        datasets.open_dataset(dataclasses.replace(folder, normal_classes="cat"))


@pytest.mark.parametrize("name", ["folder", "folder:", "records", "records:"])
def test_a_path_is_needed(name):
    kind = name.removesuffix(":")
    with pytest.raises(UserError, match=f"^--dataset={name} needs a path: --dataset={kind}:PATH$"):
        datasets.open_dataset(Config(dataset=name))
    with pytest.raises(UserError, match=f"^--outlier_datasets={name} needs a path"):
        outlier_sets.load_outlier_datasets([name], None, (12, 12, 1), 5)
