"""`python -m cae.predict` on a trained run."""

import csv
import dataclasses
import os
import shutil

import numpy as np
import pytest
from cli import assert_one_line, call
from PIL import Image

import cae
from cae.data import image_io
from cae.errors import UserError
from cae.predict import outliers


def read_csv(path):
    with path.open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_images_are_reconstructed_and_interpolated(workspace, digits):
    for number, image in enumerate(digits[:2]):
        Image.fromarray(255 - image[..., 0]).resize((60, 60)).save(workspace / f"{number}.png")
    args = ("--workdir=runs/denoise", "--tasks=reconstruct,interpolate", "--interpolation_weights=0,0.5,1")
    code, out, err = call("cae.predict", *args, "--images=0.png,1.png", folder=workspace)
    assert code == 0 and "2 images reconstructed, MSE" in out and "between 0.png and 1.png" in out, err
    predictions = workspace / "runs/denoise/report/predictions"
    written = {path.name for path in (predictions / "interpolate").iterdir()}
    assert {"interpolate.png", "interpolate.gif", "index.html"} <= written
    rows = read_csv(predictions / "reconstruct/reconstruct.csv")
    assert [*rows] == ["0.png", "1.png"] and "latent_7" in rows["0.png"]
    assert rows["0.png"]["preprocessing"] == "60x60 to 28x28, inverted"


@pytest.mark.parametrize("model", ["denoise", "unet"])
def test_images_are_denoised_and_unreadable_ones_are_named(trained_run, unet_run, model, random, tmp_path):
    {"denoise": trained_run, "unet": unet_run}[model].copy(tmp_path / "run")
    images = tmp_path / "images"
    shapes = {"a.png": (28, 28), "sub/large.png": (70, 45), "photo.bmp": (33, 21, 3)}
    for name, shape in shapes.items():
        (images / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(images / name)
    args = ("--workdir=run", "--tasks=denoise", "--images=images")
    code, out, err = call("cae.predict", *args, folder=tmp_path)
    predictions = tmp_path / "run/report/predictions"
    assert code == 0 and "3 of 3 images denoised" in out, err
    for name in shapes:
        with Image.open(images / name) as before, Image.open(predictions / "denoised" / name) as after:
            assert (after.size, after.mode, after.format) == (before.size, before.mode, before.format)
            assert not np.array_equal(np.asarray(after), np.asarray(before))
    assert (predictions / "denoised_sheet.png").exists()
    (images / "broken.png").write_bytes((images / "a.png").read_bytes()[:60])
    code, out, err = call("cae.predict", *args, folder=tmp_path)
    assert code == 3 and "3 of 4 images denoised" in out and "skipped broken.png: damaged" in out and err == ""
    rows = read_csv(predictions / "denoised.csv")
    assert len(rows) == 4 and rows["broken.png"]["status"].startswith("skipped: damaged")


def test_outliers_are_detected_at_the_requested_false_positive_rate(workspace, digits, random):
    images = workspace / "images"
    images.mkdir()
    for number, image in enumerate(digits[:20]):
        Image.fromarray(image[..., 0]).save(images / f"digit{number}.png")
    Image.fromarray(random.integers(0, 256, (40, 40), np.uint8)).save(images / "noise.png")
    args = ("--workdir=runs/denoise", "--tasks=outliers", "--images=images")
    code, out, err = call("cae.predict", *args, "--alpha=0.05", folder=workspace)
    assert code == 0 and "of 21 images are inliers" in out and "rate of 0.05" in out, err
    assert "no saved detector" not in out and "heavy preprocessing" not in out
    predictions = workspace / "runs/denoise/report/predictions"
    rows = read_csv(predictions / "outliers.csv")
    assert rows["noise.png"]["is_inlier"] == "False" and rows["noise.png"]["preprocessing"] == "40x40 to 28x28"
    assert sum(row["is_inlier"] == "True" for row in rows.values()) >= 15
    assert (predictions / "outliers_sheet.png").exists()
    (images / "broken.png").write_bytes(b"no image")
    code, out, err = call("cae.predict", *args, folder=workspace)
    assert code == 3 and "of 21 images are inliers" in out and "skipped broken.png" in out and err == ""


def test_a_class_conditional_detector_is_fitted_once_and_decides_without_labels(workspace, digits):
    (workspace / "images").mkdir()
    for number, image in enumerate(digits[:9]):
        Image.fromarray(image[..., 0]).save(workspace / f"images/{number}.png")
    args = ("--workdir=runs/denoise", "--tasks=outliers", "--images=images", "--threshold_method=class_conditional")
    code, out, err = call("cae.predict", *args, "--score=mse", "--alpha=0.3", folder=workspace)
    assert code == 0 and "fitting one" in out and "at a false positive rate of 0.3 in each class" in out, err
    code, out, err = call("cae.predict", *args, "--alpha=0.5", folder=workspace)
    assert code == 0 and "fitting one" not in out and "rate of 0.5 in each class" in out, err
    run, rows = (
        cae.load(workspace / "runs/denoise"),
        read_csv(workspace / "runs/denoise/report/predictions/outliers.csv"),
    )
    assert [float(row["p_value"]) for row in rows.values()] == pytest.approx(run.p_values(digits[:9]), rel=1e-5)
    assert [row["is_inlier"] == "True" for row in rows.values()] == run.is_inlier(digits[:9], 0.5).tolist()
    # What is known of an image can only make it less like the others.
    _, labels = run.open_dataset().load("test")
    assert (run.p_values(digits, labels) <= run.p_values(digits)).all()
    assert run.is_inlier(digits, labels=labels).mean() == pytest.approx(0.7, abs=0.1)
    with pytest.raises(UserError, match=r"7 calibration images of class '0' can guarantee 0.25 at least"):
        run.is_inlier(digits, alpha=0.2, labels=labels)


def test_one_pass_serves_all_predictors_with_one_background(workspace, digits, monkeypatch):
    """An image is decoded once, inverted alike for all tasks, and an unreadable file is named once."""
    images = workspace / "images"
    images.mkdir()
    for number, image in enumerate(digits[:3]):
        Image.fromarray(255 - image[..., 0]).save(images / f"{number}.png")
    (images / "broken.png").write_bytes(b"no image")
    read_image, decoded = image_io.read_image, []
    monkeypatch.setattr(image_io, "read_image", lambda path: decoded.append(path.name) or read_image(path))
    args = ("--workdir=runs/denoise", "--images=images")
    code, out, err = call("cae.predict", *args, folder=workspace)
    assert code == 3 and out.count("broken.png") == 1 and err == "", out
    assert sorted(decoded) == ["0.png", "1.png", "2.png", "broken.png"]
    predictions = workspace / "runs/denoise/report/predictions"
    for table in ("outliers.csv", "reconstruct/reconstruct.csv"):
        rows = read_csv(predictions / table)
        assert {rows[f"{number}.png"]["preprocessing"] for number in range(3)} == {"inverted"}
    assert (predictions / "interpolate/index.html").exists() and (predictions / "denoised/2.png").exists()


def test_any_name_of_a_file_is_that_of_its_output(workspace, digits, monkeypatch):
    names = [
        "$x_1$.png",
        "<b>.png",
        "_x.png",
        "a$b$c.png",
        os.fsdecode(b"caf\xe9.png"),
        "cost $5.png",
        "line\nbreak.png",
    ]
    images = workspace / "images"
    images.mkdir()
    for name, image in zip(names, digits):
        Image.fromarray(image[..., 0]).save(images / name)
    (images / "z\n.png").touch()
    (images / "z.png").symlink_to("nowhere")
    read_image = image_io.read_image
    monkeypatch.setattr(
        image_io,
        "read_image",
        lambda path: dataclasses.replace(read_image(path), warnings=("guessed",) * ("$5" in path.name)),
    )
    code, out, err = call("cae.predict", "--workdir=runs/denoise", "--images=images", folder=workspace)
    lines = out.splitlines()
    assert (
        code == 3
        and err == ""
        and "heavy preprocessing" not in out
        and f"7 of {len(names) + 2} images denoised" in lines[0]
    ), err
    assert lines[-4:-1] == ["warning: cost $5.png: guessed", "skipped 2 of 9 files:", "skipped z\\n.png: empty"]
    assert lines[-1].startswith("skipped z.png: ") and "No such file" in lines[-1]
    predictions, printed = workspace / "runs/denoise/report/predictions", [*names]
    printed[4], printed[6] = "caf\\udce9.png", "line\\nbreak.png"
    assert sorted(path.name for path in (predictions / "denoised").iterdir()) == names
    assert [*read_csv(predictions / "denoised.csv")] == [*printed, "z\\n.png", "z.png"]
    assert [*read_csv(predictions / "reconstruct/reconstruct.csv")] == printed
    assert read_csv(predictions / "outliers.csv")["cost $5.png"]["warning"] == "guessed"
    assert (predictions / "outliers_sheet.png").exists() and (predictions / "interpolate/interpolate.png").exists()


def test_a_detector_is_fitted_and_saved_where_the_saved_one_has_another_score(workspace, digits, monkeypatch):
    Image.fromarray(digits[0, ..., 0]).save(workspace / "0.png")
    args = ("--workdir=runs/denoise", "--tasks=outliers", "--images=0.png")
    code, out, err = call("cae.predict", *args, "--score=mse", folder=workspace)
    assert code == 0 and out.startswith("the saved detector has another score or threshold method; fitting one"), err
    assert cae.load_detector(workspace / "runs/denoise").score_name == "mse"
    shutil.rmtree(workspace / "runs/denoise/detector")
    # Without a detector the background of the training images is measured.
    code, out, err = call("cae.predict", *args[:1], "--tasks=reconstruct", "--images=0.png", folder=workspace)
    assert code == 0 and "no saved detector" not in out, err
    # Nor is it, where negatives are not looked for.
    monkeypatch.setattr(outliers, "training_background", lambda *_: pytest.fail("read the data set"))
    words = ("--tasks=reconstruct", "--images=0.png", "--invert=never")
    code, _, err = call("cae.predict", *args[:1], *words, folder=workspace)
    assert code == 0, err


def test_noise_that_is_not_that_of_the_training_is_refused_since_none_is_added(workspace, digits):
    Image.fromarray(digits[0, ..., 0]).save(workspace / "0.png")
    args = ("--workdir=runs/denoise", "--tasks=denoise", "--images=0.png", "--noise=blur:1")
    assert_one_line(call("cae.predict", *args, folder=workspace), "noise")
