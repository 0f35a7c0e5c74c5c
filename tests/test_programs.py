"""Training and evaluation by the real programs, in this process: what they write, and resuming."""

import csv
import json
import shutil

import numpy as np
import pytest
from cli import QUICK, QUICK_EVALUATION, ROOT, call
from PIL import Image
from report_page import Page, check_page

import cae
from cae import runtime

DENOISE = (f"--flagfile={ROOT / 'configs/denoise.cfg'}", *QUICK)


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
    evaluated = {path.name.split(".")[-2] for path in (tensorboard / "eval").glob("events*")}
    assert evaluated == {"denoise", "reconstruct", "interpolate", "latents", "outliers"}
    assert (tensorboard / "eval/projector_config.pbtxt").exists()
    assert [*tensorboard.glob("events*")], "hyperparameters"
    with Image.open(report / "interpolate_closed_path.gif") as animation:
        assert animation.n_frames > 20
    assert "data:image/webp;base64," in (report / "index.html").read_text()


def test_the_page_of_a_whole_evaluation_is_complete_and_small(trained_run):
    folder = trained_run.workdir / "report"
    page = Page((folder / "index.html").read_text())
    check_page(page, folder)
    assert (folder / "index.html").stat().st_size < 6e6
    assert len(page.inside("summary", "li")) == 5
    plots = json.loads(page.scripts["plots"])
    assert {"latents", "loss", "psnr", "learning_rate", "rate_distortion"} <= plots.keys()
    assert plots["latents"]["thumbnails"]["url"].startswith("data:image/webp")


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


def test_a_run_is_resumed_and_another_config_is_refused(workspace):
    code, out, err = call("train.py", *DENOISE, "--epochs=3", "--noise=gaussian:0.3", folder=workspace)
    assert code == 2 and "noise=gaussian:0.5 (now gaussian:0.3)" in err and out == ""
    code, out, _ = call("train.py", *DENOISE, "--epochs=3", folder=workspace)
    assert code == 0 and "resuming from epoch 2" in out and "epoch 3/3" in out
    epochs = [json.loads(line)["epoch"] for line in (workspace / "runs/denoise/metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]


def test_evaluation_with_another_noise_and_against_another_model(workspace, unet_run):
    shutil.copytree(unet_run.workdir, workspace / "runs/unet")
    args = ("--workdir=runs/denoise", "--tasks=denoise", "--noise=salt_pepper:0.2", *QUICK_EVALUATION)
    code, out, err = call("eval.py", *args, "--compare=runs/unet", folder=workspace)
    assert code == 0 and "denoise salt_pepper:0.2" in out and "reconstruct" not in out, err
    results = json.loads((workspace / "runs/denoise/report/results.json").read_text())
    assert {"noisy input", "this model", "unet", "median"} <= {row["method"] for row in results["denoise"]["methods"]}
    code, _, err = call("eval.py", *args, "--latent_dim=16", folder=workspace)
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


def test_a_folder_of_color_images_with_mixed_precision(tmp_path, random, monkeypatch):
    monkeypatch.setattr(runtime, "cpu_flags", lambda: {"avx2"})
    emulated = "warning: --precision=mixed_bfloat16 is emulated by this CPU"
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        image = Image.fromarray(random.integers(0, 256, (40, 30, 3), np.uint8))
        image.save(folder / f"{number}.png")
    (folder / "broken.jpg").write_text("no image")
    args = (f"--dataset=folder:{folder}", "--image_size=21", "--channels=3", "--base_filters=8", "--batch_size=16")
    args += ("--workdir=run", "--precision=mixed_bfloat16", "--epochs=1")
    code, out, err = call("train.py", *args, folder=tmp_path)
    assert code == 0 and "broken.jpg" in out and emulated in out, err
    tasks = ("--tasks=denoise,reconstruct", "--noise=gaussian:0.5", *QUICK_EVALUATION)
    code, out, err = call("eval.py", "--workdir=run", *tasks, folder=tmp_path)
    assert code == 0 and "reconstruct clean images" in out and "denoise gaussian:0.5" in out and emulated in out, err
    code, out, err = call("eval.py", "--workdir=run", *tasks, "--precision=float32", folder=tmp_path)
    assert code == 0 and "reconstruct clean images" in out and emulated not in out, err


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
    # All 60 images of a class against a fifth of the other's.
    assert [float(first[name]["prevalence_pooled"]) for name in ("dark", "bright")] == [pytest.approx(60 / 72)] * 2
    (tmp_path / "runs/one/bright-seed3/result.json").unlink()
    metrics = tmp_path / "runs/one/bright-seed3/metrics.jsonl"
    metrics.write_text(json.dumps(json.loads(metrics.read_text()) | {"epoch_seconds": 1000}) + "\n")
    code, out, err = run_benchmark()
    assert code == 0 and out.count("training already complete (1 epochs") == 1, err
    assert {name: row["auroc/fisher"] for name, row in rows().items()} == {
        name: row["auroc/fisher"] for name, row in first.items()
    }
    assert float(rows()["bright"]["seconds"]) >= 1000  # An earlier process trained.
    code, _, err = run_benchmark("--latent_dim=3")
    assert code == 2 and "latent_dim=2 (now 3)" in err
