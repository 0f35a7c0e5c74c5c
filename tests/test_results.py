"""Tables are defined by commands that programs accept, and every page that has figures is made from their files."""

import re
import shlex
import shutil

import pytest
from cli import ROOT
from documentation import check_command

from benchmarks.results import definition, figures, measure, records, render, runner
from benchmarks.results.registry import TABLES

TEMPLATES = ROOT / "benchmarks/results/templates"

# --- Definitions ------------------------------------------------------------------------------------------------------


def all_steps():
    return [step for is_quick in (False, True) for step in measure.select(TABLES.values(), [], is_quick)]


def test_programs_accept_the_commands_of_all_rows():
    workspace = runner.Workspace(ROOT / "runs", {})
    commands = {workspace.display(command, step.seed) for step in all_steps() for command in step.commands}
    for command in sorted(commands):
        check_command(shlex.split(command))
    assert not [command for command in commands if definition.PLACEHOLDER.search(command)]


def test_figures_are_found_in_what_an_evaluation_writes(trained_run):
    files = {
        "results": "report/results.json",
        "guarantee": "report/outliers_guarantee.csv",
        "by_class": "report/outliers_fpr_by_class.csv",
        "training": "metrics.jsonl",
    }
    outputs = {name: definition.read_output(trained_run.workdir / path) for name, path in files.items()}
    names = ("denoising", "interpolation", "latents", "outliers", "conformal")
    paths = [path for name in names for row in TABLES[name].rows for path in row.figures.values()]
    # The digits have no further data sets of outliers, and too few images for smaller rates.
    paths = [path for path in paths if not {"fashion_mnist", "folder:{omniglot}"} & {*map(str, path)}]
    paths = [path for path in paths if {"alpha": 0.01} not in path]
    assert len(paths) > 100
    for path in paths:
        definition.find(outputs, path)
    for wrong in (("results", "gone"), ("results", "outliers", "score"), ("guarantee", {"alpha": 2}, "fpr"), ("x",)):
        with pytest.raises(LookupError, match=r"no (figure|number) at "):
            definition.find(outputs, wrong)


def test_quick_budget_takes_fifteen_minutes_at_most():
    quick = measure.plan(measure.select(TABLES.values(), [], True))
    assert 5 < sum(sum(minutes) for _, minutes in quick) <= 15


def test_files_have_only_rows_that_are_defined_and_commits_that_exist():
    known = {path.stem for path in records.TABLES.glob("*.json")} - {figures.PUBLISHED}
    assert known <= TABLES.keys()
    for name in known:
        table = records.load_table(name)
        assert table.keys() <= {row.name for row in TABLES[name].rows}, name
        for record in (record for found in table.values() for record in found):
            assert all(command["commit"] and records.DIRTY not in command["commit"] for command in record["commands"])
        assert (records.TABLES / f"{name}.json").read_text() == records.format_table(table)


def test_publications_have_a_source_and_conditions():
    published = records.load_table(figures.PUBLISHED)
    assert published.keys() <= TABLES.keys()
    for each in (each for table in published.values() for each in table.values()):
        assert len(each["source"]) > 5 and len(each["conditions"]) > 5 and each["figures"], each["label"]


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_pages_are_those_that_the_files_make():
    pages = render.render_pages(figures.Figures())
    names = {path.relative_to(ROOT).as_posix() for path in pages}
    assert names >= {"README.md", "docs/results.md", "docs/performance.md"}
    assert {name for name in names if name.startswith("configs/")} == {
        f"configs/{path.name}" for path in (ROOT / "configs").glob("*.cfg")
    }
    assert [str(path) for path, text in pages.items() if path.read_text() != text] == []


def test_a_figure_that_was_changed_by_hand_is_restored(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    typed = ("README.md", "docs/results.md", "configs/denoise.cfg")
    for name in typed:
        text = (ROOT / name).read_text()
        (tmp_path / name).write_text(re.sub(r"\d+\.\d+ dB", "7.77777 dB", text, count=1))
        assert (tmp_path / name).read_text() != text
    assert {str(path.relative_to(tmp_path)) for path in render.write_pages()} == {*typed}
    assert all((tmp_path / name).read_text() == (ROOT / name).read_text() for name in typed)


FIGURE = r"\d\.\d|\d ?%|\d (?:dB|min|s)\b"
"""What looks like a measured figure, beside levels of noise."""

OTHER_FIGURES = {
    "results.md.j2": r"\d\.\d\d|\d (?:dB|min|s)\b",
    "which_score.md.j2": r"\d\.\d",
    "throughput.md.j2": r"\d\.\d|\d (?:GFLOP|MFLOP|times)",
    "convergence.md.j2": r"\d\.\d|\d (?:min|s|times)\b",
    "equal_time.md.j2": r"\d\.\d|\d (?:min|s|times)\b",
    "macros.j2": r"\d",
}
"""The same of templates with figures of other kinds; docs/results.md has percentages of protocols."""


@pytest.mark.parametrize("name", sorted(path.name for path in TEMPLATES.iterdir()))
def test_templates_have_no_figures(name):
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|`[^`]*`|(?:\w:|at )0\.\d", "", (TEMPLATES / name).read_text())
    assert re.findall(rf".*(?:{OTHER_FIGURES.get(name, FIGURE)}).*", text) == []


@pytest.mark.parametrize(
    ("values", "spec", "text"),
    [
        ([], "{:.1f} dB", ""),
        ([20.374], "{:.2f} dB", "20.37 dB"),
        ([20.25, 20.5, 21.0], "{:.2f} dB", "20.58 dB (20.25 to 21.00)"),
        ([0.5, 0.75], "{:.1%}", "62.5% (50.0% to 75.0%)"),
        (["0.10"], "{:.3f}", "0.10"),
    ],
)
def test_figures_are_formatted_with_their_range(values, spec, text):
    assert figures.format_values(values, spec) == text


def test_aggregates_and_columns_of_a_training(tmp_path):
    command = {"command": "a", "commit": "1", "date": None, "minutes": 12.4, "load": [0.04, 2.06]}
    for seed, value in ((0, 0.5), (1, 0.25)):
        command = command | {"load": [0.04 + seed, 2.06]}
        record = {"seed": seed, "commands": [command], "figures": {"b/1": value, "b/2": 1.0, "c": 3}}
        records.save_record("t", "row", record, tmp_path)
    found = figures.Figures(tmp_path)
    assert found.values("t/row/mean:1,2") == [] and found.values("t/row/b/mean:1,2") == [0.75, 0.625]
    assert found.values("t/row/min:b/", seed=1) == [0.25] and found.values("t/row/max:b/", seed=1) == [1.0]
    assert found.text("t/row/minutes", "") == "12" and found.text("t/row/load", "") == "0.5 to 2.1"
    assert [figures.format_minutes([each]) for each in (44, 9.94, 2.74, 3)] == ["44", "9.9", "2.7", "3"]
    assert render.expand("a/{b,c}/{1,2}") == ["a/b/1", "a/b/2", "a/c/1", "a/c/2"]
