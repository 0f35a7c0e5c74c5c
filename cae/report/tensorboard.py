"""Results of an evaluation as runs of TensorBoard."""

import shutil
from pathlib import Path

import tensorflow as tf

from cae.io_utils import printable
from cae.report import projector
from cae.report.figures import png
from cae.report.report import Section


def write_evaluation(workdir: Path, step: int, section: Section) -> Path:
    """Writes a task's results as TensorBoard's run 'eval/TASK', in place of the results of an earlier evaluation.

    Figures become images, the numbers at the top level of the results and the section's scalars become scalars, and
    latent vectors go to the projector.

    Args:
      workdir: The run's folder.
      step: The step of the model that was evaluated.
      section: What the task returned.

    Returns:
      The folder of TensorBoard's run.
    """
    folder = workdir / "tensorboard" / "eval" / section.name
    if folder.exists():
        shutil.rmtree(folder)
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step):
        for name, value in (section.results | section.scalars).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                tf.summary.scalar(printable(name), value)
        for name, (caption, figure) in section.figures.items():
            tf.summary.image(name, tf.io.decode_png(png(figure), channels=3)[None], description=printable(caption))
    writer.close()
    if section.projection is not None:
        projector.write_projection(folder, section.projection)
    return folder
