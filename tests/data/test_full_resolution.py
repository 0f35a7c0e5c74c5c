"""Images of many sizes, whose pixels say where they are: a crop shows its image, its place and its turn."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from cae import models
from cae.config import Config
from cae.data import datasets, noise, pipeline, record_cache, symmetries
from cae.data.folder_files import FileReader
from cae.data.full_resolution import Crops, FullResolutionSplit
from cae.errors import UserError

SIZES = [(20, 30), (25, 16), (16, 16), (40, 18)] * 5
"""Heights and widths of 20 images."""


def coordinates(index, height, width):
    """An image whose channels are its index, the row and the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([np.full_like(rows, index), rows, columns], axis=-1).astype(np.uint8)


def write_images(folder, sizes=SIZES, shift=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index, size in enumerate(sizes):
        Image.fromarray(coordinates(index, *size) + np.uint8(shift)).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture
def config(tmp_path):
    folder = write_images(tmp_path / "images")
    return Config(dataset=f"folder:{folder}", crop_size=12, channels=3, model="unet", cache_dir=str(tmp_path / "cache"))


def train_batches(config, first, last, batch_size=8):
    dataset = datasets.open_dataset(config)
    corruption = noise.parse_noise(config.noise)
    return list(pipeline.make_train_data(dataset, corruption, batch_size, config.seed).train(first, last))


def values(batches, name="image"):
    return np.rint(255 * np.concatenate([batch[name] for batch in batches])).astype(int)


def test_crops_are_squares_of_their_images_at_random_places(config):
    dataset = datasets.open_dataset(config)
    sizes = {int(stack[0, 0, 0, 0]): stack.shape[1:3] for stack in dataset.splits["train"].stacks}
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 17, "validation": 1, "calibration": 1, "test": 1
    }  # fmt: skip
    # 34 steps of 8 crops are an epoch of 17 images, 16 crops of each.
    crops = values(train_batches(config, 0, 34))
    assert crops.shape == (272, 12, 12, 3)
    indices, counts = np.unique(crops[:, 0, 0, 0], return_counts=True)
    assert set(indices) == sizes.keys() and set(counts) == {16}
    for crop in crops:
        index, top, left = crop[0, 0]
        np.testing.assert_array_equal(crop, coordinates(index, 60, 60)[top : top + 12, left : left + 12])
        assert top + 12 <= sizes[index][0] and left + 12 <= sizes[index][1]
    places = crops[crops[:, 0, 0, 0] == next(index for index, size in sizes.items() if size == (16, 16))][:, 0, 0, 1:]
    assert len(np.unique(places, axis=0)) > 8 and places.min() == 0 and places.max() == 4


def test_augmented_crops_are_flipped_and_turned_in_all_eight_ways(config):
    crops = values(train_batches(dataclasses.replace(config, augment=True), 0, 34))[..., 1:]
    kinds = set()
    for crop in crops:
        corner = crop.min(axis=(0, 1))
        square = coordinates(0, 12, 12)[..., 1:]
        kinds.add(next(s for s in symmetries.DIHEDRAL if (s.apply(square) == crop - corner).all()))
    assert kinds == set(symmetries.DIHEDRAL)


def test_a_batch_of_crops_depends_on_seed_and_step_alone_and_not_on_where_images_are_read(config):
    config = dataclasses.replace(config, augment=True, noise="awgn:25")
    streamed = dataclasses.replace(config, streaming="always")
    for one, other in zip(train_batches(config, 0, 9)[5:], train_batches(streamed, 5, 9), strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)
    other_seed = values(train_batches(dataclasses.replace(config, seed=1), 5, 9))
    assert not np.array_equal(values(train_batches(config, 5, 9)), other_seed)
    assert datasets.open_dataset(streamed).info() == datasets.open_dataset(config).info()
    assert datasets.open_dataset(streamed).folder is not None
    gray = datasets.open_dataset(dataclasses.replace(streamed, channels=1))
    assert {stack.shape[3] for stack in gray.splits["train"].stacks} == {1}


@pytest.mark.parametrize("split, count", [("validation", 1), ("test", 1), ("train", 17)])
def test_images_are_evaluated_whole_in_batches_of_one(config, split, count):
    dataset = datasets.open_dataset(config)
    batches = list(pipeline.make_eval_batches(dataset, 0)(split, noise.parse_noise("awgn:25")))
    assert [batch["image"].shape for batch in batches] == [s.shape for s in dataset.splits[split].stacks]
    for batch, stack in zip(batches, dataset.splits[split].stacks, strict=True):
        np.testing.assert_allclose(batch["image"], stack / 255, atol=1e-6)
        assert batch["input"].shape == batch["image"].shape and batch["label"] == [0]
    # The noise of each image is its own: with one seed, all would begin with the same value.
    assert len({float(batch["input"][0, 0, 0, 0] - batch["image"][0, 0, 0, 0]) for batch in batches}) == count
    # Whatever loads a split as images of one size gets the centers.
    assert dataset.load(split)[0].shape == (count, 12, 12, 3)


def test_validation_takes_the_center_of_large_images_and_summaries_have_one_size(config, monkeypatch):
    monkeypatch.setattr(pipeline, "MAX_VALIDATION_SIDE", 14)
    dataset = datasets.open_dataset(config)
    data = pipeline.make_train_data(dataset, None, 8, 0)
    (batch,), (examples,) = data.validation, data.examples
    height, width = dataset.splits["validation"].stacks[0].shape[1:3]
    assert batch["image"].shape == (1, 14, 14, 3) and examples["image"].shape == (1, 12, 12, 3)
    assert values([batch])[0, 0, 0, 1:].tolist() == [(height - 14) // 2, (width - 14) // 2]


def test_pairs_are_cut_at_the_same_place_and_matched_by_name(tmp_path):
    clean = write_images(tmp_path / "clean,1")
    noisy = write_images(tmp_path / "noisy", SIZES, shift=1)
    (noisy / "03.png").rename(noisy / "03.PNG")  # The suffix does not matter.
    write_images(noisy / "alone", [(20, 20)])
    Image.fromarray(coordinates(4, 20, 31)).save(clean / "04.png")
    (clean / "05.png").write_bytes(b"damaged")
    config = Config(dataset=f"pairs:{noisy},{clean}", crop_size=12, channels=3, crops_per_image=4, augment=True)
    dataset = datasets.open_dataset(config)
    lines = "\n".join(dataset.warnings())
    assert dataset.num_images == 18 and dataset.skipped == ("05.png",)
    assert f"1 images of {noisy} have none in {clean}: alone/00.png" in lines
    assert "left out 1 pairs of different sizes: 04.png (30x20 and 31x20)" in lines
    batches = train_batches(config, 0, 4)
    np.testing.assert_array_equal(values(batches, "input"), values(batches) + 1)
    (batch,) = pipeline.make_eval_batches(dataset, 0)("test", None)
    np.testing.assert_array_equal(values([batch], "input"), values([batch]) + 1)


@pytest.mark.parametrize("kind", ["folder", "pairs"])
def test_own_splits_have_all_their_images_in_whatever_folders(tmp_path, kind):
    """As the scenes of videos: folders within a split are no classes."""
    for side in ("noisy", "clean"):
        write_images(tmp_path / side / "train" / "a", SIZES[:8])
        write_images(tmp_path / side / "test" / "b", SIZES[:4])
        write_images(tmp_path / side / "test" / "a", SIZES[4:7])
    paths = f"{tmp_path / 'noisy'},{tmp_path / 'clean'}" if kind == "pairs" else tmp_path / "clean"
    dataset = datasets.open_dataset(Config(dataset=f"{kind}:{paths}", crop_size=12, model="unet"))
    assert sorted(dataset.splits["test"].names) == [
        *(f"test/a/{index:02}.png" for index in range(3)), *(f"test/b/{index:02}.png" for index in range(4))
    ]  # fmt: skip
    assert {name.split("/")[0] for name in dataset.splits["train"].names} == {"train"}
    assert "outliers" not in " ".join(dataset.warnings())


def test_pairs_of_subfolders_with_splits_are_named_as_pairs(tmp_path):
    """The advice to use one folder would train on noisy images as clean ones."""
    for side in ("noisy", "clean"):
        for split in ("train", "test"):
            write_images(tmp_path / side / "x" / split, SIZES[:2])
    name = f"pairs:{tmp_path / 'noisy'},{tmp_path / 'clean'}"
    with pytest.raises(UserError, match=rf"use one of them: --dataset=pairs:{tmp_path}/noisy/x,{tmp_path}/clean/x$"):
        datasets.open_dataset(Config(dataset=name, crop_size=12, model="unet"))


def test_takes_are_input_and_target_in_turn(tmp_path):
    first, second = write_images(tmp_path / "first"), write_images(tmp_path / "second", shift=1)
    batches = train_batches(Config(dataset=f"takes:{first},{second}", crop_size=12, channels=3), 0, 34)
    differences = values(batches, "input") - values(batches)
    swapped = (differences == 1).all(axis=(1, 2, 3))
    assert (np.abs(differences) == 1).all() and (differences == differences[:, :1, :1, :1]).all()
    assert swapped.mean() == pytest.approx(0.5, abs=0.12)  # Four standard deviations of 272 coins.


@pytest.mark.parametrize("streaming", ["never", "always"])
def test_pairs_with_the_same_target_are_duplicates(tmp_path, capsys, streaming):
    """Noisy images of one clean image, in train and in test, are images of the same scene."""
    noisy, clean = write_images(tmp_path / "noisy", shift=1), write_images(tmp_path / "clean")
    cache = {"streaming": streaming, "cache_dir": str(tmp_path / "cache")}
    config = Config(dataset=f"pairs:{noisy},{clean}", crop_size=12, channels=3, **cache)
    dataset = datasets.open_dataset(config)
    train, test = (dataset.splits[name] for name in ("train", "test"))
    other = Config(dataset=f"folder:{clean}", channels=3, **cache)
    datasets.open_test_images(other, train)
    assert "warning: 17 of 20 test images are training images too" in capsys.readouterr().out
    for name in (test.names[0], train.names[5]):
        Image.fromarray(coordinates(7, 20, 20)).save(clean / name)
    Image.fromarray(coordinates(8, 20, 20)).save(noisy / test.names[0])
    Image.fromarray(coordinates(9, 20, 20)).save(noisy / train.names[5])
    lines = "".join(datasets.open_dataset(config).warnings())
    assert f"1 of 1 test images are training images too ({test.names[0]} = {train.names[5]})" in lines
    removed = datasets.open_dataset(dataclasses.replace(config, remove_duplicates=True)).splits["train"]
    assert removed.names == [*train.names[:5], *train.names[6:]]


def test_symmetries_are_undone_and_an_ensemble_averages_over_them():
    images = np.arange(24.0, dtype=np.float32).reshape(1, 4, 6, 1)
    for symmetry in symmetries.DIHEDRAL:
        np.testing.assert_array_equal(symmetry.undo(symmetry.apply(images)), images)
    # What depends on the place is averaged over the four corners of what is not square, and of the square.
    first_pixel = lambda images: np.zeros_like(images) + images[:, :1, :1]  # noqa: E731
    assert symmetries.self_ensemble(first_pixel)(images) == pytest.approx((0 + 5 + 18 + 23) / 4)
    np.testing.assert_allclose(symmetries.self_ensemble(lambda images: images)(images), images)


def test_crops_of_a_split_skip_what_is_removed():
    stacks = [coordinates(index, 12, 12)[None] for index in range(4)]
    split = FullResolutionSplit(stacks, [*"abcd"], np.arange(4), "made up", 12).without(np.array([0, 2]), "fewer")
    crops = split.take_crops(np.array([1, 0]), np.full([2, 4], 0.999), Crops(12, 1))
    assert crops[:, 0, 0, 0, 0].tolist() == [3, 1] and split.names == ["b", "d"] and split.origin == "fewer"
    assert split.hashes.tolist() == [1, 3]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"crop_size": 17}, r"--crop_size=17 is larger than .*\.png of --dataset=folder:.*16.* pixels; --crop_size=16"),
        ({"crop_size": 8}, "must be at least 11"),
        ({"dataset": "digits"}, "does not apply to --dataset=digits; it applies to folder:PATH"),
        ({"dataset": "pairs:nowhere,else"}, "there is no folder nowhere; two are needed"),
        ({"dataset": "takes:one"}, "it names one folder; two are needed"),
        ({"dataset": "takes:.,."}, "it names one folder; two are needed"),
        ({"dataset": "pairs:"}, "needs a path: --dataset=pairs:NOISY,CLEAN"),
        ({"dataset": "pairs:a,b", "noise": "awgn:5"}, "pairs have noise of their own"),
        ({"dataset": "pairs:a,b", "crop_size": None}, "--dataset=pairs:a,b needs --crop_size"),
        ({"crop_size": None, "augment": True}, "--augment=True needs --crop_size"),
        ({"image_size": 32}, "--image_size=32 does not go with --crop_size"),
        ({"model": "conv"}, "needs a model for images of any size, --model=unet or resunet or dncnn, not conv"),
    ],
)
def test_what_does_not_fit_crops_is_refused_in_one_line(config, changes, message):
    with pytest.raises(UserError, match=message):
        config = dataclasses.replace(config, **changes)
        models.check_image_sizes(config)
        datasets.open_dataset(config)


def test_a_data_set_without_an_image_that_can_be_used_says_why(tmp_path):
    folders = {name: write_images(tmp_path / name, [size] * 2) for name, size in (("a", (20, 30)), ("b", (20, 31)))}
    for name in ("empty", "damaged", "others"):
        folders[name] = tmp_path / name
        folders[name].mkdir()
    (folders["damaged"] / "x.png").write_bytes(b"damaged")
    Image.new("L", (20, 20)).save(folders["others"] / "7.png")
    for dataset, reason in {
        "folder:{empty}": "there are no image files",
        "folder:{damaged}": "cannot read x.png",
        "pairs:{a},{empty}": "the folders have no images of the same name",
        "pairs:{a},{others}": "the folders have no images of the same name",
        "pairs:{a},{b}": r"left out 2 pairs of different sizes: 0\d.png \(30x20 and 31x20\), 0\d.png .*",
    }.items():
        config = Config(dataset=dataset.format_map(folders), crop_size=12)
        with pytest.raises(UserError, match=f"^--dataset={config.dataset}: {reason}$"):
            datasets.open_dataset(config)


def test_images_of_any_kind_are_trained_on_together(tmp_path):
    """Gray, color, transparent and 16-bit images, each of a constant value, in gray or in color."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    for mode, value in (("L", 7), ("RGB", (7, 7, 7)), ("RGBA", (7, 7, 7, 255)), ("LA", (7, 255)), ("I;16", 7 * 257)):
        Image.new(mode, (14, 14), value).save(folder / f"{mode[0]}{len(mode)}.png")
    for channels in (1, 3):
        dataset = datasets.open_dataset(Config(dataset=f"folder:{folder}", crop_size=12, channels=channels))
        stacks = [stack for split in dataset.splits.values() for stack in split.stacks]
        assert {stack.shape for stack in stacks} == {(1, 14, 14, channels)} and {*np.unique(stacks)} == {7}
        assert dataset.num_images == 5 and "1 file: more than 8 bits: reduced to 8" in "".join(dataset.warnings())


def test_cached_images_are_on_the_disk_itself(config, monkeypatch):
    synced, fsync = set(), os.fsync

    def record(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    folder = datasets.open_dataset(dataclasses.replace(config, streaming="always")).folder
    assert {path.stat().st_ino: path.name for path in folder.iterdir() if path.stat().st_ino not in synced} == {}


def test_a_killed_writer_leaves_nothing_in_the_cache(config, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    def kill(function, *arguments):
        """Interrupts a function that then cannot remove anything."""
        with monkeypatch.context() as context:
            context.setattr(shutil, "rmtree", lambda *_, **__: None)
            context.setattr(FileReader, "read", interrupt)
            function(*arguments)

    monkeypatch.setattr(record_cache, "run_in_subprocess", kill)
    with pytest.raises(KeyboardInterrupt):
        datasets.open_dataset(dataclasses.replace(config, streaming="always"))
    assert [path for path in Path(config.cache_dir).glob("*/*") if path.is_dir()] == []


def test_a_damaged_cache_of_images_is_refused(config):
    config = dataclasses.replace(config, streaming="always")
    folder = datasets.open_dataset(config).folder
    with (folder / "images.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="is damaged: remove it"):
        datasets.open_dataset(config)
