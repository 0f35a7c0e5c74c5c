"""The benchmark of memory and start-up, on small sets."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from cli import assert_one_line, call

from benchmarks import dataset_scaling
from cae.data.records import Records
from cae.errors import UserError

QUICK = ("--base_filters=2", "--latent_dim=2")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Makes splits small and models fast."""
    monkeypatch.setattr(dataset_scaling, "EVAL_IMAGES", 20)
    monkeypatch.setattr(dataset_scaling, "MODEL", (*dataset_scaling.MODEL, *QUICK))


def test_two_sets_are_compared(tmp_path, monkeypatch):
    """The table has the measurements, and below them the second set's divided by the first's."""
    memory, seconds = (
        {200: (400.0, 320.0), 300: (500.0, 400.0)},
        {200: iter([9.0, 4.0, 5.0]), 300: iter([7.5, 8.0, 6.0])},
    )
    starts = []

    def time_first_step(dataset, *_):
        starts.append(int(dataset.rpartition("/")[2]))
        return next(seconds[starts[-1]])

    monkeypatch.setattr(dataset_scaling, "measure_memory", lambda path, workdir, max_steps: memory[int(path.name)])
    monkeypatch.setattr(dataset_scaling, "time_first_step", time_first_step)
    words = ("--folder=sets", "--sizes=200,300", "--max_steps=4", "--starts=3", "--json=scaling.json")
    code, out, err = call("benchmarks.dataset_scaling", *words, folder=tmp_path)
    assert code == 0 and err == "", err
    *_, small, large, ratio, caption = out.splitlines()
    # Medians of 4, 5, 9 and of 6, 7.5, 8 seconds; the fastest ones; 500 / 400, 400 / 320, 7.5 / 5 and 6 / 4.
    assert small.split() == ["200", "400", "320", "5.00", "4.00"]
    assert large.split() == ["300", "500", "400", "7.50", "6.00"]
    assert ratio.split() == ["ratio", "1.250", "1.250", "1.500", "1.500"]
    assert caption.startswith("4 steps of 128 images") and starts == [200, 300] * 3
    assert json.loads((tmp_path / "scaling.json").read_text())[1]["last MiB"] == 400
    sets = [Records(tmp_path / "sets" / size) for size in ("200", "300")]
    assert [len(each.splits["train"]) for each in sets] == [140, 240]
    assert {len(sets[0].splits[name]) for name in ("validation", "calibration", "test")} == {20}
    # The sets are kept and reused.
    again = iter([1.0, 2.0])
    monkeypatch.setattr(dataset_scaling, "time_first_step", lambda *_: next(again))
    _, out, _ = call("benchmarks.dataset_scaling", *words, "--starts=1", folder=tmp_path)
    assert "images written" not in out and out.splitlines()[-2].split()[-2:] == ["2.000", "2.000"]


WRITER = r"""
import pathlib, sys
(workdir,) = (word.partition("=")[2] for word in sys.argv if word.startswith("--workdir="))
folder = pathlib.Path(workdir)
folder.mkdir()
(folder / "metrics.jsonl").write_text('{"rss_mib": 9.5}\n{"rss_mib": 7.5}\n')
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.e2e
def test_memory_is_that_of_a_process_that_trains_for_some_steps(tmp_path, monkeypatch):
    path = dataset_scaling.generate(tmp_path / "200", 200)
    code, commands, real = 0, [], subprocess.Popen

    def popen(command, **options):
        commands.append(command)
        return real([command[0], "-c", WRITER, str(code), *command[1:]], **options)

    monkeypatch.setattr(dataset_scaling.subprocess, "Popen", popen)
    maximum, end = dataset_scaling.measure_memory(path, tmp_path / "run", 4)
    assert maximum > 1 and end == 7.5
    code = 3
    with pytest.raises(UserError, match=r"training on .*200 failed with exit code 3"):
        dataset_scaling.measure_memory(path, tmp_path / "run", 4)
    # The same command in this process takes four steps.
    (_, program, *words), _ = commands
    assert program.endswith("train.py")
    shutil.rmtree(tmp_path / "run")
    ended, _, err = call("train.py", *words, folder=tmp_path)
    assert ended == 0 and err == "", err
    epochs = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in epochs][-1] == 4 and epochs[-1]["rss_mib"] > 100


def test_images_are_reproducible_and_labels_are_quadrants():
    (images, labels), (again, _) = next(dataset_scaling.generate_spots(500)), next(dataset_scaling.generate_spots(500))
    np.testing.assert_array_equal(images, again)
    assert images.shape == (500, 28, 28, 1) and images.dtype == np.uint8 and set(labels) == {0, 1, 2, 3}
    brightest = images.reshape(500, -1).argmax(axis=1)
    row, column = brightest // 28, brightest % 28
    clear = (abs(row - 14) > 1) & (abs(column - 14) > 1)
    np.testing.assert_array_equal(labels[clear], (2 * (row > 14) + (column > 14))[clear])


@pytest.mark.parametrize("words", ["100,1000000", "60000,many", ""])
def test_invalid_sizes_are_refused(words, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_scaling, "EVAL_IMAGES", 5000)
    result = call("benchmarks.dataset_scaling", f"--sizes={words}", folder=tmp_path)
    assert_one_line(result, "must be a list of whole numbers of at least 20000")
