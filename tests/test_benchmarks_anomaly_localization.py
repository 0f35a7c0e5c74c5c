"""Patches whose place is known, and how maps are compared with them."""

import csv
import json

import numpy as np
import pytest
from cli import assert_one_line, call

from benchmarks import anomaly_localization
from benchmarks.anomaly_localization import KINDS, compare, mean_iou, paste_patches
from cae.errors import UserError


@pytest.mark.parametrize("kind", KINDS)
def test_patches_depend_on_seed_and_index_and_change_enough_pixels(kind, random):
    images = random.integers(0, 256, (40, 12, 15, 1), np.uint8)
    changed, truth = paste_patches(images, kind, seed=3)
    again, _ = paste_patches(images, kind, seed=3)
    other, _ = paste_patches(images, kind, seed=4)
    np.testing.assert_array_equal(changed, again)
    assert (changed != other).any()
    difference = np.abs(changed.astype(int) - images)[..., 0]
    np.testing.assert_array_equal(truth, difference > 25)  # 0.1 * 255 is 25.5.
    assert (truth.sum(axis=(1, 2)) >= 16).all()
    for each in difference:
        rows, columns = np.nonzero(each)
        assert np.ptp(rows) == np.ptp(columns) == 7
    if kind == "other image":  # At the same place there.
        assert (changed[:, None] == images).any(axis=1).all()


def test_images_that_no_patch_changes_are_reported():
    with pytest.raises(UserError, match=r"no patch changes 16 pixels of image 0 by more than 0\.1"):
        paste_patches(np.zeros((3, 12, 12, 1), np.uint8), "other image", seed=0)


def test_regions_and_rankings_are_compared_by_hand():
    truth = np.array([[[True, True, False, False]], [[True, False, False, False]]])
    maps = np.array([[[3.0, 0.5, 2.0, 0.1]], [[1.5, 0.2, 0.3, 0.4]]])
    # Above 1: one of three pixels in either region; exactly the region. In two of 15 pairs, 0.5 and 1.5 with 2, the
    # anomalous pixel has the smaller value.
    values = compare(maps, truth)
    assert values["iou"] == pytest.approx((1 / 3 + 1) / 2) and values["auroc"] == pytest.approx(13 / 15)
    # Above 0.4, two of three, and all of one.
    assert values["best_iou"] >= values["iou"] and mean_iou(maps > 0.45, truth) == pytest.approx((2 / 3 + 1) / 2)
    assert mean_iou(np.zeros((2, 1, 4), bool), truth) == 0


def test_all_maps_are_measured_on_both_splits(workspace):
    code, out, err = call(
        "benchmarks.anomaly_localization", "--workdir=runs/denoise", "--dataset=digits", "--images=40", folder=workspace
    )
    assert code == 0 and err == "", err
    with (workspace / "runs/denoise/anomaly_localization.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [(row["split"], row["patch"], row["map"]) for row in rows] == [
        (split, kind, name) for split in ("validation", "test") for kind in KINDS for name in anomaly_localization.MAPS
    ]
    assert all(0 <= float(row[name]) <= 1 for row in rows for name in ("auroc", "iou", "best_iou", "fpr"))
    saved = json.loads((workspace / "runs/denoise/anomaly_localization.json").read_text())
    assert [str(row["auroc"]) for row in saved] == [row["auroc"] for row in rows] and len(out.splitlines()) == 14


def test_images_smaller_than_a_patch_are_refused():
    with pytest.raises(UserError, match="images of 7x9 pixels are smaller than the patches, 8x8"):
        anomaly_localization.check_shape((7, 9, 1))


def test_a_folder_without_a_run_is_reported_in_one_line(tmp_path):
    assert_one_line(call("benchmarks.anomaly_localization", "--workdir=none", folder=tmp_path), "none")
