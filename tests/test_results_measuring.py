"""Figures are measured one after the other and resumed, and what fails does not end the rest."""

import dataclasses
import functools
import json
import re
import shlex
import shutil
import signal
import subprocess

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


def test_a_command_counts_as_its_expected_minutes_and_once():
    steps = measure.select([FAKE], ["fake/good", "fake/last"], False)
    assert [minutes for _, minutes in measure.plan(steps)] == [[1, 1], [1, 1], [0, 1]]
    counts = []
    meter = measure.Meter(counts.append, 2.0)
    meter.tick(60)
    meter.tick(600)  # It takes longer than expected: the bar waits for it.
    assert counts == [1, 1]
    measure.Meter(counts.append, 3.0).finish()
    meter.finish()
    assert sum(counts) == 5


def test_minutes_of_attempts_that_are_not_resumed_do_not_count(workspace):
    command = shell("fails", "exit 3")
    for _ in range(2):
        with pytest.raises(runner.CommandError):
            runner.Journal(workspace).run(command, 0, lambda seconds: None)
        (path,) = (workspace.runs / "done").glob("*.json")
        entry = json.loads(path.read_text())
        assert entry["minutes"] < 60
        path.write_text(json.dumps(entry | {"minutes": 100.0}))


def test_what_is_measured_at_this_commit_is_not_measured_again(workspace, monkeypatch):
    run(workspace)
    assert run(workspace) == (2, ["bad0", "incomplete0"])  # What it lacked may be there now.
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
    command = dataclasses.replace(command, resumes="{runs}/slow")

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


def machine_of(name):
    return {"versions": {"python": "3"}, "processor": name, "cores": 2}


def test_a_row_names_the_machine_of_its_training_wherever_the_rest_was_measured(workspace, monkeypatch):
    monkeypatch.setattr(records, "machine", lambda: machine_of("first"))
    runner.Journal(workspace).run(writes("shared"), 0, lambda seconds: None)
    (path,) = (workspace.runs / "done").glob("*.json")
    monkeypatch.setattr(records, "machine", lambda: machine_of("second"))
    assert run(workspace, ["fake/last"]) == (0, ["last0"])
    (record,) = records.load_table("fake", workspace.runs / "tables")["last"]
    assert {key: record[key] for key in machine_of("")} == machine_of("first")
    # Entries of earlier versions have no machine.
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in entry.items() if key != "machine"}))
    shutil.rmtree(workspace.runs / "tables")
    assert run(workspace, ["fake/last"]) == (0, [])
    (record,) = records.load_table("fake", workspace.runs / "tables")["last"]
    assert {key: record[key] for key in machine_of("")} == dict.fromkeys(machine_of(""))


def test_an_unfinished_command_is_continued_on_its_machine_and_begun_again_on_another(workspace, monkeypatch):
    command = shell("unfinished", "mkdir -p {runs}/run; echo >> {runs}/run/epochs; exit 3")
    command = dataclasses.replace(command, resumes="{runs}/run")
    for name, epochs in (("first", 1), ("first", 2), ("second", 1)):
        monkeypatch.setattr(records, "machine", lambda name=name: machine_of(name))
        with pytest.raises(runner.CommandError):
            runner.Journal(workspace).run(command, 0, lambda seconds: None)
        assert len((workspace.runs / "run/epochs").read_text().splitlines()) == epochs
        (path,) = (workspace.runs / "done").glob("*.json")
        assert json.loads(path.read_text())["machine"] == machine_of(name)


@pytest.mark.parametrize(("edited_after", "measured"), [("shared", []), ("good", [0])])
def test_code_that_is_edited_between_two_commands_ends_the_measurement_for_the_pages(
    workspace, monkeypatch, edited_after, measured
):
    written = workspace.runs / f"{edited_after}.json"
    monkeypatch.setattr(records, "current_commit", lambda: "now" + records.DIRTY * written.exists())
    with pytest.raises(UserError, match="the code differs from its commit"):
        run(dataclasses.replace(workspace, needs_commit=True), ["fake/good"])
    table = records.load_table("fake", workspace.runs / "tables")
    assert [each["seed"] for each in table.get("good", [])] == measured


def test_runs_that_are_trained_anew_are_evaluated_anew(workspace, monkeypatch):
    journal = runner.Journal(workspace)
    trainings = [dataclasses.replace(writes(f"train_{name}"), resumes=f"{{runs}}/{name}") for name in ("a", "a-b")]
    evaluations = [
        Command(f"{shlex.quote('echo evaluate >> {runs}/log')} --compare=x,{each.resumes} --tasks=denoise", {}, 1)
        for each in trainings
    ]
    evaluations = [dataclasses.replace(each, reads=trainings[0].reads) for each in evaluations]
    for each in trainings + evaluations:
        journal.run(each, 0, lambda seconds: None)
    log = workspace.runs / "log"
    log.unlink()
    # A configuration that only the first training has is changed.
    monkeypatch.setattr(records, "is_current", lambda commit, command: "train_a0" not in command)
    for each in trainings + evaluations:
        journal.run(each, 0, lambda seconds: None)
    assert log.read_text().split() == ["train_a0", "evaluate"]


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A repository of one module, and a function that commits it."""

    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    def commit():
        git("add", ".")
        git("commit", "--message=a")

    monkeypatch.setattr(records, "ROOT", tmp_path)
    (tmp_path / "cae").mkdir()
    (tmp_path / "cae/a.py").write_text("a = 1\n")
    git("init")
    commit()
    return tmp_path / "cae/a.py", commit


def test_what_is_recorded_of_the_code_follows_edits_while_the_program_runs(code):
    path, commit = code
    first = records.current_commit()
    assert records.is_current(first) and records.DIRTY not in first
    for text, is_same in (("a = 2\n", False), ("# One.\na = 1\n", True), ("a = 3\n", False)):
        path.write_text(text)
        assert records.is_current(first) == is_same
        assert records.current_commit() == first + records.DIRTY * (not is_same)
    commit()
    second = records.current_commit()
    assert records.is_current(second) and not records.is_current(first) and second not in (first, first + records.DIRTY)
    (path.parent / "new.py").touch()
    assert records.current_commit() == second + records.DIRTY and not records.is_current(second, "train.py")


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
    with pytest.raises(PermissionError, match="figures"), runner.lock(tmp_path / "lock"):
        raise PermissionError("figures can't be written")


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
