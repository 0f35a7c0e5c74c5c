"""Bad input to the real programs is one line on stderr, without a traceback."""

import pytest
from cli import ROOT, assert_one_line, call

from cae import tasks

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
    "not a number": (("--model=vae", "--beta=nan"), "--beta=nan must be a finite number"),
    "replicas": (
        ("--distribution_strategy=mirrored", "--logical_cpus=3"),
        "--batch_size=128 is not divisible by 3 replicas; use 129",
    ),
    "batch": (("--dataset=digits", "--batch_size=5000"), "is larger than the 1285 training images"),
    "folder": (("--dataset=folder:nowhere",), "there is no such folder"),
    "empty folder": (("--dataset=folder:empty",), "needs PNG, JPEG, TIFF, BMP, GIF, WebP or PNM images"),
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


@pytest.mark.parametrize("folder", ["report", "tensorboard"])
def test_an_evaluation_that_could_not_be_written_is_one_line_at_once(trained_run, tmp_path, folder):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "config.json").symlink_to(trained_run.workdir / "config.json")
    (workdir / folder).write_text("a file in the way")
    result = call("eval.py", f"--workdir={workdir}", "--tasks=denoise", folder=tmp_path)
    assert_one_line(result, f"File exists: '{workdir / folder}'")


def test_too_few_test_images_for_a_task_are_refused_before_any_work(trained_run, monkeypatch):
    monkeypatch.setattr(tasks, "MIN_TEST_IMAGES", {"interpolate": 1000})
    result = call("eval.py", f"--workdir={trained_run.workdir}", "--tasks=interpolate", folder=ROOT)
    assert_one_line(result, "--tasks=interpolate needs at least 1000 test images, and the data set has 256")


@pytest.mark.parametrize(
    "word, message",
    {
        "--alpha=0.001": "calibration images can guarantee",
        "--alpha=1.5": "must be between 0 and 1",
        "--alpha=nan": "--alpha=nan must be between 0 and 1: it is a false positive rate",
        "--score=mean": "unknown --score 'mean'",
        "--threshold_method=sigmas": "did you mean 'sigma'",
        "--threshold_method=youden": "needs labeled outliers",
        "--threshold_method=class_conditional --alpha=0.05": "7 calibration images of class '0' can guarantee 0.12 at",
        "--outlier_datasets=folder:nowhere": "--outlier_datasets=folder:nowhere: there is no such folder",
        "--interpolation_weights=0,2": "'2' is not a number from 0 to 1",
        "--tsne_images=3": "must be 0, for no t-SNE, or at least 5",
    }.items(),
)
def test_bad_input_to_outlier_detection_is_one_line(trained_run, word, message):
    args = (f"--workdir={trained_run.workdir}", "--tasks=outliers", "--outlier_datasets=", *word.split())
    assert_one_line(call("eval.py", *args, folder=ROOT), message)


@pytest.mark.parametrize(
    "word, message",
    {
        "--compare=nowhere": "--compare=nowhere contains no run",
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
        *(
            (("--images=file", f"--fdr={value}"), f"--fdr={value} must be between 0 and 1")
            for value in (0.0, 2.0, "nan")
        ),
        (("--images=file,empty,nowhere",), "--images=nowhere: there is no such file or folder; a path that contains"),
    ],
)
def test_bad_input_to_predictions_is_one_line(trained_run, place, args, message):
    assert_one_line(call("cae.predict", f"--workdir={trained_run.workdir}", *args, folder=place), message)


@pytest.mark.real_data
def test_a_data_set_that_lacks_a_split(place, tfds_dir):
    args = ("--dataset=fashion_mnist", f"--data_dir={tfds_dir}")
    assert_one_line(call("train.py", *args, folder=place), "has no split 'train' in its prepared copy, only test")
