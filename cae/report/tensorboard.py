"""Results of an evaluation as a run of TensorBoard, and those of predictions as another."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from cae.io_utils import printable
from cae.report import projector
from cae.report.figures import png
from cae.report.report import Section


def write_evaluation(workdir: Path, step: int, section: Section) -> Path:
    """Writes a task's results to TensorBoard's run 'eval', in place of the results of an earlier evaluation.

    The numbers of the results and the section's scalars become scalars, in few groups: those at the top level
    'eval/TASK/NAME', and those further down, such as 'sets/black/auroc', 'eval_tables/TASK/NAME'. Figures become the
    images 'images/eval/NAME', and latent vectors go to the projector. Of a section 'predictions/NAME' the run and the
    groups are 'predictions' instead of 'eval'.

    Args:
      workdir: The run's folder.
      step: The step of the model that was evaluated.
      section: What the task returned.

    Returns:
      The folder of TensorBoard's run.
    """
    run, task = ("eval", section.name) if "/" not in section.name else section.name.split("/", 1)
    folder, suffix = workdir / "tensorboard" / run, f".{task}.v2"
    _remove_results(folder, task, suffix)
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=suffix)
    with writer.as_default(step):
        for name, value in flatten_scalars(section.results | section.scalars):
            group = f"{run}_tables" if "/" in name else run
            tf.summary.scalar(f"{group}/{task}/{name}", value)
        for name, (caption, figure) in section.figures.items():
            image = tf.io.decode_png(png(figure), channels=3)[None]
            tf.summary.image(f"images/{run}/{name}", image, description=printable(caption))
        if section.headline:
            tf.summary.text(f"{run}/{task}", printable(section.headline))
    writer.close()
    if section.projection is not None:
        projector.write_projection(folder, section.projection)
    return folder


def flatten_scalars(results: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yields the numbers of nested results, each with its names, separated by slashes."""
    for key, value in results.items():
        name = prefix + printable(key)
        if isinstance(value, Mapping):
            yield from flatten_scalars(value, f"{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def _remove_results(folder: Path, task: str, suffix: str) -> None:
    """Removes a task's event files, and the run that earlier versions wrote for it."""
    shutil.rmtree(folder / task, ignore_errors=True)
    for path in folder.glob(f"events.out.tfevents.*{suffix}"):
        path.unlink()
