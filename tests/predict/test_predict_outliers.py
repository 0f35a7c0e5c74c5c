import csv
import functools

import numpy as np
import pytest
from PIL import Image

from cae.data import image_files
from cae.outliers.detector import Detector
from cae.predict import outliers
from cae.predict.outliers import OutlierPredictor
from cae.predict.predictor import predict_files
from cae.predict.preprocess import preprocess


@pytest.fixture
def predict(detector, tmp_path):
    """Returns the predictor's rows and printed lines for the files in a folder."""

    def predict(folder, num_examples=1, fdr=0.1):
        predictor = OutlierPredictor(detector, tmp_path / "out", fdr, num_examples)
        preprocess_fn = functools.partial(
            preprocess, image_shape=detector.image_shape, background=detector.background, invert="auto"
        )
        skipped, _ = predict_files(image_files.list_images(str(folder)), [predictor], preprocess_fn)
        lines = predictor.finish()
        with (tmp_path / "out/outliers.csv").open(newline="") as file:
            return [*csv.DictReader(file)], lines, skipped

    return predict


@pytest.fixture
def folder(normal, tmp_path):
    """Three normal images, an outlier, and a file that is no image."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(normal[300 + number, ..., 0]).save(folder / f"{number}.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, [12, 12], np.uint8)).save(folder / "noise.png")
    (folder / "a.png").write_bytes(b"no image")
    return folder


def test_images_are_scored_as_the_detector_scores_them(predict, folder, detector, normal):
    rows, lines, skipped = predict(folder)
    assert [row["file"] for row in rows] == ["0.png", "1.png", "2.png", "a.png", "noise.png"]
    for number in range(3):
        score = detector.scores(normal[300 + number][None])
        assert float(rows[number]["score"]) == pytest.approx(score[0], rel=1e-4, abs=1e-6)
        # Scores of batches of other sizes differ in their last bits, and the image is one of those that its p-value
        # ranks it among: the rank may differ by one.
        assert float(rows[number]["p_value"]) == pytest.approx(detector.p_values_from_scores(score)[0], abs=1.01 / 101)
        assert rows[number]["preprocessing"] == rows[number]["warning"] == ""
    assert rows[3]["status"] == "skipped: not an image" and rows[3]["score"] == ""
    assert rows[4]["is_inlier"] == "False" and float(rows[4]["p_value"]) == pytest.approx(1 / 101, rel=1e-4)
    assert skipped == {"a.png": "not an image"}
    assert lines[0] == f"3 of 4 images are inliers, by the {detector}" and len(lines) == 3


def test_batches_do_not_change_the_table(predict, folder, monkeypatch):
    whole, _, _ = predict(folder)
    monkeypatch.setattr(outliers, "BATCH_SIZE", 2)
    rows, _, _ = predict(folder)
    assert [row["file"] for row in rows] == [row["file"] for row in whole]
    for row, other in zip(rows, whole):
        assert row["score"] == other["score"] or float(row["score"]) == pytest.approx(float(other["score"]), rel=1e-3)


def test_an_image_that_cannot_be_scored_is_skipped_and_not_its_batch(predict, folder, monkeypatch):
    scores_and_maps = Detector.scores_and_maps

    def fail_for_noise(detector, images):
        if images[:, 0].any():  # The squares do not touch the border.
            raise FloatingPointError("no score")
        return scores_and_maps(detector, images)

    before, _, _ = predict(folder)
    monkeypatch.setattr(Detector, "scores_and_maps", fail_for_noise)
    rows, lines, _ = predict(folder)
    assert rows[4]["status"] == "skipped: cannot be processed: FloatingPointError: no score"
    assert [row["file"] for row in rows] == [row["file"] for row in before] and "of 3 images are inliers" in lines[0]
    for row, other in zip(rows[:3], before):
        assert float(row["score"]) == pytest.approx(float(other["score"]), rel=1e-3)


def test_the_contact_sheet_has_the_most_anomalous_images_first(predict, folder, monkeypatch):
    shown = []
    monkeypatch.setattr(outliers, "MIN_SHEET_IMAGES", 1)
    monkeypatch.setattr(outliers, "BATCH_SIZE", 1)
    draw = outliers.captioned_grid
    monkeypatch.setattr(outliers, "captioned_grid", lambda images: shown.extend(images) or draw(images))
    rows, _, _ = predict(folder, num_examples=2)
    p_values = {row["file"]: float(row["p_value"]) for row in rows if row["status"] == "ok"}
    assert [name for name, _, _ in shown] == sorted(p_values, key=p_values.get)[:2]
    assert shown[0][:2] == ("noise.png", "outlier, p 0.0099") and shown[1][1].startswith("inlier, p ")


def test_discoveries_are_found_among_all_images(predict, folder):
    # By Benjamini and Hochberg, the smallest of 4 p-values, 1/101, is a discovery where it is at most fdr / 4.
    assert [row["is_discovery"] for row in predict(folder, fdr=0.04)[0]].count("True") == 1
    assert [row["is_discovery"] for row in predict(folder, fdr=0.03)[0]].count("True") == 0


def test_heavy_preprocessing_is_counted(predict, folder, normal):
    Image.fromarray(normal[0, ..., 0]).resize((60, 60)).save(folder / "large.png")
    rows, lines, _ = predict(folder)
    row = next(row for row in rows if row["file"] == "large.png")
    assert (row["width"], row["height"], row["preprocessing"]) == ("60", "60", "60x60 to 12x12")
    assert row["warning"] == "downscaled 5.0 times: fine detail is lost"
    assert lines[1] == "1 images needed heavy preprocessing, which may hide anomalies; see 'warning'"


def test_unreadable_files_leave_a_table_and_no_contact_sheet(predict, tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only/a.png").write_bytes(b"no image")
    rows, lines, _ = predict(tmp_path / "only")
    assert len(rows) == 1 and lines[0].startswith("0 of 0 images are inliers")
    assert not (tmp_path / "out/outliers_sheet.png").exists()


def test_pictures_show_where_an_image_is_anomalous(predict, folder, detector, tmp_path):
    wide = np.zeros((24, 48), np.uint8)
    wide[8:, 32:] = 255  # In the size of the model, 12x6 pixels and padding, a square of 4x4.
    (folder / "sub").mkdir()
    Image.fromarray(wide).save(folder / "sub/wide.png")
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(folder / "sub/wide.bmp")
    rows = {row["file"]: row for row in predict(folder)[0]}
    pictures = tmp_path / "out/anomaly_maps"
    assert {f"{path.relative_to(pictures)}" for path in pictures.rglob("*.png")} == {
        f"{name}.png" for name, row in rows.items() if row["status"] == "ok"
    }
    with Image.open(pictures / "sub/wide.png.png") as picture:
        outlined = (np.asarray(picture) == np.array([0, 255, 255])).all(axis=-1)
    assert outlined.shape == (120, 240) and float(rows["sub/wide.png"]["max_anomaly"]) > 1
    places = np.argwhere(outlined)
    assert (places.min(axis=0) >= [40, 160]).all() and (places.max(axis=0) >= [100, 230]).all()
    # A black image is reconstructed exactly.
    assert rows["sub/wide.bmp"]["max_anomaly"] == "0" and rows["a.png"]["max_anomaly"] == ""
    image = np.asarray(Image.open(folder / "noise.png"))[None]
    assert float(rows["noise.png"]["max_anomaly"]) == pytest.approx(detector.anomaly_map(image).max(), rel=1e-4)
