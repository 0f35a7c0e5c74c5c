"""Changes of images that break exchangeability, and tests of many images, by hand."""

import json

import numpy as np
import pytest
from cli import call

from benchmarks import exchangeability
from benchmarks.exchangeability import ALPHAS, DRIFTS, count_alarms


def test_drifts_change_images_as_they_say(random):
    images = random.integers(0, 256, (3, 12, 10, 1), np.uint8)
    changed = {name: drift(images) for name, drift in DRIFTS.items()}
    assert all(each.shape == images.shape and each.dtype == np.uint8 for each in changed.values())
    shifted = changed["shifted by 2 pixels"]
    np.testing.assert_array_equal(shifted[:, :, 2:], images[:, :, :-2])
    np.testing.assert_array_equal(shifted[:, :, :2], np.repeat(images[:, :, :1], 2, axis=2))
    np.testing.assert_array_equal(changed["20% darker"], (images * 0.8).round())
    gray = np.full((200, 12, 10, 3), 128, np.uint8)
    assert (DRIFTS["Gaussian noise 0.1"](gray) / 255).std() == pytest.approx(0.1, rel=0.02)
    assert 0 < np.abs(changed["JPEG quality 30"].astype(int) - images).mean() < 60
    np.testing.assert_array_equal(DRIFTS["JPEG quality 30"](gray), gray)


def test_alarms_among_many_images_are_counted_by_hand(monkeypatch):
    """Of 200 images with p-values of 0.005 to 1, two are outliers with a p-value of 0.0001."""
    monkeypatch.setattr(exchangeability, "NUM_DRAWS", 200)
    inliers, outliers = np.arange(1, 201) / 200, np.full(200, 1e-4)
    rows = count_alarms(inliers, outliers, seed=0)
    assert [*rows] == [*(f"one by one, alpha {alpha}" for alpha in (0.01, 0.05, 0.1)), "together, FDR 0.1"]
    # Two, ten and twenty inliers are at most alpha, each with a probability of 198/200.
    false = np.array([row["false"] for row in rows.values()])
    np.testing.assert_allclose(false[:3], 0.99 * np.array([2, 10, 20]), rtol=0.03)
    assert all(row["found"] == row["of"] == 2 for row in rows.values())
    # The third of 200 would have to be at most 0.0015.
    assert false[3] == 0 == rows["together, FDR 0.1"]["fdr"]
    monkeypatch.setattr(exchangeability, "NUM_DRAWS", 1)
    (row, *_) = count_alarms(np.ones(200), np.ones(200), seed=0).values()
    assert row == {"false": 0, "found": 0, "of": 2, "fdr": 0}


def test_the_program_prints_every_change_and_set(workspace):
    words = ("--workdir=runs/denoise", "--dataset=digits", "--json=exchangeability.json")
    code, out, err = call("benchmarks.exchangeability", *words, folder=workspace)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    rates = {line[:32].strip(): [float(word.rstrip("%")) for word in line[32:].split()] for line in lines[1:13]}
    assert rates["test images"] == sorted(rates["test images"]) and rates["test images"][2] < 30
    assert rates["uniform_noise"] == [100, 100, 100] and rates.keys() >= {"quarter_turn", *DRIFTS}
    assert "black" not in rates, "a single image"
    assert sum(line.startswith("uniform_noise") and "together" in line for line in lines) == 1
    rows = json.loads((workspace / "exchangeability.json").read_text())
    (of_test_images,) = (row for row in rows if row.get("fraction taken for outliers at") == "test images")
    assert [f"{of_test_images[f'alpha {alpha}']:.2%}" for alpha in ALPHAS] == lines[1][32:].split()
    (together,) = (
        row for row in rows if (row.get("outliers"), row.get("test")) == ("uniform_noise", "together, FDR 0.1")
    )
    assert {"false alarms", "found", "false discoveries"} <= together.keys()
