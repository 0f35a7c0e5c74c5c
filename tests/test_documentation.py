"""The documentation is correct: links, commands, flags and paths exist."""

import re

import pytest
from absl import flags
from cli import ROOT
from documentation import (
    CONFIGS,
    ERRORS,
    LINK,
    PAGES,
    PROGRAMS,
    all_flags,
    benchmark_names,
    check_command,
    command_of,
    commands_in,
    dead_links,
    missing_names,
)

from cae import metrics, models, tasks
from cae.data import noise
from cae.outliers import scores, thresholds

# --- Tests of the pages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_lead_to_files_and_headings(path):
    assert dead_links(path.read_text(), path.parent) == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_programs_accept_commands(path):
    refused = {}
    for words in commands_in(path.read_text()):
        try:
            check_command(words)
        except ERRORS as error:
            refused[" ".join(words)] = f"{type(error).__name__}: {error}"
    assert refused == {}


def test_every_program_and_benchmark_is_documented():
    commands = [" ".join(words) for path in PAGES for words in commands_in(path.read_text())]
    # first_step is started by other benchmarks.
    required = [f"-m benchmarks.{name}" for name in benchmark_names() if name != "first_step"]
    missing = [name for name in (*PROGRAMS, *required) if not any(name in command for command in commands)]
    assert len(required) >= 8 and missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_files_and_flags_in_text_exist(path):
    assert missing_names(path.read_text(), all_flags()) == []


def test_every_page_is_in_the_index_of_the_readme():
    linked = LINK.findall((ROOT / "README.md").read_text())
    assert [path.name for path in PAGES[2:] if f"docs/{path.name}" not in linked] == []


def test_every_configuration_and_registered_name_is_documented():
    training = (ROOT / "docs/training.md").read_text()
    names = [f"configs/{path.name}" for path in CONFIGS] + [
        *noise.NOISES,
        *models.MODELS,
        *metrics.LOSSES,
        *tasks.TASKS,
    ]
    assert [name for name in names if f"`{name}`" not in training] == []
    detection = (ROOT / "docs/outlier_detection.md").read_text()
    assert [name for name in (*scores.SCORES, *thresholds.THRESHOLDS) if f"`{name}`" not in detection] == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_command_of_a_configuration_accepts_it(path):
    words = command_of(path)
    assert f"--flagfile=configs/{path.name}" in words
    check_command(words)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_header_of_a_configuration_has_purpose_command_result_and_time(path):
    labels = re.findall(r"^# (Purpose|Command|Expected[^:]*|Wall-clock):", path.read_text(), re.MULTILINE)
    assert [label.partition(" ")[0] for label in labels] == ["Purpose", "Command", "Expected", "Wall-clock"]


# --- Tests of the checks ----------------------------------------------------------------------------------------------


def test_dead_links_are_found(tmp_path):
    (tmp_path / "other.md").write_text("# There is one\n\n```\n# No heading\n```\n\n## There is one\n")
    text = "[a](other.md) [b](other.md#there-is-one-1) [c](#here) ![d](https://host/image.png)\n\n# Here!\n"
    assert dead_links(text, tmp_path) == []
    for target in ("gone.png", "other.md#no-heading", "#there", "gone.md#here"):
        assert dead_links(f"{text}[e]({target})", tmp_path) == [target]


def test_missing_names_are_found():
    text = "`cae/config.py` and `configs/` `--epochs=3 --base_filters=2` `epochs/cae`"
    assert missing_names(text, {"epochs", "base_filters"}) == []
    assert missing_names(f"{text} `cae/confing.py` `--epochs=3 --with=2`", {"epochs", "base_filters"}) == [
        "cae/confing.py", "--with=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --flagfile=configs/gone.cfg",
        "python train.py --epoch=5",
        "python train.py --model=cnov",
        "python train.py --noise=gausian:0.5",
        "python train.py --epochs=5 denoise",
        "python train.py --score=mse",
        "python eval.py --tasks=denoize",
        "python eval.py --images=a.png",
        "python predict.py",
        "python -m benchmarks.gone",
        "python -m benchmarks.throughput --cases=torhc",
        "python -m benchmarks.convergence --recipes=cnov",
        "python -m benchmarks.fault_injection --epochs=3",
        ".venv/bin/python -m pytest tests/test_gone.py",
        "python -c 'import'",
        "make tset",
        "make denoise EPOCH=5",
        "make denoise CONFIG=configs/gone.cfg",
        "tensorboard --logdirs=runs",
        "pip install -e '.[gone]'",
        "pip install --require-hashes -r gone.lock",
    ],
)
def test_wrong_commands_are_found(command):
    (words,) = commands_in(f"```\n{command}  # Why.\n```\n")
    with pytest.raises(ERRORS):
        check_command(words)
    assert not flags.FLAGS.is_parsed()
