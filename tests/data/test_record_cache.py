"""Data sets that are streamed from records in the cache or elsewhere, compared with those in memory."""

import dataclasses
import types

import numpy as np
import psutil
import pytest
import tensorflow as tf
from record_sets import DIGITS, assert_equal, cached

import cae
from cae.config import Config
from cae.data import (
    datasets,
    image_dataset,
    lines,
    noise,
    outlier_sets,
    pipeline,
    record_cache,
    record_writer,
    records,
)
from cae.data.records import Records
from cae.errors import UserError, unwrap_graph_error


def test_each_image_shape_has_its_own_records(always):
    for config in (always, dataclasses.replace(always, image_size=13), dataclasses.replace(always, channels=3)):
        datasets.open_dataset(config)
    assert sorted(path.name.split("-")[0] for path in cached(always)) == ["12x12x1", "12x12x3", "13x13x1"]


def test_records_of_an_earlier_version_are_not_reused(always, monkeypatch):
    before = datasets.open_dataset(always).folder
    for module in (records, record_writer):
        monkeypatch.setattr(module, "VERSION", 3)
    assert datasets.open_dataset(always).folder != before


def test_streamed_lines_keep_their_interpolation_metric(always, few_lines):
    dataset = datasets.open_dataset(dataclasses.replace(always, dataset="lines", image_size=None))
    assert dataset.interpolation_metric is lines.evaluate_interpolation and dataset.folder
    assert dataset.num_images == 700


def test_batches_equal_those_of_images_in_memory(always, mirrored):
    corruption = noise.parse_noise("gaussian:0.1-0.5+salt_pepper:0.2")
    streamed, in_memory = (
        pipeline.make_train_data(datasets.open_dataset(each), corruption, 100, 3) for each in (always, DIGITS)
    )
    pairs = [
        (streamed.train(0, 30), in_memory.train(0, 30)),
        (streamed.train(10**7, 10**7 + 2), in_memory.train(10**7, 10**7 + 2)),
        (streamed.validation, in_memory.validation),
        (streamed.train_eval, in_memory.train_eval),
    ]
    for one, other in pairs:
        assert one.element_spec == other.element_spec
        for batch, expected in zip(one, other, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, batch, expected)
    distributed = mirrored.experimental_distribute_dataset(streamed.train(5, 9))
    for expected, batch in zip(in_memory.train(5, 9), distributed):
        slices = mirrored.experimental_local_results(batch["input"])
        np.testing.assert_array_equal(np.concatenate(slices), expected["input"])


def test_every_image_occurs_once_an_epoch(tmp_path):
    images = np.zeros((700, 12, 12, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.divmod(np.arange(700), 256)
    cae.write_records(tmp_path / "set", [(images, np.zeros(700, int))])
    dataset = datasets.open_dataset(Config(dataset=f"records:{tmp_path / 'set'}"))
    data = pipeline.make_train_data(dataset, None, 50, 0)
    assert data.num_images == 500 and data.num_steps(2) == 20
    batches = [np.rint(batch["image"].numpy() * 255).astype(int) for batch in data.train(0, 20)]
    indices = np.concatenate(batches)[:, 0, :2, 0] @ [256, 1]
    for epoch in indices.reshape(2, 500):
        assert sorted(epoch) == list(range(500))
    assert not np.array_equal(indices[:500], indices[500:])


def test_evaluation_batches_equal_those_of_images_in_memory(always):
    corruption = noise.parse_noise("gaussian:0.3")
    streamed, in_memory = (pipeline.make_eval_batches(datasets.open_dataset(each), 0) for each in (always, DIGITS))
    for indices in (None, [7, 3, 3, 20]):
        pairs = zip(streamed("test", corruption, indices), in_memory("test", corruption, indices), strict=True)
        for batch, expected in pairs:
            tf.nest.map_structure(np.testing.assert_array_equal, batch, expected)


def test_evaluation_of_many_images_takes_the_first_and_warns(always, monkeypatch):
    images, _ = datasets.open_dataset(DIGITS).load("train")
    dataset = datasets.open_dataset(always)
    assert dataset.truncation_warnings() == []
    monkeypatch.setattr(image_dataset, "MAX_EVAL_BYTES", 12 * 12 * 200)
    assert dataset.truncation_warnings() == [
        "evaluating on the first 200 of 1,285 train images of digits",
        "evaluating on the first 200 of 256 test images of digits",
    ]
    np.testing.assert_array_equal(dataset.load("train")[0], images[:200])
    batches = pipeline.make_eval_batches(dataset, 0)("train", None)
    assert sum(len(batch["image"]) for batch in batches) == 200
    # Training has all of them.
    assert pipeline.make_train_data(dataset, None, 8, 0).num_images == 1285


def test_the_cache_is_in_the_folder_of_tfds_by_default(tmp_path):
    config = dataclasses.replace(DIGITS, streaming="always", data_dir=str(tmp_path))
    assert datasets.open_dataset(config).folder.parent == tmp_path / "cae_records" / "digits"
    path = record_cache.cache_path(DIGITS, (12, 12, 1), None)
    assert path.parts[-4:-1] == ("tensorflow_datasets", "cae_records", "digits")


def test_a_cache_that_cannot_be_written_is_a_one_line_error(always, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write records to .*: (Not a directory|File exists); set --cache_dir"):
        datasets.open_dataset(dataclasses.replace(always, cache_dir=str(tmp_path / "file")))


def test_damaged_records_in_the_cache_are_named(always):
    folder = datasets.open_dataset(always).folder
    (folder / "records.json").write_text("{")
    with pytest.raises(UserError, match=r"records.json is damaged: remove .*write it again"):
        datasets.open_dataset(always)


# --- Whether a data set is streamed -----------------------------------------------------------------------------------


@pytest.fixture
def set_memory(monkeypatch):
    """Sets the number of bytes of memory that the machine has."""
    return lambda total: monkeypatch.setattr(psutil, "virtual_memory", lambda: types.SimpleNamespace(total=total))


def test_size_decides_by_default(always, set_memory):
    auto = dataclasses.replace(always, streaming="auto")
    set_memory(4 * 1797 * 144)
    assert not datasets.open_dataset(auto).folder
    set_memory(4 * 1797 * 144 - 4)
    dataset = datasets.open_dataset(auto)
    assert dataset.folder
    set_memory(1797 * 144)
    datasets.check_dataset(dataset, 8)
    with pytest.raises(UserError, match=r"of memory; use --streaming=auto or a smaller --image_size"):
        datasets.check_dataset(datasets.open_dataset(dataclasses.replace(auto, streaming="never")), 8)


def test_classes_can_be_selected_in_memory_only(always, set_memory, tmp_path):
    threes = dataclasses.replace(always, normal_classes="3")
    message = r"--normal_classes=3 needs all images in memory, and --dataset=digits is streamed; use --streaming="
    with pytest.raises(UserError, match=message + "auto"):
        datasets.open_dataset(threes)
    auto = dataclasses.replace(threes, streaming="auto")
    assert len(datasets.open_dataset(auto).splits["test"]) < 40
    images, labels = datasets.open_dataset(DIGITS).load("train")
    cae.write_records(tmp_path / "set", [(images, labels)], "0123456789")
    written = dataclasses.replace(auto, dataset=f"records:{tmp_path / 'set'}", image_size=None)
    assert set(datasets.open_dataset(written).load("train")[1]) == {3}
    set_memory(1000)
    with pytest.raises(UserError, match=message + "never"):
        datasets.open_dataset(auto)


# --- records:PATH -----------------------------------------------------------------------------------------------------


@pytest.fixture
def written(tmp_path, random):
    """A folder that `cae.write_records` wrote, and its images and labels."""
    images, labels = random.integers(0, 256, (140, 14, 16, 3), np.uint8), random.integers(0, 2, 140)
    cae.write_records(tmp_path / "written", [(images, labels)], ["good", "bad"])
    return tmp_path / "written", images, labels


def test_written_records_are_streamed_or_held_in_memory(written):
    folder, images, labels = written
    config = Config(dataset=f"records:{folder}")
    dataset = datasets.open_dataset(config)
    assert_equal(dataset, datasets.open_dataset(dataclasses.replace(config, streaming="never")))
    assert dataset.name == f"records:{folder}" and dataset.image_shape == (14, 16, 3)
    assert dataset.class_names == ("good", "bad") and dataset.fingerprint == Records(folder).fingerprint
    np.testing.assert_array_equal(np.concatenate([dataset.load(split)[0] for split in datasets.SPLITS]), images)
    np.testing.assert_array_equal(dataset.load("train")[1], labels[:100])
    assert dataset.info()["splits"]["test"] == {"images": 20, "origin": "[120:140]"}


def test_other_image_sizes_than_those_of_records_are_not_supported(written, tmp_path):
    config = Config(dataset=f"records:{written[0]}")
    with pytest.raises(UserError, match="has images of 14x16x3; --image_size=28 and --channels=1 not supported"):
        datasets.open_dataset(dataclasses.replace(config, image_size=28, channels=1))
    assert datasets.open_dataset(dataclasses.replace(config, channels=3)).image_shape == (14, 16, 3)
    with pytest.raises(UserError, match=r"missing has no records.json"):
        datasets.open_dataset(Config(dataset=f"records:{tmp_path / 'missing'}"))


def test_records_are_outliers_too(written):
    name = f"records:{written[0]}"
    found, _ = outlier_sets.load_outlier_datasets([name], None, (14, 16, 3), 5)
    np.testing.assert_array_equal(found[name], written[1][120:125])
    assert outlier_sets.load_outlier_datasets([name], None, (28, 28, 1), 5)[0][name].shape == (5, 28, 28, 1)


def test_damage_that_a_graph_finds_is_named(written):
    folder, *_ = written
    data = pipeline.make_train_data(datasets.open_dataset(Config(dataset=f"records:{folder}")), None, 8, 0)
    path = folder / "records.bin"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)

    @tf.function
    def read_all(iterator):
        for _ in tf.range(13):
            next(iterator)

    with pytest.raises(tf.errors.UnknownError) as caught:
        read_all(iter(data.train(0, 13)))
    message = str(unwrap_graph_error(caught.value))
    assert message == f"{path} is damaged at record 0: remove {folder}, and write it again"
    assert unwrap_graph_error(ValueError("anything else")) is None
