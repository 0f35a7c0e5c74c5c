"""Evaluates a trained model on the test split and writes a report: python eval.py --workdir=runs/denoise [--tasks=...].

The report is WORKDIR/report/index.html, with results.json, a CSV for each table and a PNG for each figure beside it.
`python -m cae.predict` applies a model to the user's images.
"""

from pathlib import Path

from absl import flags
from etils import epy

from cae import cli, runtime, tasks
from cae.io_utils import make_writable_folder
from cae.progress import phase
from cae.tasks import flags as task_flags
from cae.workdir import workdir_from_flags

# Flags are checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    from cae import run as run_lib
    from cae.report import report, tensorboard, training_curves
    from cae.tasks import context


def define_flags() -> None:
    """Defines the flags of this program."""
    task_flags.define_eval_flags()
    flags.adopt_module_key_flags(task_flags)  # So that --help lists them.


def main() -> int:
    """Evaluates the best model of the run in --workdir, and writes the report; returns the exit code."""
    values, workdir = flags.FLAGS, workdir_from_flags()
    selected, comparison_folders = task_flags.check_eval_flags(values)
    for name in ("report", "tensorboard"):  # Before work whose results could not be written.
        make_writable_folder(workdir / name)

    runtime.import_tensorflow()
    precision = task_flags.requested_precision(values)
    run = run_lib.Run.load(workdir, precision)
    comparison_runs = {name: run_lib.Run.load(folder, precision) for name, folder in comparison_folders.items()}
    location = task_flags.dataset_location(values)
    dataset = run.open_dataset(**location)
    if values.test_dataset:
        dataset = run.replace_test_split(dataset, values.test_dataset, **location)
    selected, left_out = tasks.leave_out_tasks(selected, values.tasks, len(dataset.splits["test"]))
    for line in [*dataset.truncation_warnings(), *left_out]:
        cli.print_line(line)

    for warning in dict.fromkeys(each for one in (run, *comparison_runs.values()) for each in one.warnings()):
        cli.print_line(f"warning: {warning}")
    with phase("preparing the evaluation"):
        eval_context = context.build_context(run, dataset, values, comparison_runs, "outliers" in selected)
    sections = []
    for name in selected:
        with phase(f"evaluating: {name}"):
            sections.append(tasks.TASKS[name].run(eval_context))
            tensorboard.write_evaluation(workdir, run.step, sections[-1])
        cli.print_line(sections[-1].headline)
    with phase("writing the report"):
        path = write_report(run, sections, values.test_dataset)
    cli.print_line(f"report: {path}")
    return 0


def write_report(run: "run_lib.Run", sections: "list[report.Section]", test_dataset: str | None) -> Path:
    """Writes the report of an evaluation, training curves last, and returns the path of its page."""
    config, history, info = run.config, run.history, run.info()
    curves = [training_curves.training_section(history)] if history else []
    of_classes = f" of classes {config.normal_classes}" if config.normal_classes else ""
    if test_dataset:
        info["test data set"] = test_dataset
    title = f"{run.dataset_label}{of_classes}: {config.model}, trained on {config.noise or 'clean images'}"
    return report.write_report(run.workdir / "report", title, run.warning, info, sections + curves)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
