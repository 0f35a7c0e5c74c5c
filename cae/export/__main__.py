"""Exports a trained model: python -m cae.export --workdir=runs/denoise --format=onnx --output=exports/denoise.

The files run without this package, and have the threshold inside:

  saved_model   saved_model/: TensorFlow; a signature for each function, and for uint8 images NAME_uint8
  onnx          onnx/NAME.onnx: ONNX Runtime, in a browser, too; needs pip install -e '.[onnx]'
  litert        litert/NAME_PRECISION.tflite: LiteRT, in float32, float16 and int8; needs pip install -e '.[litert]'
  keras         model.keras: Keras, after `cae.models.register_classes()`

The functions are denoise, encode, decode, reconstruct and detect, as far as the model has them. Each file is run on
test images; export.json has shapes, ranges, and what was measured. The folder is written whole or not at all.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from etils import epy

import cae.config
from cae import cli, models, runtime
from cae.config import Config, define_config_flags, explicit_flags
from cae.errors import UserError, unknown_choice_error
from cae.export import FORMATS, FUNCTIONS
from cae.tasks.flags import dataset_location
from cae.workdir import check_name, check_same_config, load_run_config, workdir_from_flags

# Flags are checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    from cae import run as run_lib
    from cae.export import exporter
    from cae.outliers import detector as detectors


def define_flags() -> None:
    """Defines the flags of this program."""
    define_config_flags()
    flags.adopt_module_key_flags(cae.config)  # So that --help lists them.
    flags.DEFINE_list("format", ["saved_model"], f"Any of: {', '.join(FORMATS)}.")
    flags.DEFINE_list("functions", [], f"Any of: {', '.join(FUNCTIONS)}; default: all that the model has.")
    flags.DEFINE_string("output", None, "The folder to write, which must not exist.")
    flags.DEFINE_integer("parity_images", 1000, "Test images that files are compared on.", lower_bound=1)


def main() -> None:
    """Exports what the flags select."""
    values = flags.FLAGS
    output, functions = check_flags(values)

    runtime.import_tensorflow()
    run = run_lib.Run.load(workdir_from_flags())
    detector, note = None, None
    if "detect" in functions:
        detector, note = find_detector(run, is_named="detect" in values.functions)
        functions = [name for name in functions if detector or name != "detect"]
    dataset = run.open_dataset(**dataset_location(values))
    options = exporter.ExportOptions(output, list(dict.fromkeys(values.format)), functions, values.parity_images)
    content = exporter.export(run, detector, dataset, options)
    for line in [note, *exporter.summarize(content)]:
        if line:
            cli.print_line(line)
    cli.print_line(f"exported: {output}")


def check_flags(values: flags.FlagValues) -> tuple[Path, list[str]]:
    """Returns the folder to write, and the names of the functions.

    Raises:
      UserError: A value is not allowed, a package is missing, the folder exists, or there is no run.
    """
    for option, names, available in (("format", values.format, FORMATS), ("functions", values.functions, FUNCTIONS)):
        for name in names:
            if name not in available:
                raise unknown_choice_error(f"--{option}", name, available)
    for name in values.format or [""]:
        check_installed(name)
    run_config = load_run_config(workdir_from_flags(values))
    check_same_config(run_config, explicit_flags(values), ignore={"data_dir"})
    if not values.output:
        raise UserError("--output=FOLDER is missing; it names the folder to write, which must not exist")
    output = Path(values.output).expanduser()
    check_name(output, "--output")
    if output.exists():
        raise UserError(f"--output={output} exists; name another folder, or remove it")
    return output, select_functions(values.functions, Config.from_dict(run_config["config"]).model)


def check_installed(name: str) -> None:
    """Raises `UserError` if no format is named, or if one needs a package that is not installed."""
    if not name:
        raise UserError(f"--format is empty; available: {', '.join(FORMATS)}")
    missing = [module for module in FORMATS[name] if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"--format={name} needs {', '.join(missing)}: pip install -e '.[{name}]'")


def select_functions(names: Sequence[str], model: str) -> list[str]:
    """Returns the functions that a model has, of those that are named, or all.

    Raises:
      UserError: One is named that needs latent vectors, which the model does not have.
    """
    has_latents = models.get_model_spec(model).has_latents
    allowed = [name for name in FUNCTIONS if has_latents or name in ("denoise", "detect")]
    for name in names:
        if name not in allowed:
            raise UserError(f"--functions={name} needs latent vectors, and --model={model} has none")
    return [name for name in allowed if name in (names or allowed)]


def find_detector(run: "run_lib.Run", is_named: bool) -> "tuple[detectors.Detector | None, str | None]":
    """Returns the run's detector, or None, and in a line what the user should know of it.

    Args:
      run: The run.
      is_named: Whether --functions names detect.

    Raises:
      UserError: The function is named, but there is no detector.
    """
    detector, advice = run.find_detector(), f"run eval.py --workdir={run.workdir} --tasks=outliers"
    if detector is None and is_named:
        raise UserError(f"--functions=detect: --workdir={run.workdir} has no detector of its best model; {advice}")
    if detector is None:
        return None, f"detect is left out: there is no detector of the best model; {advice}"
    if detector.method not in ("conformal", "class_conditional"):
        return detector, f"detect has a conformal threshold instead of --threshold_method={detector.method}"
    return detector, None


if __name__ == "__main__":
    define_flags()
    cli.run(main)
