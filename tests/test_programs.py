"""The programs, called in this process; `e2e/` starts some of them as people do."""

import csv
import json
import shutil

import numpy as np
import pytest
from cli import QUICK, QUICK_EVALUATION, ROOT, assert_one_line, call
from PIL import Image

import cae
from cae.config import Config
from cae.data import datasets, image_io
from cae.errors import UserError

DENOISE = (f"--flagfile={ROOT / 'configs/denoise.cfg'}", *QUICK)


@pytest.fixture(scope="module")
def digits():
    """The test images of the embedded digits."""
    return datasets.open_dataset(Config(dataset="digits")).load("test")[0]


@pytest.fixture
def folder(trained_run, tmp_path):
    """A folder to write to with a copy of the trained run at runs/denoise."""
    trained_run.copy(tmp_path / "runs/denoise")
    return tmp_path


# --- What a run and its evaluation write ------------------------------------------------------------------------------


def test_training_and_evaluation_write_the_files_that_people_rely_on(trained_run):
    written = {str(path.relative_to(trained_run.workdir)) for path in trained_run.workdir.rglob("*")}
    assert {
        "config.json", "metrics.jsonl", "checkpoints", "tensorboard/train", "tensorboard/validation",
        "report/index.html", "report/results.json", "report/denoise.csv", "report/denoise.png",
    } <= written  # fmt: skip
    (_, out, err), (_, evaluated, more) = trained_run.trained, trained_run.evaluated
    assert err == more == "", "nothing but errors goes to stderr"
    assert "epoch 2/2" in out and "report: runs/denoise/report/index.html" in evaluated


def test_results_have_the_names_of_metrics_and_the_model_denoises(trained_run):
    results = json.loads((trained_run.workdir / "report/results.json").read_text())
    noisy, ours, *_ = results["denoise"]["methods"]
    assert (noisy["method"], noisy["noise"], noisy["level"]) == ("noisy input", "gaussian", "0.5")
    assert ours["mse"] < noisy["mse"] and ours["psnr"] > noisy["psnr"]
    columns = {"method", "noise", "level", "mse", "psnr", "ssim", "classifier_accuracy", "seconds_per_1000_images"}
    assert columns <= ours.keys()
    tried = {(row["method"], row["noise"], row["level"]) for row in results["denoise"]["methods"]}
    assert {("median", "gaussian", "0.5"), ("wavelet", "salt_pepper", "0.2"), ("this model", "none", "")} <= tried
    assert {"mse", "psnr", "ssim", "by_class"} <= results["reconstruct"].keys()
    assert {"linear_probe_accuracy", "cluster_accuracy", "pca_mse", "participation_ratio"} <= results["latents"].keys()
    paths = {(row["pair_type"], row["method"]) for row in results["interpolate"]["methods"]}
    methods = ("lerp", "slerp", "pixel_blend")
    assert paths == {(kind, method) for kind in ("same_class", "different_class") for method in methods}
    assert f"{ours['mse']:.5f}" in trained_run.evaluated[1]


def test_an_evaluation_is_in_tensorboard_and_has_an_animation(trained_run):
    tensorboard, report = trained_run.workdir / "tensorboard", trained_run.workdir / "report"
    evaluated = {path.name for path in (tensorboard / "eval").iterdir()}
    assert evaluated == {"denoise", "reconstruct", "interpolate", "latents", "outliers"}
    assert (tensorboard / "eval/latents/projector_config.pbtxt").exists()
    assert [*tensorboard.glob("events*")], "hyperparameters"
    with Image.open(report / "interpolate_closed_path.gif") as animation:
        assert animation.n_frames > 20
    assert "data:image/gif;base64," in (report / "index.html").read_text()


def test_config_json_holds_config_dataset_and_versions(trained_run):
    run_config = json.loads((trained_run.workdir / "config.json").read_text())
    assert run_config["config"]["noise"] == "gaussian:0.5" and run_config["dataset"]["name"] == "digits"
    assert run_config["dataset"]["splits"]["test"]["images"] == 256
    assert {"python", "tensorflow", "keras", "numpy"} <= run_config["versions"].keys()


def test_a_detector_is_saved_and_its_false_positive_rate_is_in_the_report(trained_run, digits):
    outliers = json.loads((trained_run.workdir / "report/results.json").read_text())["outliers"]
    assert {"score", "alpha", "threshold_method", "fpr"} <= outliers.keys()
    assert {"num_images", "auroc", "aupr", "fpr_at_95_tpr", "tpr"} <= outliers["sets"]["uniform_noise"].keys()
    _, out, _ = trained_run.evaluated
    assert "outliers: FPR" in out and "fisher" in out and "worst of" in out
    # Where tests run, it is usually neither prepared nor reachable; where it is, it is a set like any other.
    assert "fashion_mnist" in {**outliers["skipped"], **outliers["sets"]}
    assert outliers["skipped"]["digits"] == "it is what the model was trained on"
    detector = cae.load_detector(trained_run.workdir)
    is_inlier = detector.is_inlier(digits)
    assert is_inlier.dtype == bool and 1 - is_inlier.mean() == pytest.approx(outliers["fpr"], abs=1e-9)
    noise = np.random.default_rng(0).integers(0, 256, [9, 28, 28, 1], np.uint8)
    assert not detector.is_inlier(noise).any() and (detector.p_values(noise) == detector.p_values(noise).min()).all()
    assert detector.is_inlier(digits, alpha=0.3).sum() < is_inlier.sum()


# --- Resuming, evaluating again ---------------------------------------------------------------------------------------


def test_a_run_is_resumed_and_another_config_is_refused(folder):
    code, out, err = call("train.py", *DENOISE, "--epochs=3", "--noise=gaussian:0.3", folder=folder)
    assert code == 2 and "noise=gaussian:0.5 (now gaussian:0.3)" in err and out == ""
    code, out, _ = call("train.py", *DENOISE, "--epochs=3", folder=folder)
    assert code == 0 and "resuming from epoch 2" in out and "epoch 3/3" in out
    epochs = [json.loads(line)["epoch"] for line in (folder / "runs/denoise/metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]


def test_evaluation_with_another_noise_and_against_another_model(folder, unet_run):
    shutil.copytree(unet_run.workdir, folder / "runs/unet")
    args = ("--workdir=runs/denoise", "--tasks=denoise", "--noise=salt_pepper:0.2", *QUICK_EVALUATION)
    code, out, err = call("eval.py", *args, "--compare=runs/unet", folder=folder)
    assert code == 0 and "denoise salt_pepper:0.2" in out and "reconstruct" not in out, err
    results = json.loads((folder / "runs/denoise/report/results.json").read_text())
    assert {"noisy input", "this model", "unet", "median"} <= {row["method"] for row in results["denoise"]["methods"]}
    code, _, err = call("eval.py", *args, "--latent_dim=16", folder=folder)
    assert code == 2 and "latent_dim=8 (now 16)" in err


def test_a_variational_autoencoder_is_sampled(tmp_path):
    args = (*QUICK, "--model=vae", "--loss=binary_crossentropy", "--beta=0.5", "--epochs=1", "--workdir=vae")
    code, _, err = call("train.py", *args, folder=tmp_path)
    assert code == 0, err
    line = json.loads((tmp_path / "vae/metrics.jsonl").read_text())
    loss = line["validation/reconstruction_loss"] + 0.5 * line["validation/kl_loss"] / 28**2
    assert line["validation/loss"] == pytest.approx(loss, rel=1e-4)
    code, out, err = call("eval.py", "--workdir=vae", "--tasks=latents", *QUICK_EVALUATION, folder=tmp_path)
    assert code == 0 and "8-dimensional latent vectors" in out, err
    assert (tmp_path / "vae/report/latents_samples.png").exists()


def test_a_folder_of_color_images_with_mixed_precision(tmp_path, random):
    for number in range(40):
        image = Image.fromarray(random.integers(0, 256, (40, 30, 3), np.uint8))
        image.save(tmp_path / f"{number}.png")
    (tmp_path / "broken.jpg").write_text("no image")
    args = (f"--dataset=folder:{tmp_path}", "--image_size=21", "--channels=3", "--base_filters=8", "--batch_size=16")
    args += ("--workdir=run", "--precision=mixed_bfloat16", "--epochs=1")
    code, out, err = call("train.py", *args, folder=tmp_path)
    assert code == 0 and "broken.jpg" in out, err
    tasks = ("--tasks=denoise,reconstruct", "--noise=gaussian:0.5", *QUICK_EVALUATION)
    code, out, err = call("eval.py", "--workdir=run", *tasks, folder=tmp_path)
    assert code == 0 and "reconstruct clean images" in out and "denoise gaussian:0.5" in out, err


@pytest.mark.real_data
def test_real_digits_through_the_programs(tmp_path, tfds_dir):
    args = (f"--flagfile={ROOT / 'configs/denoise.cfg'}", f"--data_dir={tfds_dir}", "--base_filters=4", "--epochs=1")
    # Two digits only: reading, training and evaluating on 70,000 images takes nearly a minute.
    args += ("--normal_classes=0,1", "--workdir=run")
    code, out, err = call("train.py", *args, folder=tmp_path)
    assert code == 0 and "epoch 1/1" in out, err
    (line,) = (json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert line["validation/mse"] < 0.04
    args = ("--workdir=run", "--tasks=reconstruct", f"--data_dir={tfds_dir}", *QUICK_EVALUATION)
    code, out, err = call("eval.py", *args, folder=tmp_path)
    assert code == 0, err
    results = json.loads((tmp_path / "run/report/results.json").read_text())["reconstruct"]
    assert results["mse"] < 0.04 and len(results["by_class"]) == 2


def test_the_one_class_benchmark_trains_every_class_and_resumes(tmp_path, random):
    for kind, level in {"dark": 40, "bright": 200}.items():
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(60):
            image = np.clip(random.normal(level, 20, (12, 12)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "images" / kind / f"{number}.png")
    args = ("--dataset=folder:images", "--image_size=12", "--normal_classes=dark", "--base_filters=4", "--latent_dim=2")
    args += ("--batch_size=8", "--epochs=1", "--workdir=runs/one", "--learning_rate=0.002", "--seed=3")

    def run_benchmark(*more):
        return call("benchmarks.one_class", *args, *more, folder=tmp_path)

    def rows():
        with (tmp_path / "runs/one/one_class.csv").open(newline="") as file:
            return {row["class"]: row for row in csv.DictReader(file)}

    code, out, err = run_benchmark()
    assert code == 0 and "mean" in out, err
    first = rows()
    assert first.keys() == {"dark", "bright", "mean"}
    means = [float(first[name]["auroc/fisher"]) for name in ("dark", "bright", "mean")]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2) and 0 <= means[2] <= 1
    (tmp_path / "runs/one/bright/result.json").unlink()
    code, out, err = run_benchmark()
    assert code == 0 and out.count("training already complete (1 epochs") == 1, err
    assert {name: row["auroc/fisher"] for name, row in rows().items()} == {
        name: row["auroc/fisher"] for name, row in first.items()
    }
    code, _, err = run_benchmark("--latent_dim=3")
    assert code == 2 and "latent_dim=2 (now 3)" in err


# --- Predictions on the user's images ---------------------------------------------------------------------------------


def read_csv(path):
    with path.open(newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def test_images_are_reconstructed_and_interpolated(folder, digits):
    for number, image in enumerate(digits[:2]):
        Image.fromarray(255 - image[..., 0]).resize((60, 60)).save(folder / f"{number}.png")
    args = ("--workdir=runs/denoise", "--tasks=reconstruct,interpolate", "--interpolation_weights=0,0.5,1")
    code, out, err = call("cae.predict", *args, "--images=0.png,1.png", folder=folder)
    assert code == 0 and "2 images reconstructed, MSE" in out and "between 0.png and 1.png" in out, err
    predictions = folder / "runs/denoise/report/predictions"
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


def test_outliers_are_detected_at_the_requested_false_positive_rate(folder, digits, random):
    images = folder / "images"
    images.mkdir()
    for number, image in enumerate(digits[:20]):
        Image.fromarray(image[..., 0]).save(images / f"digit{number}.png")
    Image.fromarray(random.integers(0, 256, (40, 40), np.uint8)).save(images / "noise.png")
    args = ("--workdir=runs/denoise", "--tasks=outliers", "--images=images")
    code, out, err = call("cae.predict", *args, "--alpha=0.05", folder=folder)
    assert code == 0 and "of 21 images are inliers" in out and "rate of 0.05" in out, err
    assert "no saved detector" not in out and "heavy preprocessing" not in out
    predictions = folder / "runs/denoise/report/predictions"
    rows = read_csv(predictions / "outliers.csv")
    assert rows["noise.png"]["is_inlier"] == "False" and rows["noise.png"]["preprocessing"] == "40x40 to 28x28"
    assert sum(row["is_inlier"] == "True" for row in rows.values()) >= 15
    assert (predictions / "outliers_sheet.png").exists()
    (images / "broken.png").write_bytes(b"no image")
    code, out, err = call("cae.predict", *args, folder=folder)
    assert code == 3 and "of 21 images are inliers" in out and "skipped broken.png" in out and err == ""


def test_one_pass_serves_all_predictors_with_one_background(folder, digits, monkeypatch):
    """An image is decoded once, inverted alike for all tasks, and an unreadable file is named once."""
    images = folder / "images"
    images.mkdir()
    for number, image in enumerate(digits[:3]):
        Image.fromarray(255 - image[..., 0]).save(images / f"{number}.png")
    (images / "broken.png").write_bytes(b"no image")
    read_image, decoded = image_io.read_image, []
    monkeypatch.setattr(image_io, "read_image", lambda path: decoded.append(path.name) or read_image(path))
    args = ("--workdir=runs/denoise", "--images=images")
    code, out, err = call("cae.predict", *args, folder=folder)
    assert code == 3 and out.count("broken.png") == 1 and err == "", out
    assert sorted(decoded) == ["0.png", "1.png", "2.png", "broken.png"]
    predictions = folder / "runs/denoise/report/predictions"
    for table in ("outliers.csv", "reconstruct/reconstruct.csv"):
        rows = read_csv(predictions / table)
        assert {rows[f"{number}.png"]["preprocessing"] for number in range(3)} == {"inverted"}
    assert (predictions / "interpolate/index.html").exists() and (predictions / "denoised/2.png").exists()


def test_a_detector_is_fitted_and_saved_where_the_saved_one_has_another_score(folder, digits):
    Image.fromarray(digits[0, ..., 0]).save(folder / "0.png")
    args = ("--workdir=runs/denoise", "--tasks=outliers", "--images=0.png")
    code, out, err = call("cae.predict", *args, "--score=mse", folder=folder)
    assert code == 0 and out.startswith("no saved detector for this checkpoint; fitting one\n"), err
    assert cae.load_detector(folder / "runs/denoise").score_name == "mse"
    shutil.rmtree(folder / "runs/denoise/detector")
    # Without a detector the background of the training images is measured.
    code, out, err = call("cae.predict", *args[:1], "--tasks=reconstruct", "--images=0.png", folder=folder)
    assert code == 0 and "no saved detector" not in out, err


def test_the_package_loads_runs_and_detectors(trained_run, digits):
    run = cae.load(str(trained_run.workdir))
    assert isinstance(run, cae.Run) and run.step > 0 and run.warning is None
    assert [line["epoch"] for line in run.history()] == [1, 2]
    np.testing.assert_array_equal(run.open_dataset().load("test")[0], digits)
    assert run.model(digits[:2].astype(np.float32) / 255).shape == (2, 28, 28, 1)
    assert run.load_detector().score_name == cae.load_detector(trained_run.workdir).score_name == "fisher"
    assert run.find_detector(score="fisher") and run.find_detector(score="mse") is None
    with pytest.raises(UserError, match="contains no run"):
        cae.load("nowhere")
    with pytest.raises(AttributeError, match="module 'cae' has no attribute 'lode'"):
        cae.lode  # noqa: B018


# --- Bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "flag": (("--epoch=3",), "Unknown command line flag 'epoch'."),
    "argument": (("epochs=3",), "'epochs=3' is not a flag"),
    "number": (("--epochs=many",), "epochs"),
    "flagfile": (("--flagfile=nowhere.cfg",), "nowhere.cfg"),
    "model": (("--model=cnov",), "unknown --model 'cnov' (did you mean 'conv'?); available: conv"),
    "latent_dim": (("--model=unet", "--latent_dim=8"), "--latent_dim=8 does not apply to --model=unet"),
    "beta": (("--beta=2",), "--beta=2.0 does not apply to --model=conv; it applies to vae"),
    "regularizer": (
        ("--model=unet", "--regularizer=acai"),
        "--regularizer=acai does not apply to --model=unet; it applies to conv",
    ),
    "regularizer_weight": (("--regularizer_weight=1",), "--regularizer_weight=1.0 needs --regularizer=acai"),
    "lines": (("--dataset=lines", "--image_size=28"), "32x32"),
    "noise": (("--noise=gausian:1",), "did you mean 'gaussian'"),
    "loss": (("--loss=mae",), "unknown --loss 'mae'"),
    "data set": (("--dataset=mnits",), "did you mean 'mnist'"),
    "bound": (("--latent_dim=-1",), "--latent_dim=-1 must be at least 1"),
    "replicas": (
        ("--distribution_strategy=mirrored", "--logical_cpus=3"),
        "--batch_size=128 is not divisible by 3 replicas; use 129",
    ),
    "batch": (("--dataset=digits", "--batch_size=5000"), "is larger than the 1285 training images"),
    "folder": (("--dataset=folder:nowhere",), "there is no such folder"),
    "empty folder": (("--dataset=folder:empty",), "needs PNG, JPEG or BMP images"),
    "workdir": (("--dataset=digits", "--workdir=file/run"), "can't be written"),
    "foreign folder": (("--dataset=digits", "--workdir=other"), "is not empty and not a run's folder"),
    "cluster": (
        ("--dataset=digits", "--distribution_strategy=multi_worker_mirrored"),
        "TF_CONFIG is not set; it must look like",
    ),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    (folder / "empty").mkdir()
    (folder / "other").mkdir()
    (folder / "other" / "thesis.tex").touch()
    (folder / "file").touch()
    return folder


@pytest.mark.parametrize("case", BAD)
def test_bad_input_to_training_is_one_line(place, case, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    args, message = BAD[case]
    assert_one_line(call("train.py", *args, folder=place), message)
    assert not (place / "runs" / "default" / "config.json").exists()


@pytest.mark.parametrize(
    "config, message",
    [
        ("{", "TF_CONFIG is '{'; it must look like"),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            "2 workers, but the index 2",
        ),
    ],
)
def test_an_invalid_cluster_is_refused(place, config, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    args = ("--dataset=digits", "--distribution_strategy=multi_worker_mirrored")
    assert_one_line(call("train.py", *args, folder=place), message)


def test_bad_input_to_an_evaluation(place):
    assert_one_line(call("eval.py", "--workdir=nowhere", folder=place), "contains no run")
    assert_one_line(call("eval.py", "--tasks=denose", folder=place), "did you mean 'denoise'")


@pytest.mark.parametrize(
    "word, message",
    {
        "--alpha=0.001": "calibration images can guarantee",
        "--alpha=1.5": "must be between 0 and 1",
        "--score=mean": "unknown --score 'mean'",
        "--threshold_method=sigmas": "did you mean 'sigma'",
        "--threshold_method=youden": "needs labeled outliers",
        "--outlier_datasets=folder:nowhere": "--outlier_datasets=folder:nowhere: there is no such folder",
        "--interpolation_weights=0,2": "'2' is not a number from 0 to 1",
        "--tsne_images=3": "must be 0, for no t-SNE, or at least 5",
    }.items(),
)
def test_bad_input_to_outlier_detection_is_one_line(trained_run, word, message):
    args = (f"--workdir={trained_run.workdir}", "--tasks=outliers", "--outlier_datasets=", word)
    assert_one_line(call("eval.py", *args, folder=ROOT), message)


@pytest.mark.parametrize(
    "word, message",
    {
        "--compare=nowhere": "--workdir=nowhere contains no run",
        "--tasks=reconstruct": "--tasks=reconstruct needs latent vectors, and --model=unet has none",
        "--noise=gaussian:0.5,gausian:1": "did you mean 'gaussian'",
        "--score=mahalanobis": "--score=mahalanobis needs latent vectors, which this model does not have",
        "--images=empty": "Unknown command line flag 'images'",
    }.items(),
)
def test_bad_input_to_a_comparison(unet_run, place, word, message):
    assert_one_line(call("eval.py", f"--workdir={unet_run.workdir}", word, folder=place), message)


@pytest.mark.parametrize(
    "args, message",
    [
        ((), "--images=PATH is missing"),
        (("--images=nowhere",), "--images=nowhere: there is no such file or folder"),
        (("--images=empty",), "contains no files"),
        (("--images=file", "--tasks=latents"), "unknown --tasks 'latents'"),
        (("--images=file", "--tasks=interpolate"), "--tasks=interpolate takes 2 to 12 --images, not 1"),
        (("--images=file", "--interpolation_weights=0,2"), "'2' is not a number from 0 to 1"),
        (("--images=file", "--latent_dim=16"), "latent_dim=8 (now 16)"),
        (("--images=file", "--workdir=nowhere"), "--workdir=nowhere contains no run"),
        (("--images=file", "--fdr=2"), "fdr"),
    ],
)
def test_bad_input_to_predictions_is_one_line(trained_run, place, args, message):
    assert_one_line(call("cae.predict", f"--workdir={trained_run.workdir}", *args, folder=place), message)


@pytest.mark.real_data
def test_a_data_set_that_lacks_a_split(place, tfds_dir):
    args = ("--dataset=fashion_mnist", f"--data_dir={tfds_dir}")
    assert_one_line(call("train.py", *args, folder=place), "has no split 'train' in its prepared copy, only test")
