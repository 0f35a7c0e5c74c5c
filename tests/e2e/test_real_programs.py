"""The programs in processes of their own: a run, its evaluation, and errors before TensorFlow is imported."""

import os

import pytest
from cli import QUICK_EVALUATION, ROOT, assert_one_line, run

from cae.workdir import lock_workdir

pytestmark = pytest.mark.e2e

SMALL = ("--dataset=digits", "--base_filters=4", "--latent_dim=4")


def test_a_run_and_its_evaluation_write_a_report_and_nothing_to_stderr(tmp_path):
    flagfile = f"--flagfile={ROOT / 'configs/denoise.cfg'}"
    code, out, err = run("train.py", flagfile, *SMALL, "--epochs=1", folder=tmp_path)
    assert (code, err) == (0, "") and "epoch 1/1" in out
    words = ("--tasks=denoise,reconstruct", "--noise=gaussian:0.5", *QUICK_EVALUATION)
    code, out, err = run("eval.py", flagfile, *SMALL, *words, folder=tmp_path)
    assert (code, err) == (0, "") and "report: runs/denoise/report/index.html" in out
    report = tmp_path / "runs/denoise/report"
    assert {"index.html", "results.json", "denoise.csv", "denoise.png"} <= {path.name for path in report.iterdir()}


@pytest.mark.parametrize(
    "words, message",
    [
        (("--epoch=3",), "train.py: Unknown command line flag 'epoch'. Did you mean"),
        (("--width=8",), "train.py: Unknown command line flag 'width'"),
        (("--flagfile=nowhere.cfg",), "nowhere.cfg"),
        (("--dataset=mnits",), "unknown --dataset 'mnits' (did you mean 'mnist'?)"),
    ],
)
def test_bad_flags_are_one_line_before_tensorflow_is_imported(tmp_path, words, message):
    """The import takes seconds."""
    imported = tmp_path / "imported"
    result = run("train.py", *words, folder=tmp_path, environment={"TENSORFLOW_PROCESSES_FILE": str(imported)})
    assert_one_line(result, message)
    assert not imported.exists()
    assert not (tmp_path / "runs/default/config.json").exists()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path):
    workdir = tmp_path / "run"
    with lock_workdir(workdir):  # As a run in this process does.
        before = sorted(os.listdir(workdir))
        result = run("train.py", *SMALL, f"--workdir={workdir}", folder=tmp_path)
        assert_one_line(result, "is locked by another process")
        assert result[0] == 2 and sorted(os.listdir(workdir)) == before
