"""Measures every figure of the pages again, and renders them: python -m benchmarks.results [--only=denoising,...].

Rows whose code is that of the commit at which they were measured are left as they are; an interrupted command continues
where it was. `--budget=quick` trains for a fraction of the time, in 15 minutes or less, into folders of its own, and
compares with the figures of the pages.
"""

from pathlib import Path

from absl import flags

from benchmarks.common import check_names
from benchmarks.results import measure, records, render, runner
from benchmarks.results.definition import FOLDERS
from benchmarks.results.registry import TABLES
from cae import cli

BUDGETS = ("full", "quick")


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_list("only", [], f"Tables, or rows as denoising/unet; default: all of {', '.join(TABLES)}.")
    flags.DEFINE_enum("budget", "full", BUDGETS, "quick: shorter trainings, 15 minutes or less in all.")
    flags.DEFINE_string(
        "output", None, "The folder of the tables' files; default: benchmarks/tables, or that of quick runs."
    )
    flags.DEFINE_string("runs_dir", "runs/results", "The folder of trained runs and of what was done.")
    flags.DEFINE_boolean("any_commit", False, "Leave figures as they are that were measured at other commits.")
    flags.DEFINE_boolean("list", False, "Print what would be measured, and for how long, and measure nothing.")
    flags.DEFINE_string("data_dir", None, "The folder of TensorFlow Datasets.")
    for name, content in FOLDERS.items():
        flags.DEFINE_string(name, None, f"A folder of {content}.")


def main() -> int:
    """Measures what is selected, and renders the pages; returns the exit code."""
    values = flags.FLAGS
    check_names("--only", [name.partition("/")[0] for name in values.only], TABLES)
    is_quick = values.budget == "quick"
    folder = Path(values.runs_dir + "_quick" * is_quick).expanduser().absolute()
    runs = runner.choose_runs(folder, values.any_commit)
    output = Path(values.output or (runs / "tables" if is_quick else records.TABLES)).expanduser().absolute()
    data_dir = values.data_dir and str(Path(values.data_dir).expanduser().absolute())
    for_pages = output == records.TABLES
    workspace = runner.Workspace(runs, data_folders(values), data_dir, values.any_commit, for_pages)
    if for_pages:
        records.check_committed()
    steps = measure.select(TABLES.values(), values.only, is_quick)
    steps = measure.skip(steps, workspace, output)
    if values.list:
        measure.print_plan(steps)
        return 0
    with runner.lock(), runner.interrupt_on_sigterm():
        num_failed = measure.run(steps, workspace, output)
    if is_quick:
        cli.print_line(f"comparison: {measure.write_comparison(output, runs / 'comparison.md')}")
    elif for_pages:
        render.write_pages()
    return cli.EXIT_PARTIAL if num_failed else 0


def data_folders(values: flags.FlagValues) -> dict[str, str]:
    """Returns the folders that flags name, in whole."""
    named = {name: values[name].value for name in FOLDERS if values[name].value}
    return {name: str(Path(folder).expanduser().absolute()) for name, folder in named.items()}


if __name__ == "__main__":
    define_flags()
    cli.run(main)
