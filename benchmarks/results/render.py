"""Makes the pages from the tables' files: python -m benchmarks.results.render.

`docs/results.md` is `templates/results.md.j2`; what stands between `<!-- results: NAME -->` and `<!-- results: end -->`
on another page is `templates/NAME.md.j2`, or else the table of that name; the comments of `configs/NAME.cfg` from
`# Expected` on are the block of that name in `templates/configs.j2`.
"""

import itertools
import re
import statistics
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import jinja2

from benchmarks.results import records
from benchmarks.results.definition import Line, Table
from benchmarks.results.figures import Figures, format_load, format_minutes
from benchmarks.results.registry import TABLES
from cae import cli
from cae.io_utils import atomic_write

BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- results: end -->\n)", re.DOTALL)
"""A part of a page that is made from the files: the template or the table of that name."""

CONFIG_COMMENTS = re.compile(r"^# Expected.*?(?=^--)", re.DOTALL | re.MULTILINE)

NOT_RECORDED = "not recorded"


def define_flags() -> None:
    """Defines the flags of this program: there are none."""


def main() -> None:
    """Writes the pages."""
    for path in write_pages():
        cli.print_line(f"page: {path.relative_to(records.ROOT)}")


def write_pages(figures: Figures | None = None) -> list[Path]:
    """Writes the pages whose text differs, and returns their paths."""
    changed = []
    for path, text in render_pages(figures or Figures()).items():
        if not path.exists() or path.read_text() != text:
            with atomic_write(path) as file:
                file.write(text)
            changed.append(path)
    return changed


def render_pages(figures: Figures) -> dict[Path, str]:
    """Returns the text of each page that has figures."""
    environment = make_environment(figures)
    pages = {records.ROOT / "docs/results.md": environment.get_template("results.md.j2").render()}
    for path in (records.ROOT / "README.md", *sorted(records.ROOT.glob("docs/*.md"))):
        if BLOCK.search(text := path.read_text()):
            pages[path] = BLOCK.sub(lambda match: match[1] + render_block(environment, match[2]) + match[3], text)
    configs = environment.get_template("configs.j2")
    for name, block in configs.blocks.items():
        path, comments = records.ROOT / f"configs/{name}.cfg", "".join(block(configs.new_context()))
        pages[path] = CONFIG_COMMENTS.sub(lambda _, comments=comments: comments, path.read_text())
    return pages


def render_block(environment: jinja2.Environment, name: str) -> str:
    """Returns what stands between the markers of a name."""
    if (template := f"{name}.md.j2") in environment.list_templates():
        return environment.get_template(template).render()
    return environment.from_string("{{ table(name) }}\n\n{{ conditions(name) }}\n").render(name=name)


def make_environment(figures: Figures) -> jinja2.Environment:
    """Returns the templates' environment with the functions that they use."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmarks.results", "templates"),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    functions: dict[str, Callable] = {
        "figure": lambda path, spec: require(figures.text(path, spec), path),
        "mean": lambda paths, spec: spec.format(mean_of(figures, paths)),
        "value": lambda path: mean_of(figures, path),
        "minutes": lambda path: require(figures.minutes(path), path),
        "processor": lambda path: describe_instructions(figures.records(*path.split("/"))),
        "cores": lambda path: describe_cores(figures.records(*path.split("/"))),
        "commit": lambda path: ", ".join(commits(figures.records(*path.split("/")))),
        "table": lambda name: render_table(figures, TABLES[name]),
        "conditions": lambda name: describe_conditions(figures, TABLES[name]),
        "publications": lambda name: render_publications(figures, name),
        "measurements": lambda: render_measurements(figures),
    }
    environment.globals |= functions
    return environment


def expand(pattern: str) -> list[str]:
    """Returns the paths that a pattern such as `a/{b,c}/d` stands for."""
    parts = [part.split(",") for part in re.split(r"[{}]", pattern)]
    return ["".join(each) for each in itertools.product(*parts)]


def mean_of(figures: Figures, paths: str) -> float:
    """Returns the mean of the figures that a pattern stands for over all seeds; raises `LookupError` without any."""
    values = [value for path in expand(paths) for value in figures.values(path)]
    if not values:
        raise LookupError(f"the tables have no figure {paths}")
    return statistics.fmean(values)


def require(text: str, path: str) -> str:
    """Returns a text; raises `LookupError` where it is empty, since a sentence would have a gap."""
    if not text:
        raise LookupError(f"the tables have no figure {path}")
    return text


# --- Tables -----------------------------------------------------------------------------------------------------------


def markdown_table(header: list[str], rows: Iterator[list[str]]) -> str:
    """Returns a table in Markdown."""
    lines = ["".join(f"| {cell} " if cell else "| " for cell in cells) + "|" for cells in (header, *rows)]
    return "\n".join([lines[0], "|---" * len(header) + "|", *lines[1:]])


def render_table(figures: Figures, table: Table) -> str:
    """Returns a table in Markdown, without columns that are empty."""
    cells = [[format_cell(figures, table, line, key) for key in table.columns] for line in table.shown_lines()]
    kept = [index for index in range(len(table.columns)) if any(row[index] for row in cells)]
    titles = [title for title, _ in table.columns.values()]
    rows = ([line.label, *(row[index] for index in kept)] for line, row in zip(table.shown_lines(), cells) if any(row))
    return markdown_table([table.corner, *(titles[index] for index in kept)], rows)


def format_cell(figures: Figures, table: Table, line: Line, column: str) -> str:
    """Returns the text of a cell: that of the row's definition, or a figure, or an empty one."""
    row, _, figure = line.path.replace("{column}", column).partition("/")
    cells = next((each.cells for each in table.rows if each.name == row), {})
    if figure in cells:
        return cells[figure]
    spec = line.format or table.columns[column][1]
    text = figures.text(f"{table.file}/{row}/{figure}", spec, line.seed)
    return text + line.mark * (bool(text) and column in line.marked)


def commits(found: list[records.Record]) -> list[str]:
    """Returns the commits of measurements, each once."""
    return [*dict.fromkeys(each["commit"] for record in found for each in record["commands"] if each["commit"])]


def instructions(found: list[records.Record]) -> list[str]:
    """Returns the vector instructions of the processors of measurements, such as "AVX2", as far as they are known."""
    processors = (record["processor"] or "" for record in found)
    return [*dict.fromkeys(filter(None, (processor.partition(" with ")[2] for processor in processors)))]


def describe_cores(found: list[records.Record]) -> str:
    """Returns the number of cores that measurements were made on, and their vector instructions."""
    return " with ".join([f"{number_of_cores(found)} CPU cores", *instructions(found)])


def number_of_cores(found: list[records.Record]) -> str:
    """Returns the number of cores that measurements were made on, such as "2", or "2 or 4"."""
    return " or ".join(sorted({str(record["cores"]) for record in found if record["cores"]}))


def describe_instructions(found: list[records.Record]) -> str:
    """Returns the vector instructions that measurements were made with, and remarks on their commands."""
    remarks = dict.fromkeys(command.get("remark") for record in found for command in record["commands"])
    return "; ".join([" and ".join(instructions(found)) or NOT_RECORDED, *filter(None, remarks)])


def describe_conditions(figures: Figures, table: Table) -> str:
    """Returns a line with the commits and seeds of the rows that a table shows, the cores, and remarks."""
    paths = itertools.product((line.path for line in table.shown_lines()), table.columns)
    shown = {path.replace("{column}", column).partition("/")[0] for path, column in paths}
    found = {row.name: figures.records(table.file, row.name) for row in table.rows if row.name in shown}
    found = {name: each for name, each in found.items() if each}
    by_commits = group_rows({name: " and ".join(commits(each)) for name, each in found.items()})
    by_seeds = group_rows({name: ", ".join(str(record["seed"]) for record in each) for name, each in found.items()})
    all_records = [record for each in found.values() for record in each]
    by_processors = group_rows(
        {
            name: ", ".join(sorted({record["processor"] or NOT_RECORDED for record in each}))
            for name, each in found.items()
        }
    )
    processors = f": {by_processors}" if ";" in by_processors else f" ({by_processors})"
    words = [
        f"Measured at commit{'s' * bool(re.search('[; ]', by_commits))} {by_commits}",
        f"seed{'s' * (',' in by_seeds)} {by_seeds}",
        f"{number_of_cores(all_records)} CPU cores{processors * (by_processors != NOT_RECORDED)}.",
    ]
    remarks = dict.fromkeys(record["remark"] for record in all_records if record.get("remark"))
    return f"*{' '.join([', '.join(words), *remarks])}*"


def group_rows(texts: Mapping[str, str]) -> str:
    """Returns the text of all rows, or each text with the names of the rows that have it."""
    names: dict[str, list[str]] = {}
    for name, text in texts.items():
        names.setdefault(text, []).append(name)
    return "; ".join(text if len(names) == 1 else f"{text} ({', '.join(rows)})" for text, rows in names.items())


def render_publications(figures: Figures, table: str) -> str:
    """Returns a list of a table's publications: the source of their figures, and conditions that differ from ours."""
    return "\n".join(
        f"- {each['label']}: {each['source']}; {each['conditions']}." for each in figures.published[table].values()
    )


def render_measurements(figures: Figures) -> str:
    """Returns a table of all commands that were run, each once, and above it how long they took."""
    found: dict[tuple, tuple[Mapping[str, Any], records.Record]] = {}
    for name in TABLES:
        for record in itertools.chain.from_iterable(figures.tables.get(name, {}).values()):
            for command in filter(itemgetter("command"), record["commands"]):
                found.setdefault((command["command"], command["commit"]), (command, record))
    minutes = [command["minutes"] for command, _ in found.values() if command["minutes"] is not None]
    title = f"{len(found)} commands; the {len(minutes)} whose time was recorded took {sum(minutes) / 60:.1f} h in all."
    header = ["command", "commit", "date", "minutes", "load", "processor", "versions"]
    return f"{title}\n\n" + markdown_table(header, (describe_command(*each) for each in found.values()))


def describe_command(command: Mapping[str, Any], record: records.Record) -> list[str]:
    """Returns the cells of a command in the table of all commands."""
    minutes = [] if command["minutes"] is None else [command["minutes"]]
    machine = f"{record['processor']}, {record['cores']} cores" if record["processor"] else NOT_RECORDED
    versions = ", ".join(f"{name} {version}" for name, version in (record["versions"] or {}).items())
    cells = [f"`{command['command']}`", command["commit"] or "", command["date"] or ""]
    return [*cells, format_minutes(minutes), format_load(command), machine, versions]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
