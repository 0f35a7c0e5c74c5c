"""Measures rows: which of them are to be measured, their commands in turn, and their figures into the tables' files."""

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import records
from benchmarks.results.definition import FOLDERS, PLACEHOLDER, Command, Key, Row, Table, find, pairs
from benchmarks.results.runner import CommandError, Journal, Workspace
from cae import cli
from cae.errors import UserError
from cae.io_utils import atomic_write
from cae.progress import format_seconds, phase

DEFAULT_DATA_DIR = "~/tensorflow_datasets"


@dataclasses.dataclass(frozen=True)
class Step:
    """The measurement of a row with a seed.

    Attributes:
      table: The name of the table.
      row: The row.
      seed: The seed.
      commands: The row's commands in the chosen budget.
      figures: The paths of the figures that these give.
    """

    table: str
    row: Row
    seed: int
    commands: Sequence[Command]
    figures: Mapping[str, Sequence[Key]]

    def __str__(self) -> str:
        return f"{self.table}/{self.row.name}, seed {self.seed}"


def select(tables: Iterable[Table], only: Sequence[str], is_quick: bool) -> list[Step]:
    """Returns the steps of a budget, those of the names in `--only`: tables, or rows as `denoising/unet`.

    Raises:
      UserError: A name selects nothing.
    """
    steps = []
    for table in tables:
        for row, seed in () if table.source else pairs(table):
            commands = row.quick if is_quick else row.commands
            if commands and not (is_quick and seed != row.seeds[0]):
                figures = {key: row.figures[key] for key in row.figures if not (is_quick and key in row.full_only)}
                steps.append(Step(table.name, row, seed, commands, figures))
    for name in only:
        if not any(name in (step.table, f"{step.table}/{step.row.name}") for step in steps):
            raise UserError(f"--only={name} selects nothing that this budget measures; --list shows what there is")
    return [step for step in steps if not only or {step.table, f"{step.table}/{step.row.name}"} & {*only}]


def skip(steps: Iterable[Step], workspace: Workspace, output: Path) -> list[Step]:
    """Returns the steps that are not done, and prints a line for each whose data is missing."""
    remaining = []
    for step in steps:
        if is_measured(step, workspace, output):
            continue
        if missing := find_missing(step, workspace):
            cli.print_line(f"{step}: skipped, {missing}")
        else:
            remaining.append(step)
    return remaining


def is_measured(step: Step, workspace: Workspace, output: Path) -> bool:
    """Returns whether the tables' files have all figures of a step, by its commands, at this commit or at any."""
    commands = [workspace.display(command, step.seed) for command in step.commands]
    for record in records.load_table(step.table, output).get(step.row.name, []):
        if record["seed"] == step.seed and record["figures"].keys() >= step.figures.keys():
            is_same = workspace.any_commit or commands == [each["command"] for each in record["commands"]]
            return is_same and all(workspace.is_done(each["commit"], each["command"]) for each in record["commands"])
    return False


def find_missing(step: Step, workspace: Workspace) -> str | None:
    """Returns what data or package a step lacks, and which flag names it; None if it has all."""
    data_dir = Path(workspace.data_dir or os.environ.get("TFDS_DATA_DIR") or DEFAULT_DATA_DIR).expanduser()
    for name in step.row.needs:
        if not (data_dir / name).is_dir():
            return f"there is no {name} in {data_dir}; --data_dir=FOLDER names another folder"
    for name in step.row.packages:
        if not importlib.util.find_spec(name):
            return f"the package {name} is not installed"
    for name in FOLDERS:
        if any(f"{{{name}}}" in command.words for command in step.commands):
            if name not in workspace.folders:
                return f"it needs --{name}=FOLDER"
            if not Path(workspace.folders[name]).is_dir():
                return f"--{name}={workspace.folders[name]} is no folder"
    return None


def print_plan(steps: Iterable[Step]) -> None:
    """Prints each step with its expected minutes, each command counted once."""
    planned = plan(steps)
    for step, minutes in planned:
        cli.print_line(f"{step}: {sum(minutes):.1f} min")
    cli.print_line(f"in all: {format_seconds(60 * sum(sum(minutes) for _, minutes in planned))}")


def plan(steps: Iterable[Step]) -> list[tuple[Step, list[float]]]:
    """Returns each step with the expected minutes of its commands; those that an earlier one shares take none."""
    seen, planned = set(), []
    for step in steps:
        words = [PLACEHOLDER.sub(str(step.seed), command.words) for command in step.commands]
        planned.append((step, [0 if each in seen else command.minutes for each, command in zip(words, step.commands)]))
        seen |= {*words}
    return planned


def run(steps: Sequence[Step], workspace: Workspace, output: Path) -> int:
    """Measures steps one after the other, each into its table's file, and returns how many failed.

    Raises:
      UserError: The workspace needs code that is committed, and it was changed since the last command.
    """
    journal, num_failed, planned = Journal(workspace), 0, plan(steps)
    with phase("measuring", round(sum(sum(minutes) for _, minutes in planned)), "minute", keep=True) as bar:
        for step, minutes in planned:
            meters = [Meter(bar.update, each) for each in minutes]
            bar.set_description_str(str(step))
            try:
                record = measure(step, journal, workspace, meters)
                records.save_record(step.table, step.row.name, record, output)
                cli.print_line(f"{step}: {format_seconds(60 * sum(each['minutes'] for each in record['commands']))}")
            except (CommandError, LookupError) as error:
                num_failed += 1
                cli.print_line(f"{step}: failed, {error.args[0]}")
            for meter in meters:
                meter.finish()
    return num_failed


class Meter:
    """Advances the bar while a command runs, by its expected minutes at most, and to them when it ends.

    So the bar's estimate follows the speed of the machine from command to command.
    """

    def __init__(self, update: Callable[[float], Any], minutes: float):
        self._update, self._left = update, minutes

    def tick(self, seconds: float) -> None:
        """Advances by a time."""
        step = min(seconds / 60, self._left)
        self._left -= step
        self._update(step)

    def finish(self) -> None:
        """Advances to the expected minutes."""
        self._update(self._left)
        self._left = 0


def measure(step: Step, journal: Journal, workspace: Workspace, meters: Sequence[Meter]) -> records.Record:
    """Runs the commands of a step, each with its meter, and returns what a table's file has of it.

    Raises:
      CommandError: A command failed.
      LookupError: A figure is missing in what they wrote.
    """
    commands, machines, outputs = [], [], {}
    for command, meter in zip(step.commands, meters, strict=True):
        entry, written = journal.run(command, step.seed, meter.tick)
        meter.finish()
        machines.append(entry.pop("machine"))
        commands.append(entry | {"minutes": round(entry["minutes"], 2)})
        outputs |= written
    # A folder of images has its name in what evaluations write.
    paths = {
        name: [workspace.fill(key, step.seed) if isinstance(key, str) else key for key in path]
        for name, path in step.figures.items()
    }
    try:
        figures = {name: find(outputs, path) for name, path in paths.items()}
    except LookupError:
        if journal.forget(step.commands, step.seed):
            return measure(step, journal, workspace, meters)
        raise
    return {"seed": step.seed, "commands": commands, **machines[0], "figures": figures}


def write_comparison(quick: Path, page: Path) -> Path:
    """Writes by how much each figure of a quick measurement differs from that of the pages, and returns the page."""
    lines = ["# Quick figures beside those of full trainings", "", "| row | figure | quick | full | difference |"]
    lines.append("|---|---|---|---|---|")
    for path in sorted(quick.glob("*.json")):
        full = records.load_table(path.stem)
        for row, (record, *_) in records.load_table(path.stem, quick).items():
            for name, value in record["figures"].items():
                values = [each["figures"][name] for each in full.get(row, []) if each["figures"].get(name) is not None]
                mean = sum(values) / len(values) if values else None
                cells = ("", "") if mean is None else (f"{mean:.4g}", f"{value - mean:+.2g}")
                lines.append(f"| {path.stem}/{row} | {name} | {value:.4g} | {' | '.join(cells)} |")
    with atomic_write(page) as file:
        file.write("\n".join(lines) + "\n")
    return page
