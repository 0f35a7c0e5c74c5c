"""The programs, called in this process; `e2e/` starts some of them as people do."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from programs import QUICK, QUICK_EVALUATION, ROOT, assert_one_line, call

import cae
from cae.config import Config
from cae.data import sources

DENOISE = (f"--flagfile={ROOT / 'configs/denoise.cfg'}", *QUICK)


@pytest.fixture(scope="module")
def digits():
    """The test images of the embedded digits."""
    return sources.open_source(Config(dataset="digits")).read("test")[0]


@pytest.fixture
def folder(trained_run, tmp_path):
    """A folder to write to with a copy of the trained run at runs/denoise."""
    trained_run.copy(tmp_path / "runs/denoise")
    return tmp_path


# --- What a run and its evaluation leave ------------------------------------------------------------------------------


def test_training_and_evaluation_leave_what_people_rely_on(trained_run):
    written = {str(path.relative_to(trained_run.workdir)) for path in trained_run.workdir.rglob("*")}
    assert {
        "config.json", "metrics.jsonl", "checkpoints", "tensorboard/train", "tensorboard/validation",
        "report/index.html", "report/results.json", "report/denoise.csv", "report/denoise.png",
    } <= written  # fmt: skip
    (_, out, err), (_, evaluated, more) = trained_run.trained, trained_run.evaluated
    assert err == more == "", "nothing but errors goes to stderr"
    assert "epoch 2/2" in out and "report: runs/denoise/report/index.html" in evaluated


def test_results_have_their_plain_names_and_the_model_denoises(trained_run):
    results = json.loads((trained_run.workdir / "report/results.json").read_text())
    noisy, ours, *_ = results["denoise"]
    assert (noisy["method"], noisy["noise"], noisy["level"]) == ("noisy input", "gaussian", "0.5")
    assert ours["mse"] < noisy["mse"] and ours["psnr"] > noisy["psnr"]
    assert {"method", "noise", "level", "mse", "psnr", "ssim", "accuracy", "seconds_per_1000"} <= ours.keys()
    tried = {(row["method"], row["noise"], row["level"]) for row in results["denoise"]}
    assert {("median", "gaussian", "0.5"), ("wavelet", "salt_pepper", "0.2"), ("this model", "none", "")} <= tried
    assert {"mse", "psnr", "ssim", "by_class"} <= results["reconstruct"].keys()
    assert {"linear_accuracy", "cluster_accuracy", "pca_mse", "participation_ratio"} <= results["latents"].keys()
    ways = {(row["pairs"], row["method"]) for row in results["interpolate"]["methods"]}
    methods = ("linear", "spherical", "pixel blend")
    assert ways == {(kind, method) for kind in ("within", "between") for method in methods}
    assert f"{ours['mse']:.5f}" in trained_run.evaluated[1]


def test_an_evaluation_is_in_tensorboard_and_its_ring_moves(trained_run):
    tensorboard, report = trained_run.workdir / "tensorboard", trained_run.workdir / "report"
    evaluated = {path.name for path in (tensorboard / "evaluation").iterdir()}
    assert evaluated == {"denoise", "reconstruct", "interpolate", "latents", "outliers"}
    assert (tensorboard / "evaluation/latents/projector_config.pbtxt").exists()
    assert [*tensorboard.glob("events*")], "hyperparameters"
    with Image.open(report / "interpolate_ring.gif") as animation:
        assert animation.n_frames > 20
    assert "data:image/gif;base64," in (report / "index.html").read_text()


def test_the_record_says_what_was_used(trained_run):
    record = json.loads((trained_run.workdir / "config.json").read_text())
    assert record["settings"]["noise"] == "gaussian:0.5" and record["dataset"]["name"] == "digits"
    assert record["dataset"]["splits"]["test"]["images"] == 256
    assert {"python", "tensorflow", "keras", "numpy"} <= record["versions"].keys()


def test_a_detector_is_saved_and_read_back_and_its_promise_is_in_the_report(trained_run, digits):
    outliers = json.loads((trained_run.workdir / "report/results.json").read_text())["outliers"]
    assert {"score", "alpha", "threshold", "false_alarm_rate"} <= outliers.keys()
    assert {"n", "auroc", "aupr", "fpr95", "detection_rate"} <= outliers["sets"]["uniform_noise"].keys()
    assert "outliers by combined" in trained_run.evaluated[1] and "worst of" in trained_run.evaluated[1]
    # Neither prepared nor reachable in most places where tests run; where it is, it is a set as any other.
    assert "fashion_mnist" in {**outliers["skipped"], **outliers["sets"]}
    assert outliers["skipped"]["digits"] == "it is what the model was trained on"
    detector = cae.load_detector(trained_run.workdir)
    belong = detector.belongs(digits)
    assert belong.dtype == bool and 1 - belong.mean() == pytest.approx(outliers["false_alarm_rate"], abs=1e-9)
    noise = np.random.default_rng(0).integers(0, 256, [9, 28, 28, 1], np.uint8)
    assert not detector.belongs(noise).any() and (detector.p_values(noise) == detector.p_values(noise).min()).all()
    assert detector.belongs(digits, alpha=0.3).sum() < belong.sum()


# --- Going on, evaluating again ---------------------------------------------------------------------------------------


def test_a_run_goes_on_and_another_one_is_refused(folder):
    code, out, err = call("train.py", *DENOISE, "--epochs=3", "--noise=gaussian:0.3", folder=folder)
    assert code == 2 and "noise (gaussian:0.5 there, gaussian:0.3 now)" in err and out == ""
    code, out, _ = call("train.py", *DENOISE, "--epochs=3", folder=folder)
    assert code == 0 and "going on after epoch 2" in out and "epoch 3/3" in out
    epochs = [json.loads(line)["epoch"] for line in (folder / "runs/denoise/metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3]


def test_evaluation_with_another_noise_and_against_another_model(folder, unet_run):
    shutil.copytree(unet_run.workdir, folder / "runs/unet")
    words = ("--workdir=runs/denoise", "--tasks=denoise", "--noise=salt_pepper:0.2", *QUICK_EVALUATION)
    code, out, err = call("eval.py", *words, "--compare=runs/unet", folder=folder)
    assert code == 0 and "denoise salt_pepper:0.2" in out and "reconstruct" not in out, err
    results = json.loads((folder / "runs/denoise/report/results.json").read_text())
    assert {"noisy input", "this model", "unet", "median"} <= {row["method"] for row in results["denoise"]}
    code, _, err = call("eval.py", *words, "--latent_dim=16", folder=folder)
    assert code == 2 and "latent_dim (8 there, 16 now)" in err


def test_a_variational_autoencoder_is_sampled(tmp_path):
    words = (*QUICK, "--model=vae", "--loss=cross_entropy", "--beta=0.5", "--epochs=1", "--workdir=vae")
    code, _, err = call("train.py", *words, folder=tmp_path)
    assert code == 0, err
    line = json.loads((tmp_path / "vae/metrics.jsonl").read_text())
    loss = line["validation/reconstruction"] + 0.5 * line["validation/divergence"] / 28**2
    assert line["validation/loss"] == pytest.approx(loss, rel=1e-4)
    code, out, err = call("eval.py", "--workdir=vae", "--tasks=latents", *QUICK_EVALUATION, folder=tmp_path)
    assert code == 0 and "latent vectors of 8" in out, err
    assert (tmp_path / "vae/report/latents_samples.png").exists()


def test_ones_own_images_in_colour_with_mixed_precision(tmp_path, random):
    for number in range(40):
        picture = Image.fromarray(random.integers(0, 256, (40, 30, 3), np.uint8))
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "broken.jpg").write_text("no picture")
    words = (f"--dataset=folder:{tmp_path}", "--image_size=21", "--channels=3", "--width=8", "--batch_size=16")
    words += ("--workdir=run", "--precision=mixed_bfloat16", "--epochs=1")
    code, out, err = call("train.py", *words, folder=tmp_path)
    assert code == 0 and "broken.jpg" in out, err
    tasks = ("--tasks=denoise,reconstruct", "--noise=gaussian:0.5", *QUICK_EVALUATION)
    code, out, err = call("eval.py", "--workdir=run", *tasks, folder=tmp_path)
    assert code == 0 and "reconstruct clean images" in out and "denoise gaussian:0.5" in out, err


@pytest.mark.real_data
def test_real_digits_through_the_programs(tmp_path, tfds_dir):
    words = (f"--flagfile={ROOT / 'configs/denoise.cfg'}", f"--data_dir={tfds_dir}", "--width=4", "--epochs=1")
    # Of two digits, or reading, training and judging 70,000 images would take most of a minute.
    words += ("--classes=0,1", "--workdir=run")
    code, out, err = call("train.py", *words, folder=tmp_path)
    assert code == 0 and "epoch 1/1" in out, err
    (line,) = (json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines())
    assert line["validation/mse"] < 0.04
    words = ("--workdir=run", "--tasks=reconstruct", f"--data_dir={tfds_dir}", *QUICK_EVALUATION)
    code, out, err = call("eval.py", *words, folder=tmp_path)
    assert code == 0, err
    results = json.loads((tmp_path / "run/report/results.json").read_text())["reconstruct"]
    assert results["mse"] < 0.04 and len(results["by_class"]) == 2


def test_the_protocol_trains_every_class_and_goes_on_where_it_stopped(tmp_path, random):
    for kind, level in {"dark": 40, "bright": 200}.items():
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number in range(60):
            image = np.clip(random.normal(level, 20, (12, 12)), 0, 255).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "pictures" / kind / f"{number}.png")
    words = ("--dataset=folder:pictures", "--image_size=12", "--classes=dark", "--width=4", "--latent_dim=2")
    words += ("--batch_size=8", "--epochs=1", "--workdir=runs/one", "--learning_rate=0.002", "--seed=3")

    def protocol(*more):
        return call("benchmarks.protocol", *words, *more, folder=tmp_path)

    def rows():
        with (tmp_path / "runs/one/protocol.csv").open(newline="") as file:
            return {row["class"]: row for row in csv.DictReader(file)}

    code, out, err = protocol()
    assert code == 0 and "mean" in out, err
    first = rows()
    assert first.keys() == {"dark", "bright", "mean"}
    means = [float(first[name]["auroc/combined"]) for name in ("dark", "bright", "mean")]
    assert means[2] == pytest.approx((means[0] + means[1]) / 2) and 0 <= means[2] <= 1
    (tmp_path / "runs/one/bright/protocol.json").unlink()
    code, out, err = protocol()
    assert code == 0 and out.count("already trained for 1 epochs") == 1, err
    assert {name: row["auroc/combined"] for name, row in rows().items()} == {
        name: row["auroc/combined"] for name, row in first.items()
    }
    code, _, err = protocol("--latent_dim=3")
    assert code == 2 and "latent_dim (2 there, 3 now)" in err


# --- One's own pictures -----------------------------------------------------------------------------------------------


def test_what_lies_between_ones_own_pictures(folder, digits):
    for number, image in enumerate(digits[:2]):
        Image.fromarray(255 - image[..., 0]).resize((60, 60)).save(folder / f"{number}.png")
    words = ("--workdir=runs/denoise", "--tasks=reconstruct,interpolate", "--mixing=0,0.5,1")
    code, out, err = call("eval.py", *words, "--images=0.png,1.png", folder=folder)
    assert code == 0 and "2 pictures, MSE" in out and "between 0.png and 1.png" in out, err
    report = folder / "runs/denoise/report"
    assert {"interpolated.png", "interpolated.gif", "index.html"} <= {
        path.name for path in (report / "own_interpolated").iterdir()
    }
    with (report / "own_reconstructed/reconstructed.csv").open(newline="") as file:
        lines = [*csv.DictReader(file)]
    assert [line["file"] for line in lines] == ["0.png", "1.png"] and "latent_7" in lines[0]
    assert lines[0]["fitted"] == "60x60 to 28x28, inverted"
    told = "--tasks=interpolate takes 2 to 12 --images; here are 1"
    assert_one_line(call("eval.py", *words, "--images=0.png", folder=folder), told)
    told = "'2' is no number from 0 to 1"
    assert_one_line(call("eval.py", *words[:2], "--images=0.png,1.png", "--mixing=0,2", folder=folder), told)


@pytest.mark.parametrize("model", ["denoise", "unet"])
def test_ones_own_pictures_are_cleaned_and_what_is_left_out_is_named(trained_run, unet_run, model, random, tmp_path):
    {"denoise": trained_run, "unet": unet_run}[model].copy(tmp_path / "run")
    pictures = tmp_path / "pictures"
    kinds = {"a.png": (28, 28), "sub/large.png": (70, 45), "photo.bmp": (33, 21, 3)}
    for name, shape in kinds.items():
        (pictures / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(pictures / name)
    words = ("--workdir=run", "--tasks=denoise", "--images=pictures")
    code, out, err = call("eval.py", *words, folder=tmp_path)
    report = tmp_path / "run/report"
    assert code == 0 and "3 of 3 files cleaned" in out, err
    for name in kinds:
        with Image.open(pictures / name) as before, Image.open(report / "denoised" / name) as after:
            assert (after.size, after.mode, after.format) == (before.size, before.mode, before.format)
            assert not np.array_equal(np.asarray(after), np.asarray(before))
    assert (report / "denoised_sheet.png").exists()
    (pictures / "broken.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    code, out, err = call("eval.py", *words, folder=tmp_path)
    assert code == 3 and "3 of 4 files cleaned" in out and "skipped broken.png: damaged" in out and err == ""
    lines = (report / "denoised.csv").read_text().splitlines()
    assert len(lines) == 5 and any(line.startswith("broken.png,skipped: damaged") for line in lines)


def test_ones_own_pictures_are_screened_at_the_rate_that_was_said(folder, digits, random):
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, image in enumerate(digits[:20]):
        Image.fromarray(image[..., 0]).save(pictures / f"digit{number}.png")
    Image.fromarray(random.integers(0, 256, (40, 40), np.uint8)).save(pictures / "noise.png")
    words = ("--workdir=runs/denoise", "--tasks=outliers", "--images=pictures")
    code, out, err = call("eval.py", *words, "--alpha=0.05", folder=folder)
    assert code == 0 and "of 21 files belong" in out and "false-alarm rate of 0.05" in out, err
    assert "1 files were changed so much to fit that what is odd may be hidden" not in out
    report = folder / "runs/denoise/report"
    with (report / "screened.csv").open(newline="") as file:
        lines = {line["file"]: line for line in csv.DictReader(file)}
    assert lines["noise.png"]["belongs"] == "False" and lines["noise.png"]["fitted"] == "40x40 to 28x28"
    assert sum(line["belongs"] == "True" for line in lines.values()) >= 15
    assert (report / "screened_sheet.png").exists()
    (pictures / "broken.png").write_bytes(b"nothing")
    code, out, err = call("eval.py", *words, folder=folder)
    assert code == 3 and "of 21 files belong" in out and "skipped broken.png" in out and err == ""


# --- Bad input --------------------------------------------------------------------------------------------------------

BAD = {
    "flag": (("--epoch=3",), "Unknown command line flag 'epoch'."),
    "word": (("epochs=3",), "'epochs=3' is not a flag"),
    "number": (("--epochs=many",), "epochs"),
    "flagfile": (("--flagfile=nowhere.cfg",), "nowhere.cfg"),
    "model": (("--model=cnov",), "unknown --model 'cnov' (did you mean 'conv'?); known: conv"),
    "meaning": (("--model=unet", "--latent_dim=8"), "--latent_dim has no meaning for --model=unet"),
    "beta": (("--beta=2",), "--beta has no meaning for --model=conv, which has no prior; vae has one"),
    "regularizer": (("--model=unet", "--regularizer=acai"), "--regularizer=acai is for --model=conv; unet has no"),
    "weight": (("--regularizer_weight=1",), "--regularizer_weight=1.0 needs --regularizer=acai"),
    "lines": (("--dataset=lines", "--image_size=28"), "32x32"),
    "noise": (("--noise=gausian:1",), "did you mean 'gaussian'"),
    "loss": (("--loss=mae",), "unknown --loss 'mae'"),
    "data set": (("--dataset=mnits",), "did you mean 'mnist'"),
    "size": (("--latent_dim=-1",), "--latent_dim=-1 must be at least 1"),
    "share": (
        ("--strategy=mirrored", "--logical_cpus=3"),
        "--batch_size=128 cannot be shared out evenly over 3 replicas; 129 can",
    ),
    "batch": (("--dataset=digits", "--batch_size=5000"), "more than the 1285 training images"),
    "folder": (("--dataset=folder:nowhere",), "there is no such folder"),
    "empty folder": (("--dataset=folder:empty",), "needs PNG, JPEG or BMP pictures"),
    "workdir": (("--dataset=digits", "--workdir=file/run"), "cannot be written"),
    "other": (("--dataset=digits", "--workdir=other"), "holds something else than a run"),
    "cluster": (("--dataset=digits", "--strategy=multiworker"), "TF_CONFIG is not set; it must look like"),
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
    words, told = BAD[case]
    assert_one_line(call("train.py", *words, folder=place), told)
    assert not (place / "runs" / "default" / "config.json").exists()


@pytest.mark.parametrize(
    "config, told",
    [
        ("{", "TF_CONFIG is '{'; it must look like"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "none of index 2"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(place, config, told, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    assert_one_line(call("train.py", "--dataset=digits", "--strategy=multiworker", folder=place), told)


def test_bad_input_to_an_evaluation(place):
    assert_one_line(call("eval.py", "--workdir=nowhere", folder=place), "holds no run")
    assert_one_line(call("eval.py", "--tasks=denose", folder=place), "did you mean 'denoise'")


@pytest.mark.parametrize(
    "word, told",
    {
        "--alpha=0.001": "calibration images can promise no less than",
        "--alpha=1.5": "must lie between 0 and 1",
        "--score=mean": "unknown --score 'mean'",
        "--threshold=sigmas": "did you mean 'sigma'",
        "--threshold=youden": "needs labelled outliers",
        "--outlier_datasets=folder:nowhere": "--outlier_datasets=folder:nowhere: there is no such folder",
    }.items(),
)
def test_bad_input_to_outlier_detection_is_one_line(trained_run, word, told):
    words = (f"--workdir={trained_run.workdir}", "--tasks=outliers", "--outlier_datasets=", word)
    assert_one_line(call("eval.py", *words, folder=ROOT), told)


@pytest.mark.parametrize(
    "word, told",
    {
        "--compare=nowhere": "--workdir=nowhere holds no run",
        "--images=nowhere": "--images=nowhere: there is no such file or folder",
        "--images=empty": "holds no file",
        "--tasks=reconstruct": "--tasks=reconstruct needs latent vectors, and --model=unet has none",
        "--noise=gaussian:0.5,gausian:1": "did you mean 'gaussian'",
        "--score=mahalanobis": "--score=mahalanobis needs latent vectors, which this model has none of",
    }.items(),
)
def test_bad_input_to_a_comparison_and_to_cleaning(unet_run, place, word, told):
    assert_one_line(call("eval.py", f"--workdir={unet_run.workdir}", word, folder=place), told)


@pytest.mark.real_data
def test_a_data_set_that_lacks_a_split(place, tfds_dir):
    words = ("--dataset=fashion_mnist", f"--data_dir={tfds_dir}")
    assert_one_line(call("train.py", *words, folder=place), "lacks the split 'train'; it has test")
