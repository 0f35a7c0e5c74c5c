"""What a table of results is: measured rows, each made by commands, and the lines and columns of its page."""

import csv
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Key = str | int | Mapping[str, Any]
"""Of a dict, of a list, or the values of some keys by which one of several dicts is selected."""

FOLDERS = {
    "photos": "photographs, with train400/, bsd68/, color_train400/ and cbsd68/",
    "omniglot": "Omniglot's images",
    "cifar10": "CIFAR-10's images",
}
"""Folders of images that flags name, and that commands have as `{photos}`."""

PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclasses.dataclass(frozen=True)
class Command:
    """A program that is run, and the files with figures that it writes.

    Attributes:
      words: The command without `python`. `{seed}`, `{runs}`, the folder of runs, and the names of `FOLDERS` in
        braces are replaced.
      reads: Paths of JSON, JSONL or CSV files by name, with the same placeholders.
      minutes: How long it is expected to take on two CPU cores.
      resumes: The folder, with the same placeholders, that it makes and would resume, which is removed if it is of
        other code, or unfinished and of another machine.
    """

    words: str
    reads: Mapping[str, str]
    minutes: float
    resumes: str | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: what measures it.

    Attributes:
      name: In the table's JSON file.
      label: The first cell of its line, in Markdown.
      commands: What measures it, the training first. Without any, its figures can't be renewed.
      figures: For each figure its path: a name of `Command.reads`, then keys.
      seeds: One measurement each.
      quick: The commands of --budget=quick; without any, the row has the full budget only.
      full_only: Figures that the quick commands do not give.
      needs: Data sets of TensorFlow Datasets without which it is skipped, as it is without a folder of its commands.
      packages: Packages without which it is skipped.
      cells: Further cells by column, in Markdown.
    """

    name: str
    label: str = ""
    commands: Sequence[Command] = ()
    figures: Mapping[str, Sequence[Key]] = dataclasses.field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    quick: Sequence[Command] = ()
    full_only: Sequence[str] = ()
    needs: Sequence[str] = ("mnist",)
    packages: Sequence[str] = ()
    cells: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a table on a page, where that is not simply a row.

    Attributes:
      label: Its first cell, in Markdown.
      path: `ROW/FIGURE`, in which `{column}` is replaced by the key of a column.
      format: Of its values; None for those of the columns.
      seed: Of the measurement that it shows; None for all seeds.
      mark: What follows the values in `marked` columns.
      marked: Keys of columns.
    """

    label: str
    path: str
    format: str | None = None
    seed: int | None = None
    mark: str = "*"
    marked: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Table:
    """A table: its measured rows, and how a page shows them.

    Attributes:
      name: Of its JSON file.
      rows: What is measured.
      columns: Title and format, as `"{:.2f} dB"`, by key: the name of a figure, `minutes` or `load` of the first
        command, or a key of `Row.cells`, whose format is empty.
      lines: The lines; None for one for each row.
      corner: The title of the first column.
      source: The name of another table whose file and rows it shows; they are measured for that one.
    """

    name: str
    rows: Sequence[Row]
    columns: Mapping[str, tuple[str, str]]
    lines: Sequence[Line] | None = None
    corner: str = ""
    source: str = ""

    @property
    def file(self) -> str:
        """The name of the JSON file that it shows."""
        return self.source or self.name

    def shown_lines(self) -> Sequence[Line]:
        """Returns the lines of the page."""
        if self.lines is not None:
            return self.lines
        return [Line(row.label, f"{row.name}/{{column}}") for row in self.rows]


def train(name: str, flags: str, minutes: float) -> Command:
    """Returns the training of a run in a folder of that name and the seed."""
    workdir = f"{{runs}}/{name}-seed{{seed}}"
    words = f"train.py {flags} --seed={{seed}} --workdir={workdir}"
    return Command(words, {"training": f"{workdir}/metrics.jsonl"}, minutes, workdir)


def evaluate(name: str, flags: str, minutes: float) -> Command:
    """Returns the evaluation of a run that `train` made."""
    workdir = f"{{runs}}/{name}-seed{{seed}}"
    tables = {"guarantee": "outliers_guarantee", "by_class": "outliers_fpr_by_class", "rates": "rate_distortion"}
    reads = {"results": f"{workdir}/report/results.json"}
    reads |= {name: f"{workdir}/report/{table}.csv" for name, table in tables.items()}
    return Command(f"eval.py --workdir={workdir} {flags}".strip(), reads, minutes)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Returns a text with its placeholders replaced; other braces, as of `.../{a,b}`, are left."""
    return PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text)


def read_output(path: Path) -> Any:
    """Returns the content of a JSON, JSONL or CSV file, a CSV file's numbers as such."""
    text = path.read_text()
    if path.suffix == ".csv":
        return [{key: _to_number(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)


def _to_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def find(content: Any, path: Sequence[Key]) -> float:
    """Returns the number at a path.

    Raises:
      LookupError: There is none; the message has the path.
    """
    value = content
    for key in path:
        try:
            value = _select(value, key) if isinstance(key, Mapping) else value[key]
        except (LookupError, TypeError, StopIteration) as error:
            raise LookupError(f"no figure at {format_path(path)}") from error
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LookupError(f"no number at {format_path(path)}")
    return value


def _select(rows: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> Mapping[str, Any]:
    return next(row for row in rows if values.items() <= row.items())


def format_path(path: Sequence[Key]) -> str:
    """Returns a path as a text for messages."""
    words = (",".join(map(str, key.values())) if isinstance(key, Mapping) else str(key) for key in path)
    return "/".join(words)


def pairs(table: Table) -> Iterator[tuple[Row, int]]:
    """Yields each row and each of its seeds."""
    for row in table.rows:
        for seed in row.seeds:
            yield row, seed
