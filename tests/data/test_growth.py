"""The benchmark of memory and start-up on sets that are small."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from programs import call

from benchmarks import growth
from cae.data.records import Records
from cae.errors import UserError

QUICK = ("--width=2", "--latent_dim=2")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Lets sets have few images besides those of the training, and models be quick."""
    monkeypatch.setattr(growth, "HELD_OUT", 20)
    monkeypatch.setattr(growth, "MODEL", (*growth.MODEL, *QUICK))


def test_two_sets_are_written_trained_on_and_compared(tmp_path, monkeypatch):
    """The table has what was measured, and below it the second set's figures over the first's."""
    memory, seconds = (
        {200: (400.0, 320.0), 300: (500.0, 400.0)},
        {200: iter([9.0, 4.0, 5.0]), 300: iter([7.5, 8.0, 6.0])},
    )
    starts = []

    def first_step(path):
        starts.append(int(path.name))
        return next(seconds[starts[-1]])

    monkeypatch.setattr(growth, "trained", lambda path, workdir, steps: memory[int(path.name)])
    monkeypatch.setattr(growth, "seconds_to_first_step", first_step)
    words = ("--folder=sets", "--sizes=200,300", "--steps=4", "--starts=3")
    code, out, err = call("benchmarks.growth", *words, folder=tmp_path)
    assert code == 0 and err == "", err
    *_, small, large, ratio, said = out.splitlines()
    # Medians of 4, 5, 9 and of 6, 7.5, 8 seconds; the fastest ones; 500 / 400, 400 / 320, 7.5 / 5 and 6 / 4.
    assert small.split() == ["200", "400", "320", "5.00", "4.00"]
    assert large.split() == ["300", "500", "400", "7.50", "6.00"]
    assert ratio.split() == ["ratio", "1.250", "1.250", "1.500", "1.500"]
    assert said.startswith("4 steps of 128 images") and starts == [200, 300] * 3
    sets = [Records(tmp_path / "sets" / size) for size in ("200", "300")]
    assert [each.splits["train"].images for each in sets] == [140, 240]
    assert {sets[0].splits[name].images for name in ("validation", "calibration", "test")} == {20}
    # What was written stays, and is taken.
    again = iter([1.0, 2.0])
    monkeypatch.setattr(growth, "seconds_to_first_step", lambda path: next(again))
    _, out, _ = call("benchmarks.growth", *words, "--starts=1", folder=tmp_path)
    assert "images written" not in out and out.splitlines()[-2].split()[-2:] == ["2.000", "2.000"]


WRITER = r"""
import pathlib, sys
(workdir,) = (word.partition("=")[2] for word in sys.argv if word.startswith("--workdir="))
folder = pathlib.Path(workdir)
folder.mkdir()
(folder / "metrics.jsonl").write_text('{"memory_mib": 9.5}\n{"memory_mib": 7.5}\n')
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.e2e
def test_training_is_measured_in_a_process_and_takes_so_many_steps(tmp_path, monkeypatch):
    path = growth.generated(tmp_path / "200", 200)
    code, commands, real = 0, [], subprocess.Popen

    def popen(command, **options):
        commands.append(command)
        return real([command[0], "-c", WRITER, str(code), *command[1:]], **options)

    monkeypatch.setattr(growth.subprocess, "Popen", popen)
    most, end = growth.trained(path, tmp_path / "run", 4)
    assert most > 1 and end == 7.5
    code = 3
    with pytest.raises(UserError, match=r"training on .*200 ended with code 3"):
        growth.trained(path, tmp_path / "run", 4)
    # The same command in this process: four steps, in two epochs.
    (_, option, module, *words), _ = commands
    assert (option, module) == ("-m", "benchmarks.growth")
    shutil.rmtree(tmp_path / "run")
    ended, _, err = call("benchmarks.growth", *words, folder=tmp_path)
    assert ended == 0 and err == "", err
    epochs = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in epochs] == [2, 4] and epochs[-1]["memory_mib"] > 100


def test_the_first_step_is_timed_in_a_fresh_process(tmp_path, monkeypatch):
    path = growth.generated(tmp_path / "200", 200)
    commands = []
    monkeypatch.setattr(growth.subprocess, "run", lambda command, **_: commands.append(command))
    assert 0 <= growth.seconds_to_first_step(path) < 60
    (_, option, module, *words) = commands[0]
    assert (option, module) == ("-m", "benchmarks.first_step") and f"--dataset=records:{path}" in words
    # It says nothing, and comes to its end.
    assert call("benchmarks.first_step", *words, folder=tmp_path) == (0, "", "")


def test_images_are_the_same_every_time_and_lie_where_their_labels_say():
    (images, labels), (again, _) = next(growth.spots(500)), next(growth.spots(500))
    np.testing.assert_array_equal(images, again)
    assert images.shape == (500, 28, 28, 1) and images.dtype == np.uint8 and set(labels) == {0, 1, 2, 3}
    brightest = images.reshape(500, -1).argmax(axis=1)
    row, column = brightest // 28, brightest % 28
    clear = (abs(row - 14) > 1) & (abs(column - 14) > 1)
    np.testing.assert_array_equal(labels[clear], (2 * (row > 14) + (column > 14))[clear])


@pytest.mark.parametrize("words", [["60000"], ["100", "1000000"], ["60000", "many"], ["60000", "60000"], []])
def test_sizes_that_cannot_be_are_refused(words, monkeypatch):
    monkeypatch.setattr(growth, "HELD_OUT", 5000)
    with pytest.raises(UserError, match=r"--sizes=.*two numbers of images, the smaller first"):
        growth.parse(words)
