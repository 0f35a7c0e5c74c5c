"""Figures are measured one after the other and resumed, and what fails does not end the rest."""

import dataclasses
import functools
import json
import re
import shlex
import shutil
import signal

import pytest
from cli import call

from benchmarks.results import __main__ as program
from benchmarks.results import measure, records, runner
from benchmarks.results.definition import Command, Row, Table
from cae.cli import EXIT_PARTIAL
from cae.errors import UserError


def shell(name, script, minutes=1.0):
    """A command of a shell that also notes its name in a log, and whose figures are in `{runs}/NAME.json`."""
    return Command(
        shlex.quote(f"echo {name}{{seed}} >> {{runs}}/log; {script}"), {"out": f"{{runs}}/{name}.json"}, minutes
    )


def writes(name):
    return shell(name, f'echo \'{{"a": [{{"k": "x", "v": 1}}, {{"k": "y", "v": 2}}]}}\' > {{runs}}/{name}.json')


FIGURES = {"y": ("out", "a", {"k": "y"}, "v")}

FAKE = Table(
    "fake",
    columns={"y": ("y", "{:.1f}")},
    rows=[
        Row("good", "", [writes("shared"), writes("good")], FIGURES, needs=(), seeds=(0, 1), quick=[writes("quick")]),
        Row("bad", "", [shell("bad", "echo starting; echo no space left >&2; exit 3")], FIGURES, needs=()),
        Row("incomplete", "", [writes("incomplete")], {"z": ("out", "a", {"k": "z"}, "v")}, needs=()),
        Row("lacking", "", [shell("lacking", "ls {photos}")], FIGURES, needs=()),
        Row("unavailable", "", [shell("unavailable", "true")], FIGURES, needs=("mnist",)),
        Row("last", "", [writes("shared"), writes("last")], FIGURES, needs=()),
    ],
)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A workspace whose commands are scripts of a shell, at the commit `now`."""
    monkeypatch.setattr(records, "current_commit", lambda: "now")
    monkeypatch.setattr(records, "is_current", lambda commit, command=None: commit == "now")
    (tmp_path / "now").mkdir()
    return runner.Workspace(tmp_path / "now", {}, str(tmp_path / "no_data"), python=("sh", "-c"))


def run(workspace, only=()):
    """Measures what is not done; returns how many steps failed, and the commands that ran."""
    log, output = workspace.runs / "log", workspace.runs / "tables"
    log.unlink(missing_ok=True)
    steps = measure.skip(measure.select([FAKE], only, False), workspace, output)
    num_failed = measure.run(steps, workspace, output)
    return num_failed, log.read_text().split() if log.exists() else []


def test_failed_and_skipped_steps_have_a_line_and_the_others_are_measured(workspace, capsys):
    assert run(workspace) == (2, ["shared0", "good0", "shared1", "good1", "bad0", "incomplete0", "last0"])
    lines = capsys.readouterr().out.splitlines()
    for line in (
        r"fake/bad, seed 0: failed, exit code 3: no space left \(log: .*\.log\)",
        "fake/incomplete, seed 0: failed, no figure at out/a/z/v",
        "fake/lacking, seed 0: skipped, it needs --photos=FOLDER",
        "fake/unavailable, seed 0: skipped, there is no mnist in .*no_data; --data_dir=FOLDER names another folder",
        "fake/last, seed 0: 0 s",
    ):
        assert sum(re.fullmatch(line, each) is not None for each in lines) == 1, (line, lines)
    table = records.load_table("fake", workspace.runs / "tables")
    assert [(row, each["seed"], each["figures"]) for row in table for each in table[row]] == [
        ("good", 0, {"y": 2}), ("good", 1, {"y": 2}), ("last", 0, {"y": 2}),
    ]  # fmt: skip
    record = table["last"][0]
    assert {"seed", "commands", "versions", "processor", "cores", "figures"} == record.keys() and record["cores"] >= 1
    assert [{*each} for each in record["commands"]] == [{"command", "commit", "date", "minutes", "load"}] * 2
    assert str(workspace.runs) not in json.dumps(table)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2", "avx512f", "avx512_bf16"}, "AMD EPYC with AVX-512 BF16"),
        ({"avx2", "avx512f"}, "AMD EPYC with AVX-512"),
        ({"avx", "avx2"}, "AMD EPYC with AVX2"),
        (set(), "AMD EPYC"),
    ],
)
def test_processors_of_one_name_differ_by_their_vector_instructions(flags, expected):
    assert records.describe_processor("AMD EPYC", flags) == expected


def test_commands_find_data_sets_by_a_variable_since_not_all_have_the_flag(workspace):
    command = Command(shlex.quote('echo "[\\"$TFDS_DATA_DIR\\"]" > {runs}/out.json'), {"out": "{runs}/out.json"}, 1)
    _, outputs = runner.Journal(workspace).run(command, 0, lambda seconds: None)
    assert outputs == {"out": [workspace.data_dir]}


def test_what_is_measured_at_this_commit_is_not_measured_again(workspace, monkeypatch):
    run(workspace)
    assert run(workspace) == (2, ["bad0"])  # What the incomplete row has written is there.
    shutil.rmtree(workspace.runs / "tables")
    assert run(workspace, ["fake/good"]) == (0, [])
    monkeypatch.setattr(records, "is_current", lambda commit, command=None: commit == "next")
    monkeypatch.setattr(records, "current_commit", lambda: "next")
    assert run(dataclasses.replace(workspace, any_commit=True), ["fake/good"]) == (0, [])
    assert run(workspace, ["fake/good"]) == (0, ["shared0", "good0", "shared1", "good1"])
    with pytest.raises(UserError, match="--only=fake/none selects nothing"):
        run(workspace, ["fake/none"])


def test_an_interrupted_command_ends_and_its_minutes_count_when_it_is_resumed(workspace, monkeypatch):
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.05)
    command = shell("slow", "test -e {runs}/slow.json || exec sleep 60; echo ended >> {runs}/log")

    def interrupt(seconds):
        (workspace.runs / "slow.json").write_text('{"v": 1}')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.Journal(workspace).run(command, 0, interrupt)
    (path,) = (workspace.runs / "done").glob("*.json")
    entry = json.loads(path.read_text())
    path.write_text(json.dumps(entry | {"minutes": 3.0}))
    resumed, outputs = runner.Journal(workspace).run(command, 0, lambda seconds: None)
    assert "outputs" not in entry and outputs == {"out": {"v": 1}}
    assert 3 < resumed["minutes"] < 3.5 and (workspace.runs / "log").read_text().split()[-1] == "ended"


def test_a_figure_may_be_that_of_a_folder_which_a_flag_names(workspace):
    command = shell("scores", "echo '{\"folder:/a/letters\": 0.5}' > {runs}/scores.json")
    table = dataclasses.replace(FAKE, rows=[Row("row", "", [command], {"v": ("out", "folder:{omniglot}")}, needs=())])
    workspace = dataclasses.replace(workspace, folders={"omniglot": "/a/letters"})
    assert measure.run(measure.select([table], [], False), workspace, workspace.runs / "tables") == 0
    assert records.load_table("fake", workspace.runs / "tables")["row"][0]["figures"] == {"v": 0.5}


def test_two_processes_never_measure_at_once(tmp_path):
    with (
        runner.lock(tmp_path / "lock"),
        pytest.raises(UserError, match="another process is measuring"),
        runner.lock(tmp_path / "lock"),
    ):
        pass
    with runner.lock(tmp_path / "lock"):
        pass


def test_program_measures_a_budget_and_its_exit_code_tells_of_failures(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "TABLES", {"fake": FAKE})
    monkeypatch.setattr(runner, "Workspace", functools.partial(runner.Workspace, python=("sh", "-c")))
    monkeypatch.setattr(runner, "lock", functools.partial(runner.lock, tmp_path / "lock"))
    (tmp_path / "runs_quick/now").mkdir(parents=True)
    flags = (f"--runs_dir={tmp_path / 'runs'}", f"--output={tmp_path / 'tables'}")
    (tmp_path / "runs/now").mkdir(parents=True)
    assert call("benchmarks.results", *flags, "--only=fake/good,fake/last", folder=tmp_path)[0] == 0
    handler = signal.getsignal(signal.SIGTERM)
    assert call("benchmarks.results", *flags, folder=tmp_path)[0] == EXIT_PARTIAL
    assert signal.getsignal(signal.SIGTERM) is handler
    code, out, _ = call("benchmarks.results", flags[0], "--budget=quick", folder=tmp_path)
    assert code == 0 and [*records.load_table("fake", tmp_path / "runs_quick/now/tables")] == ["good"]
    assert "| fake/good | y | 2 |  |  |" in (tmp_path / "runs_quick/now/comparison.md").read_text()
    code, out, _ = call("benchmarks.results", *flags, "--list", folder=tmp_path)
    assert code == 0 and "fake/bad, seed 0: 1.0 min" in out and "fake/good" not in out
    monkeypatch.setattr(records, "TABLES", tmp_path / "tables")
    monkeypatch.setattr(records, "current_commit", lambda: "now-dirty")
    code, _, err = call("benchmarks.results", flags[0], "--list", folder=tmp_path)
    assert code == 2 and err.count("\n") == 1 and "the code differs from its commit" in err


def test_runs_of_other_code_are_not_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "current_commit", lambda: "now")
    monkeypatch.setattr(records, "is_current", lambda commit, command: commit in ("now", "same"))
    (tmp_path / "old").mkdir()
    assert runner.choose_runs(tmp_path, False).name == "now"
    assert runner.choose_runs(tmp_path, True).name == "old"
    (tmp_path / "same").mkdir()
    assert runner.choose_runs(tmp_path, False).name == "same"


def test_a_command_depends_on_its_configuration_and_only_benchmarks_on_benchmarks():
    train = records.find_code("python train.py --flagfile=configs/unet.cfg --workdir=runs/unet")
    assert train == ("train.py", "eval.py", "cae", "configs/unet.cfg")
    sweep = records.find_code("python -m benchmarks.sweep --flagfile=configs/conv.cfg")
    assert {*sweep} == {*train, *records.CODE} - {"configs/unet.cfg", "configs"} | {"configs/conv.cfg"}


def test_what_a_command_of_other_code_would_resume_is_removed(workspace, monkeypatch):
    command = dataclasses.replace(
        shell("resumed", "mkdir -p {runs}/run; echo >> {runs}/run/epochs"), resumes="{runs}/run"
    )
    table = dataclasses.replace(FAKE, rows=[Row("resumed", "", [command], {}, needs=())])
    for now, epochs in (("now", 1), ("next", 1)):
        monkeypatch.setattr(records, "is_current", lambda commit, command, now=now: commit == now)
        monkeypatch.setattr(records, "current_commit", lambda now=now: now)
        measure.run(measure.select([table], [], False), workspace, workspace.runs / "tables")
        assert len((workspace.runs / "run/epochs").read_text().splitlines()) == epochs
