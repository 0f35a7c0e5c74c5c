import concurrent.futures
import dataclasses
import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from record_sets import assert_equal

from cae.config import Config
from cae.data import datasets, pixel_range, tfds_files
from cae.data.outlier_sets import load_outlier_datasets
from cae.data.pixel_range import find_pixel_max
from cae.data.tfds import read_chunks
from cae.data.tfds_builder import get_builder
from cae.errors import UserError
from cae.training import train as training


class MadeUpShapes(tfds.core.GeneratorBasedBuilder):
    """Color images of many sizes, with unusual feature names, and a validation split but no test split."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "kind": tfds.features.ClassLabel(names=["dark", "bright"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(24), "validation": self._generate_examples(6)}

    def _generate_examples(self, count):
        for number in range(count):
            value = 255 if number % 2 else 0
            yield number, {"image": np.full((20 + number, 40, 3), value, np.uint8), "kind": number % 2}


class MadeUpBits(tfds.core.GeneratorBasedBuilder):
    """Images of 0 and 1; `later` has a 2 among them, `dark` has 0 and 40, `one_bit` is from files."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("binary", "later", "dark", "one_bit")]

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(shape=(12, 12, 1))})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        images = np.random.default_rng(0).integers(0, 2, (28, 12, 12, 1), np.uint8)
        images *= 40 if self.builder_config.name == "dark" else 1
        for number, image in enumerate(images):
            file = io.BytesIO()
            Image.fromarray(image[..., 0].astype(bool)).save(file, "PNG")
            file.seek(0)
            yield number, {"image": file if self.builder_config.name == "one_bit" else image}
        if self.builder_config.name == "later":
            yield 28, {"image": np.full((12, 12, 1), 2, np.uint8)}


class MadeUpSecret(tfds.core.GeneratorBasedBuilder):
    """Images whose test split has no labels, with a validation split in one of two configurations."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("validated", "alone")]

    def _info(self):
        features = {"image": tfds.features.Image(shape=(12, 12, 1)), "label": tfds.features.ClassLabel(num_classes=3)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        splits = {"train": self._generate_examples(28, 1), "test": self._generate_examples(5, -1)}
        validated = self.builder_config.name == "validated"
        return splits | ({"validation": self._generate_examples(7, 2)} if validated else {})

    def _generate_examples(self, count, label):
        for number in range(count):
            yield number, {"image": np.full((12, 12, 1), 9 * number, np.uint8), "label": label}


class MadeUpSound(tfds.core.GeneratorBasedBuilder):
    """No images at all."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"loudness": np.float32}))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"loudness": 1.0}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    for builder in (MadeUpShapes, MadeUpSound):
        builder(data_dir=folder).download_and_prepare()
    for kind in MadeUpBits.BUILDER_CONFIGS:
        MadeUpBits(config=kind, data_dir=folder).download_and_prepare()
    return folder


def test_any_prepared_image_data_set_is_opened_by_its_name(data_dir):
    dataset = datasets.open_dataset(Config(dataset="made_up_shapes", data_dir=data_dir, image_size=16, channels=1))
    assert dataset.image_shape == (16, 16, 1) and dataset.class_names == ("dark", "bright")
    # The validation split takes the place of the missing test split.
    assert [len(split) for split in dataset.splits.values()] == [20, 2, 2, 6]
    images, labels = dataset.load("train")
    assert images.shape == (20, 16, 16, 1)
    assert (images.mean(axis=(1, 2, 3)) == labels * 255).all()


@pytest.mark.parametrize(
    "file_format, number, sizes, label",
    [("tfrecord", 0, [24, 2, 2, 7], 2), ("array_record", 1, [20, 2, 2, 4], 1), ("parquet", 1, [20, 2, 2, 4], 1)],
)
def test_a_test_split_without_labels_is_not_used(tmp_path, file_format, number, sizes, label):
    config = MadeUpSecret.BUILDER_CONFIGS[number]
    MadeUpSecret(config=config, data_dir=str(tmp_path), file_format=file_format).download_and_prepare()
    name = f"made_up_secret/{config.name}"
    dataset = datasets.open_dataset(Config(dataset=name, data_dir=str(tmp_path)))
    assert [len(split) for split in dataset.splits.values()] == sizes
    assert set(dataset.load("test")[1]) == {label}
    line = "the official test split of made_up_secret is not used: its images have no labels"
    assert dataset.warnings() == [line]
    crops = datasets.open_dataset(Config(dataset=name, data_dir=str(tmp_path), crop_size=12, model="unet"))
    assert len(crops.splits["test"]) == 5


def test_images_of_many_sizes_need_an_image_size(data_dir):
    with pytest.raises(UserError, match="images of many sizes: set --image_size"):
        datasets.open_dataset(Config(dataset="made_up_shapes", data_dir=data_dir))


def test_images_of_many_sizes_are_whole_in_memory_and_streamed(data_dir, always):
    config = Config(dataset="made_up_shapes", data_dir=data_dir, crop_size=16, model="unet")
    streamed = dataclasses.replace(config, streaming="always", cache_dir=always.cache_dir)
    for dataset in map(datasets.open_dataset, (config, streamed)):
        # Heights are 20 and more, images are black and white in turn.
        train, test = (dataset.splits[name].stacks for name in ("train", "test"))
        assert len(train) == 22 and sorted(stack.shape[1] for stack in test) == [*range(20, 26)]
        assert {(len(stack), *stack.shape[2:]) for stack in (*train, *test)} == {(1, 40, 3)}
        assert sorted(int(stack.mean()) for stack in test) == [0, 0, 0, 255, 255, 255]
        assert dataset.image_shape == (16, 16, 3) and dataset.num_images == 30
    with_version = datasets.open_dataset(dataclasses.replace(config, dataset="made_up_shapes:1.0.0"))
    assert len(with_version.splits["train"].stacks) == 22
    assert dataset.folder is not None


def test_a_crop_that_is_larger_than_an_image_is_refused_by_its_name(data_dir):
    with pytest.raises(UserError, match=r"--crop_size=21 is larger than .* of --dataset=made_up_shapes, 40x20 pixels"):
        datasets.open_dataset(Config(dataset="made_up_shapes", data_dir=data_dir, crop_size=21, model="unet"))


@pytest.mark.parametrize("size", [12, 24])
def test_images_of_zeros_and_ones_are_scaled_wherever_they_are_read(data_dir, size, always):
    config = Config(dataset="made_up_bits/binary", data_dir=data_dir, image_size=size)
    dataset = datasets.open_dataset(config)
    images = dataset.load("train")[0]
    assert (images.min(), images.max()) == (0, 255) and 100 < images.mean() < 155
    assert dataset.info()["pixel_max"] == 1
    assert dataset.warnings() == [
        "all values of the first 28 images of made_up_bits are 0 or 1: they are scaled to 255"
    ]
    streamed = dataclasses.replace(config, streaming="always", cache_dir=always.cache_dir)
    assert_equal(datasets.open_dataset(streamed), dataset)
    (found,), _ = (part.values() for part in load_outlier_datasets([config.dataset], data_dir, (size, size, 1), 5))
    assert found.max() == 255


def test_values_of_other_ranges_are_not_scaled(data_dir):
    dataset = datasets.open_dataset(Config(dataset="made_up_bits/dark", data_dir=data_dir))
    assert dataset.load("test")[0].max() == 40 and dataset.info()["pixel_max"] == 255
    assert "no value of the first 28 images of made_up_bits is above 40 of 255" in dataset.warnings()[0]
    for name in ("made_up_shapes", "made_up_bits/one_bit"):
        bright = datasets.open_dataset(Config(dataset=name, data_dir=data_dir, image_size=16))
        assert bright.warnings() == [] and bright.info()["pixel_max"] == 255 == bright.load("train")[0].max()
    builder = get_builder("made_up_bits/later", data_dir)
    assert find_pixel_max(builder, "image")[0] == 255
    with pytest.raises(
        UserError, match=r"--dataset=made_up_bits has the value 2 in train, and only 0 and 1 in its first"
    ):
        [*read_chunks(builder, "train", (12, 12, 1), pixel_max=1)]


def test_looking_at_values_leaves_devices_uninitialized_and_damage_to_the_reader(data_dir, tmp_path, monkeypatch):
    builder = get_builder("made_up_bits/binary", data_dir)
    monkeypatch.setattr(builder, "as_dataset", lambda *_, **__: pytest.fail("initialized TensorFlow"))
    assert len([*pixel_range._inspect_images(builder, "image", "train")]) == 28
    (path,) = builder.info.splits["train"].filepaths
    truncated = tmp_path / "truncated"
    truncated.write_bytes(path.read_bytes()[:40])
    monkeypatch.setattr(tfds_files, "_read_tfrecords", lambda path, read=tfds_files._read_tfrecords: read(truncated))
    assert find_pixel_max(builder, "image") == (255, ())


def test_a_damaged_file_is_refused_in_one_line_wherever_it_is_read(data_dir, tmp_path, always):
    folder = shutil.copytree(Path(data_dir) / "made_up_shapes", tmp_path / "made_up_shapes")
    (path,) = folder.rglob("*-train.tfrecord-*")
    content = path.read_bytes()
    middle, length = len(content) // 2, 8
    resized = Config(dataset="made_up_shapes", data_dir=str(tmp_path), image_size=16)
    whole = dataclasses.replace(resized, image_size=None, crop_size=16, model="unet")
    streamed = [dataclasses.replace(c, streaming="always", cache_dir=always.cache_dir) for c in (resized, whole)]
    for reason, damaged in {
        "truncated record at .*": content[:middle],
        r"corrupted record at \d\d+": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "corrupted record at 0 .*": b"\xff" * length + content[length:],
    }.items():
        path.write_bytes(damaged)
        for config in (resized, whole, *streamed):
            with pytest.raises(UserError, match=f"^--dataset=made_up_shapes cannot be read: {reason}; remove {folder}"):
                datasets.open_dataset(config).load("train")


@pytest.fixture(scope="module", params=["array_record", "parquet"])
def other_format(request, tmp_path_factory):
    """A folder of the data sets, stored in other files than TFRecord."""
    folder = str(tmp_path_factory.mktemp(request.param))
    config = MadeUpBits.BUILDER_CONFIGS[0]
    MadeUpShapes(data_dir=folder, file_format=request.param).download_and_prepare()
    MadeUpBits(config=config, data_dir=folder, file_format=request.param).download_and_prepare()
    return folder


def test_data_sets_are_read_from_files_of_any_format(data_dir, other_format):
    resized = Config(dataset="made_up_shapes", data_dir=data_dir, image_size=16)
    whole = dataclasses.replace(resized, image_size=None, crop_size=16, model="unet")
    bits = Config(dataset="made_up_bits/binary", data_dir=data_dir)
    for config in (resized, whole, bits):
        expected, found = (
            datasets.open_dataset(dataclasses.replace(config, data_dir=folder)) for folder in (data_dir, other_format)
        )
        assert found.pixel_max == expected.pixel_max
        for one, other in zip(expected.load("train"), found.load("train"), strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)


def test_devices_are_set_up_before_tensorflow_encodes_or_reads_images(data_dir, other_format, tmp_path, monkeypatch):
    bits = Config(dataset="made_up_bits/binary", data_dir=data_dir)
    assert not datasets.uses_tensorflow(bits)
    assert datasets.uses_tensorflow(dataclasses.replace(bits, remove_duplicates=True))
    assert datasets.uses_tensorflow(dataclasses.replace(bits, data_dir=other_format)) == ("parquet" in other_format)
    assert not datasets.uses_tensorflow(Config(dataset="digits"))

    def stop(*_):
        raise NotImplementedError

    monkeypatch.setattr(training, "_make_strategy", stop)
    with pytest.raises(NotImplementedError):
        training.train(dataclasses.replace(bits, data_dir=str(tmp_path / "tfds")), tmp_path / "run")
    assert not (tmp_path / "tfds").exists(), "it is prepared afterwards"


def test_two_processes_that_need_a_data_set_prepare_it_once(tmp_path, capsys):
    with concurrent.futures.ThreadPoolExecutor() as executor:
        builders = [executor.submit(get_builder, "made_up_bits/dark", str(tmp_path)) for _ in range(2)]
        assert [each.result().info.splits["train"].num_examples for each in builders] == [28, 28]
    assert capsys.readouterr().out.count("downloading made_up_bits/dark") == 1


def test_damaged_array_records_are_refused_in_one_line(tmp_path):
    MadeUpShapes(data_dir=str(tmp_path), file_format="array_record").download_and_prepare()
    (path,) = tmp_path.rglob("*-train.array_record-*")
    content = path.read_bytes()
    dataset = datasets.open_dataset(Config(dataset="made_up_shapes", data_dir=str(tmp_path), image_size=16))
    for damaged in (content[: len(content) // 2], content[:100] + b"\xff" * 100 + content[200:], None):
        path.unlink() if damaged is None else path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"^--dataset=made_up_shapes cannot be read: .*; remove .*$"):
            dataset.load("train")


@pytest.mark.parametrize("name", ["riegeli", "array_record"])
def test_files_for_which_a_package_is_missing_are_refused_in_one_line(data_dir, monkeypatch, name):
    builder = get_builder("made_up_bits/binary", data_dir)
    monkeypatch.setattr(type(builder.info), "file_format", tfds.core.FileFormat(name))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=rf"has {name} files, which cannot be read: .*{name}.*; install the package"):
        [*read_chunks(builder, "train", (12, 12, 1), pixel_max=1)]


def test_a_set_without_images_is_refused(data_dir):
    with pytest.raises(UserError, match="made_up_sound has no 8-bit images"):
        datasets.open_dataset(Config(dataset="made_up_sound", data_dir=data_dir))


def test_a_missing_version_is_a_one_line_error(data_dir):
    with pytest.raises(UserError, match=r"--dataset=mnist:9\.9\.9"):
        get_builder("mnist:9.9.9", data_dir)
