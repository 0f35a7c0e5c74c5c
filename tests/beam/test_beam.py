"""Predictions on Beam's own runner, in this process, are those of the Python API."""

import io

import numpy as np
import pytest
import tensorflow as tf
from beam_files import damaged_files, encode_png, read_output, write_parquet, write_tfrecord
from half_mean import run_of
from PIL import Image
from small_detectors import MODEL

from cae.beam import tasks
from cae.beam.model import Manifest
from cae.data.image_io import read_image
from cae.outliers import conformal
from cae.predict import denoising
from cae.tiling import TileSize


def test_verdicts_are_those_of_the_exported_detector(predict, folder, images, graph_detector):
    code, out, err = predict("--input=images", "--alpha=0.05", "--fdr=0.2")
    rows, failed, summary = read_output(folder / "out")
    assert (code, err, failed) == (0, "", {}) and rows.keys() == images.keys()
    rows = [rows[name] for name in images]

    values = (np.stack([*images.values()]) / 255).astype(np.float32)
    expected = {name: value.numpy() for name, value in graph_detector(tf.constant(values), tf.constant(0.05)).items()}
    np.testing.assert_allclose([row["score"] for row in rows], expected["score"], rtol=1e-6)
    assert [row["is_inlier"] for row in rows] == expected["is_inlier"].tolist()
    p_values = conformal.p_values(graph_detector.calibration_scores, expected["score"], graph_detector.two_sided)
    assert [row["p_value"] for row in rows] == p_values.tolist()
    is_discovery = conformal.discoveries(p_values, 0.2)
    assert [row["is_discovery"] for row in rows] == is_discovery.tolist() and 5 <= is_discovery.sum() < 20
    assert (summary["inliers"], summary["discoveries"]) == (expected["is_inlier"].sum(), is_discovery.sum())
    assert f"{summary['inliers']} of 65 images are inliers at --alpha=0.05" in out and "65 images, 0 failed" in out


def test_latent_vectors_and_denoised_images_are_those_of_the_model(predict, folder, images):
    assert predict("--input=images/*.png", "--task=encode")[0] == 0
    rows, _, _ = read_output(folder / "out")
    values = (np.stack([*images.values()]) / 255).astype(np.float32)
    np.testing.assert_allclose([rows[name]["latent"] for name in images], MODEL.encode(values), rtol=1e-6)

    name, path = "00.png", folder / "images/00.png"
    assert predict(f"--input={path}", "--task=denoise", "--output=again")[0] == 0
    (row,) = read_output(folder / "again")[0].values()
    denoised, expected = denoising.denoise(run_of(MODEL, (12, 12, 1)).denoise, TileSize(12, 12), 1, read_image(path))
    assert row["name"] == name and row["format"] == "PNG"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(row["image"]))), denoised.channels[..., 0])
    assert row["rms_change"] == pytest.approx(expected["rms_change"])


def test_a_model_of_crops_denoises_in_large_tiles(tmp_path, random):
    sizes = []
    task = tasks.make_task("denoise", Manifest("export", (16, 16, 1), 8, ("denoise",), None, {}), "off", None)
    (tmp_path / "a.png").write_bytes(encode_png(random.integers(0, 256, (700, 20, 1), np.uint8)))
    item = task.prepare("a.png", read_image(tmp_path / "a.png"))
    (row,) = task.predict(lambda name, images: sizes.append(images.shape[1:]) or {"denoised": images}, [item])
    # Two tiles that overlap by 64 pixels, of 382 each, rounded up to a multiple.
    assert {*sizes} == {(384, 20, 1)} and row["tiles"] == 2
    assert row["rms_change"] == pytest.approx(0, abs=1e-6)


def test_what_cannot_be_read_is_a_dead_letter_and_nothing_else_is_lost(predict, folder, images):
    expected = {}
    for name, content, reason in damaged_files():
        (folder / "images" / f"bad \udcff {name}").write_bytes(content)
        expected[f"bad \\udcff {name}"] = reason
    for name in (".hidden.png", "Thumbs.db"):
        (folder / "images" / name).write_bytes(b"")
    code, out, err = predict("--input=images", "--task=encode")
    rows, failed, _ = read_output(folder / "out")
    assert (code, err) == (3, "") and "10 of 75 images failed: " in out
    assert rows.keys() == images.keys() and failed.keys() == expected.keys()
    assert [name for name, reason in failed.items() if not reason.startswith(expected[name])] == []


def test_only_the_image_that_the_model_fails_for_is_lost(predict, folder, images, monkeypatch):
    predict_batch = tasks.Encode.predict

    def fail(self, model, items):
        if any(item.name == "07.png" for item in items):
            raise ValueError("an image of sevens")
        return predict_batch(self, model, items)

    monkeypatch.setattr(tasks.Encode, "predict", fail)
    assert predict("--input=images", "--task=encode")[0] == 3
    rows, failed, _ = read_output(folder / "out")
    assert failed == {"07.png": "cannot be processed: ValueError: an image of sevens"} and len(rows) == len(images) - 1


@pytest.mark.parametrize("input_format, write", [("tfrecord", write_tfrecord), ("parquet", write_parquet)])
def test_records_are_read_as_files_are_up_to_what_is_damaged(input_format, write, predict, folder, images):
    names, contents = [*images], [encode_png(image) for image in images.values()]
    (folder / "records").mkdir()
    write(folder / "records/a", contents[:40], names[:40])
    write(folder / "records/b", [*contents[40:], b""], [*names[40:], "none"])
    write(folder / "records/cut", contents[:10], [f"cut {name}" for name in names[:10]])
    content = bytearray((folder / "records/cut").read_bytes()[:-6])
    content[100] ^= 255  # Within the first record.
    (folder / "records/cut").write_bytes(content)
    words = ("--input=records/*", f"--input_format={input_format}", "--image_column=picture", "--task=encode")
    assert predict(*words, "--name_column=id")[0] == 3
    rows, failed, _ = read_output(folder / "out")
    assert failed.pop("none") == "empty" and rows.keys() >= images.keys()
    if input_format == "tfrecord":
        assert failed == {
            "cut#0": "damaged: its checksum is wrong",
            "cut#9...": "damaged: the file ends within a record",
        }
        assert rows.keys() - images.keys() == {f"cut {name}" for name in names[1:9]}
    else:
        assert failed.keys() == {"cut#0..."} and rows.keys() == images.keys()

    assert predict(*words, "--output=unnamed")[0] == 3
    rows, failed, _ = read_output(folder / "unnamed")
    assert {"a#0", "b#24"} <= rows.keys() and "b#25" in failed

    assert predict(*words, "--name_column=label", "--output=again")[0] == 3
    rows, failed, _ = read_output(folder / "again")
    if input_format == "tfrecord":
        assert {"a#0", "b#24", "cut#1"} <= rows.keys() and "b#25" in failed
    else:
        assert not rows and failed["a#0..."] == "has no column 'label', but picture, id"
