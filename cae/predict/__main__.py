"""Applies a trained model to the user's images: python -m cae.predict --workdir=runs/denoise --images=PATH[,PATH...].

Images may have any size and be of the formats PNG, JPEG, BMP, TIFF, GIF, WEBP and PPM. WORKDIR/report/predictions holds
what --tasks selects, by default all that the model allows:

  denoise       denoised/NAME in the size, format and mode of each image; denoised.csv; denoised_sheet.png
  reconstruct   reconstruct/index.html; reconstruct.csv beside it has the latent vectors
  interpolate   interpolate/index.html, for 2 to 12 images
  outliers      outliers.csv with is_inlier and is_discovery, among others; outliers_sheet.png; anomaly_maps/NAME.png,
                where each image is anomalous

For the last three tasks, images are converted to the shape of the training images first. A file that cannot be
processed is listed, and the exit code is then 3.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags
from etils import epy

from cae import cli, runtime
from cae.data import image_files
from cae.errors import UserError
from cae.outliers import conformal
from cae.predict import MAX_INTERPOLATION_IMAGES, PREDICTORS
from cae.tasks import flags as task_flags
from cae.workdir import workdir_from_flags

# Flags are checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    from cae import run as run_lib
    from cae.latents import interpolation
    from cae.outliers import detector as detectors
    from cae.predict import denoising, latents, outliers, predictor, preprocess


def define_flags() -> None:
    """Defines the flags of this program."""
    task_flags.define_common_flags(PREDICTORS)
    flags.adopt_module_key_flags(task_flags)  # So that --help lists them.
    flags.DEFINE_string("images", None, "A folder of images, or files and folders, comma-separated.")
    flags.DEFINE_enum("invert", "auto", ["auto", "always", "never"], "Invert images; auto: those that are negatives.")
    flags.DEFINE_float("fdr", 0.1, "False discovery rate among all images.")


def main() -> int:
    """Feeds each image to the selected predictors; returns the exit code."""
    values = flags.FLAGS
    selected, files = check_flags(values)

    runtime.import_tensorflow()
    run = run_lib.Run.load(workdir_from_flags(), task_flags.requested_precision(values))
    detector, preprocess_fn = None, None
    if selected != ["denoise"]:  # Which takes images of any shape.
        detector = outliers.find_or_fit_detector(run, values) if "outliers" in selected else run.find_detector()
        background = 0.0
        if values.invert == "auto":
            background = detector.background if detector else outliers.training_background(run, values)
        preprocess_fn = functools.partial(
            preprocess.preprocess, image_shape=run.image_shape, background=background, invert=values.invert
        )
    predictors = [make_predictor(name, run, detector, values) for name in selected]
    skipped, warnings = predictor.predict_files(files, predictors, preprocess_fn)

    for warning in run.warnings():
        cli.print_line(f"warning: {warning}")
    for line in [line for each in predictors for line in each.finish()]:
        cli.print_line(line)
    for each in predictors:
        skipped |= each.skipped
    print_by_file(files, "warning:", warnings)
    if skipped:
        cli.print_line(f"skipped {len(skipped)} of {len(files)} files:")
    print_by_file(files, "skipped", skipped)
    return cli.EXIT_PARTIAL if skipped else 0


def print_by_file(files: Sequence[tuple[str, Path]], kind: str, messages: Mapping[str, str]) -> None:
    """Prints messages by file name in the order of the files, a line each."""
    for name, _ in files:
        if name in messages:
            cli.print_line(f"{kind} {name}: {messages[name]}")


def check_flags(values: flags.FlagValues) -> tuple[list[str], list[tuple[str, Path]]]:
    """Returns the names of the selected predictors, and the names and paths of the images' files.

    Raises:
      UserError: A value is not allowed, or there are no files.
    """
    _, selected = task_flags.check_common_flags(values, PREDICTORS)
    conformal.check_rate("fdr", values.fdr)
    if not values.images:
        raise UserError("--images=PATH is missing; it names a folder of images, or files and folders, comma-separated")
    files = image_files.list_images(values.images)
    if "interpolate" in selected and not 2 <= len(files) <= MAX_INTERPOLATION_IMAGES:
        if "interpolate" in values.tasks:
            raise UserError(f"--tasks=interpolate takes 2 to {MAX_INTERPOLATION_IMAGES} --images, not {len(files)}")
        selected.remove("interpolate")
    return selected, files


def make_predictor(
    name: str, run: "run_lib.Run", detector: "detectors.Detector | None", values: flags.FlagValues
) -> "predictor.Predictor":
    """Returns the predictor of a name in `PREDICTORS`, as the flags configure it."""
    folder, num_examples = run.workdir / "report" / "predictions", values.num_examples
    if name == "denoise":
        return denoising.DenoisePredictor(run, folder, num_examples, values.self_ensemble)
    if name == "reconstruct":
        make_section = functools.partial(latents.reconstruct, run=run, num_examples=num_examples)
        return latents.SectionPredictor(run, make_section, min_images=1)
    if name == "interpolate":
        weights = interpolation.parse_weights(values.interpolation_weights)
        make_section = functools.partial(latents.interpolate, run=run, weights=weights)
        return latents.SectionPredictor(run, make_section, min_images=2)
    return outliers.OutlierPredictor(detector, folder, values.fdr, num_examples)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
