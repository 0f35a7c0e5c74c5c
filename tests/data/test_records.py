"""Reading records, and the damage that it finds."""

import concurrent.futures
import gc
import os
import zlib

import numpy as np
import pytest
from record_sets import CLASSES, in_chunks

import cae
from cae.data import records
from cae.data.records import Records
from cae.errors import UserError

ROW_BYTES = 8 + 12 * 13 * 3 + 4


def test_rows_are_what_numpy_reads(folder, data):
    rows = np.fromfile(folder / "records.bin", records.row_dtype((12, 13, 3)))
    assert rows.dtype.itemsize == ROW_BYTES and len(rows) == 100
    np.testing.assert_array_equal(rows["image"], data[0])
    np.testing.assert_array_equal(rows["label"], data[1])
    # By hand: the CRC-32 of the label's 8 bytes and of the pixels, continued from the index.
    expected = zlib.crc32(int(data[1][7]).to_bytes(8, "little") + data[0][7].tobytes(), 7)
    assert rows["checksum"][7] == expected


def test_images_are_read_in_any_order_and_repeatedly(folder, data):
    opened = Records(folder)
    assert opened.image_shape == (12, 13, 3) and opened.class_names == CLASSES
    for indices in ([99, 0, 50, 50, 13, 12, 11], list(range(100)), [7], []):
        images, labels = opened.take(np.array(indices, np.int64))
        np.testing.assert_array_equal(images, data[0][indices])
        np.testing.assert_array_equal(labels, data[1][indices])
        assert images.dtype == np.uint8 and labels.dtype == np.int64
        assert images.flags.writeable and images.flags.c_contiguous


def test_splits_follow_each_other(folder, data, tmp_path):
    splits = Records(folder).splits
    # 100 at 10 : 1 : 1 : 2, and what is left over is in the first.
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 72, "validation": 7, "calibration": 7, "test": 14
    }  # fmt: skip
    np.testing.assert_array_equal(np.concatenate([split.load()[0] for split in splits.values()]), data[0])
    np.testing.assert_array_equal(splits["test"].take(np.array([2, 3, 4]))[0], data[0][88:91])
    sizes = {"train": 40, "validation": 30, "calibration": 20, "test": 10}
    cae.write_records(tmp_path / "sized", in_chunks(*data), CLASSES, sizes)
    np.testing.assert_array_equal(Records(tmp_path / "sized").splits["calibration"].load()[0], data[0][70:90])


def test_a_split_loads_as_many_of_its_first_images_as_fit(folder, data):
    split = Records(folder).splits["train"]
    image_bytes = 12 * 13 * 3
    assert split.num_loaded(10 * image_bytes) == 10 and split.num_loaded(11 * image_bytes - 1) == 10
    assert split.num_loaded(1) == 1 and split.num_loaded(10**9) == split.num_loaded(None) == 72
    images, labels = split.load(10 * image_bytes)
    np.testing.assert_array_equal(images, data[0][:10])
    np.testing.assert_array_equal(labels, data[1][:10])


def test_threads_read_at_the_same_time_from_one_open_file(folder, data):
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    opened = Records(folder)
    indices = np.random.default_rng(0).integers(0, 100, (200, 20))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for expected, (images, _) in zip(indices, pool.map(opened.take, indices)):
            np.testing.assert_array_equal(images, data[0][expected])
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del opened
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


# --- Damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("byte", [0, 7, 8, 300, ROW_BYTES - 5, ROW_BYTES - 4, ROW_BYTES - 1])
def test_a_flipped_bit_is_found_and_its_record_named(folder, byte):
    opened, path = Records(folder), folder / "records.bin"
    content = bytearray(path.read_bytes())
    content[23 * ROW_BYTES + byte] ^= 16
    path.write_bytes(content)
    for indices in (np.arange(100), np.array([23]), np.array([0, 23, 23])):
        with pytest.raises(
            UserError, match=rf"records.bin is damaged at record 23: remove {folder}, and write it again"
        ):
            opened.take(indices)
    opened.take(np.delete(np.arange(100), 23))


def test_records_in_each_others_places_are_found(folder):
    content = (folder / "records.bin").read_bytes()
    rows = [content[at : at + ROW_BYTES] for at in range(0, len(content), ROW_BYTES)]
    rows[3], rows[4] = rows[4], rows[3]
    (folder / "records.bin").write_bytes(b"".join(rows))
    with pytest.raises(UserError, match="is damaged at record 3"):
        Records(folder).take(np.arange(10))


def test_a_hole_of_zeros_is_found(folder):
    content = bytearray((folder / "records.bin").read_bytes())
    content[: 5 * ROW_BYTES] = bytes(5 * ROW_BYTES)
    (folder / "records.bin").write_bytes(content)
    for index in range(5):
        with pytest.raises(UserError, match=f"is damaged at record {index}"):
            Records(folder).take(np.array([index]))


def test_sets_of_other_images_have_other_fingerprints(folder, data, tmp_path):
    cae.write_records(tmp_path / "other", in_chunks(data[0][::-1], data[1]), CLASSES)
    assert Records(folder).fingerprint != Records(tmp_path / "other").fingerprint
    cae.write_records(tmp_path / "same", in_chunks(*data, size=5), CLASSES)
    assert Records(folder).fingerprint == Records(tmp_path / "same").fingerprint


def test_a_truncated_file_is_found_at_the_start(folder):
    os.truncate(folder / "records.bin", 100 * ROW_BYTES - 1)
    with pytest.raises(UserError, match=r"records.bin has [\d,]+ bytes instead of 48,000: remove .*write it again"):
        Records(folder)


def test_a_file_that_is_truncated_while_it_is_used_is_named(folder):
    opened = Records(folder)
    os.truncate(folder / "records.bin", 50 * ROW_BYTES + 10)
    opened.take(np.arange(50))
    for index in (50, 99):
        with pytest.raises(UserError, match=r"records.bin was truncated while it was in use"):
            opened.take(np.array([0, index]))


def test_a_missing_file_is_found_at_the_start(folder):
    (folder / "records.bin").unlink()
    with pytest.raises(UserError, match=r"records.bin cannot be read \(No such file or directory\): remove"):
        Records(folder)


def test_damaged_or_missing_metadata_is_named(folder, tmp_path):
    path = folder / "records.json"
    content = path.read_text()
    for damaged in (content[:100], "[]", "7", content.replace('"train"', '"trian"'), content.replace("12,", "-12,")):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"records.json is damaged: remove .*write it again"):
            Records(folder)
    path.write_text(content.replace("12,", "15,"))
    with pytest.raises(UserError, match=r"records.bin has .* bytes instead of"):
        Records(folder)
    for elsewhere in (tmp_path, tmp_path / "missing", path):
        with pytest.raises(UserError, match=r"has no records.json; cae.write_records writes such a folder"):
            Records(elsewhere)


def test_a_set_of_an_earlier_version_is_refused_in_one_line(folder):
    path = folder / "records.json"
    path.write_text(path.read_text().replace('"version": 2', '"version": 1, "images_in_shard": 5'))
    with pytest.raises(UserError, match=r"set was written by an earlier version: remove it, and write it again"):
        Records(folder)
