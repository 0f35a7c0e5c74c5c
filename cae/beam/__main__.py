"""Predicts on any number of images: python -m cae.beam --saved_model=exports/denoise --input='gs://bucket/images/*'.

What python -m cae.predict does in one process, Apache Beam does on this machine, Flink, Spark or Dataflow. --task is

  detect    outliers: name, score, p_value, is_inlier and is_discovery, among others
  encode    latent vectors
  denoise   denoised image files, in the size, format and mode of each image

--input are files, folders or patterns of image files, or of TFRecord or Parquet files that contain some. --output is
written whole or not at all: predictions/part-*.parquet, failed.jsonl with the images that cannot be processed, each
with the reason, and summary.json. The exit code is 3 if there are any. Beam's options are flags, too; --helpfull lists
them.
"""

import importlib.util
from typing import Any

from absl import flags
from etils import epy

from cae import cli, runtime
from cae.beam import INPUT_FORMATS, MODULES, TASKS, beam_options
from cae.errors import UserError
from cae.outliers import conformal

# Flags are checked before Beam is imported, which takes seconds.
with epy.lazy_imports():
    from cae.beam import model, paths, pipeline, sources, tasks


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_string("saved_model", None, "The folder that python -m cae.export wrote, or its URL.")
    flags.DEFINE_multi_string("input", [], "A file, folder or pattern, or its URL; may be repeated.")
    flags.DEFINE_enum("input_format", "images", INPUT_FORMATS, "What the files of --input are.")
    flags.DEFINE_string("image_column", "image", "Of TFRecord and Parquet: the feature or column of image files.")
    flags.DEFINE_string("name_column", None, "That of the images' names; default: the file's name and the position.")
    flags.DEFINE_string("output", None, "The folder to write, or its URL, which must not exist.")
    flags.DEFINE_enum("task", "detect", TASKS, "What to predict.")
    flags.DEFINE_float("alpha", None, "False positive rate of detect; default: that of the exported detector.")
    flags.DEFINE_float("fdr", 0.1, "False discovery rate of detect among all images.")
    flags.DEFINE_enum("invert", "auto", ["auto", "always", "never"], "Invert images; auto: those that are negatives.")
    beam_options.define_flags()


def main() -> int:
    """Runs the pipeline; returns the exit code."""
    values = flags.FLAGS
    check_flags(values)
    with runtime.silence_stderr():
        job, options = make_job(values), pipeline.make_options(beam_options.words(values))
    summary = pipeline.run(job, options)
    for line in describe(summary, job.output):
        cli.print_line(line)
    return cli.EXIT_PARTIAL if summary["failed"] else 0


def check_flags(values: flags.FlagValues) -> None:
    """Raises `UserError` for what can be checked without Beam."""
    missing = [module for module in MODULES if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"cae.beam needs {', '.join(missing)}: pip install -e '.[beam]'")
    if not values.saved_model:
        raise UserError("--saved_model=FOLDER is missing; it names the --output of python -m cae.export")
    if not values.input:
        raise UserError(
            "--input=PATTERN is missing; it names files, folders or patterns such as 'gs://bucket/images/*'"
        )
    if not values.output:
        raise UserError("--output=FOLDER is missing; it names the folder to write, which must not exist")
    conformal.check_rate("fdr", values.fdr)
    if values.alpha is not None:
        conformal.check_rate("alpha", values.alpha)


def make_job(values: flags.FlagValues) -> "pipeline.Job":
    """Returns what the flags describe; raises `UserError` for what does not exist or does not fit together."""
    output = paths.resolve(values.output)
    paths.check_absent(output)
    manifest = model.read_manifest(paths.resolve(values.saved_model))
    settings: dict[str, Any] = {"task": values.task, "saved_model": manifest.folder}
    alpha, fdr = None, None
    if values.task == "detect" and manifest.detector:
        alpha, fdr = values.alpha or manifest.detector["default_alpha"], values.fdr
        if alpha < manifest.detector["min_alpha"] * (1 - 1e-9):
            raise UserError(
                f"--alpha={alpha}: the detector can guarantee {manifest.detector['min_alpha']:.2g} at least"
            )
        settings |= {"alpha": alpha, "fdr": fdr}
    task = tasks.make_task(values.task, manifest, values.invert, alpha)
    patterns = sources.find_patterns(values.input)
    images = sources.ReadImages(patterns, values.input_format, values.image_column, values.name_column)
    return pipeline.Job(images, task, fdr, output, settings)


def describe(summary: dict[str, Any], output: str) -> list[str]:
    """Returns lines for the user on the content of summary.json."""
    num_images, num_failed = summary["images"], summary["failed"]
    num_rows, lines = num_images - num_failed, []
    if "inliers" in summary:
        lines.append(
            f"{summary['inliers']:,} of {num_rows:,} images are inliers at --alpha={summary['alpha']:g},"
            f" {summary['discoveries']:,} are discoveries at --fdr={summary['fdr']:g}"
        )
    if "metrics" in summary:
        lines.append(f"metrics: {summary['metrics']}")
    if num_failed:
        lines.append(f"{num_failed:,} of {num_images:,} images failed: {output}/failed.jsonl")
    return [*lines, f"predictions of {num_rows:,} images: {output}"]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
