"""The folder of a run: its lock, its config.json, and whether a command fits the run that is there."""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
from absl import flags

from cae.config import Config
from cae.config_upgrade import upgrade
from cae.errors import UserError
from cae.io_utils import atomic_write, make_writable_folder, printable, temporary_path

RESUME_MUTABLE_FIELDS = {
    "fallback_dataset", "data_dir", "streaming", "cache_dir", "epochs", "max_steps", "distribution_strategy",
    "logical_cpus", "checkpoint_interval_minutes", "image_summary_epochs",
}  # fmt: skip
"""Fields that may change when a run is resumed: they decide where, how long and how visibly it learns, not what."""

_PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "tensorboard", "numpy")

_DATASET_KEYS = {"name", "image_shape", "class_names", "splits", "skipped", "warning"}

_CONFIG, _LOCK = "config.json", ".lock"


def workdir_from_flags(values: flags.FlagValues = flags.FLAGS) -> Path:
    """Returns the folder that --workdir names."""
    return Path(values.workdir).expanduser()


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Locks the folder of a run for this process, and creates it where it is missing.

    Args:
      workdir: The run's folder.

    Raises:
      UserError: The folder's name is not UTF-8, it can't be written, is locked by another process, or is not a run's.
    """
    check_name(workdir)
    try:
        make_writable_folder(workdir)
        lock = filelock.FileLock(workdir / _LOCK, timeout=0).acquire()
    except filelock.Timeout as error:
        raise UserError(f"--workdir={workdir} is locked by another process; wait for it, or use another") from error
    except OSError as error:
        raise UserError(f"--workdir={workdir} can't be written: {error.strerror}") from error
    with lock:
        temporary_path(workdir / _CONFIG).unlink(missing_ok=True)  # Of a run that was killed.
        if (workdir / _CONFIG).exists():
            _load_config_json(workdir)
        elif any(path.name != _LOCK for path in workdir.iterdir()):
            raise UserError(f"--workdir={workdir} is not empty and not a run's folder; use a new or an empty one")
        yield


def check_name(path: Path, option: str = "--workdir") -> None:
    """Raises `UserError` for a path that TensorFlow can't write to, which an option names."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{option}={path} has bytes that are not UTF-8, as TensorFlow needs; rename it") from error


def load_run_config(workdir: Path, option: str = "--workdir") -> dict[str, Any]:
    """Returns the content of a run's config.json, with the names of this version.

    Args:
      workdir: The run's folder.
      option: What messages call it.

    Returns:
      `config`, the fields of `Config`; `dataset`, what the run was trained on; `versions` of Python and of packages.

    Raises:
      UserError: The folder's name is not UTF-8, or there is no config.json, or not one that a run of a known version
        wrote.
    """
    saved = _load_config_json(workdir, option)
    if missing := _DATASET_KEYS - saved["dataset"].keys():
        raise UserError(
            f"{workdir / _CONFIG} has no {min(missing)} of the data set; another version of this program wrote it"
        )
    return saved


def _load_config_json(workdir: Path, option: str = "--workdir") -> dict[str, Any]:
    path = workdir / _CONFIG
    check_name(workdir, option)
    try:
        saved = json.loads(path.read_text())
        if "settings" in saved:  # The key of earlier versions.
            saved["config"] = saved.pop("settings")
        shape = saved["dataset"].get("image_shape", [1, 1, 1]) if "dataset" in saved else ()
        is_shape = len(shape) == 3 and all(isinstance(side, int) and side > 0 for side in shape)
        if not (is_shape and {"config", "dataset", "versions"} <= saved.keys()):
            raise ValueError
        saved["config"] = upgrade(saved["config"])
    except FileNotFoundError as error:
        raise UserError(f"{option}={workdir} contains no run (no config.json); train.py creates one") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is not the config.json of a run; use another {option}") from error
    return saved


def write_run_config(workdir: Path, config: Config, dataset: Mapping[str, Any], write: bool = True) -> dict[str, Any]:
    """Writes config.json, whole or not at all, unless another run has begun in the folder.

    Args:
      workdir: The run's folder.
      config: The configuration.
      dataset: What the run is really trained on, as `ImageDataset.info` describes it.
      write: Whether this process is the one that writes.

    Returns:
      The content of config.json, as `load_run_config` returns it.

    Raises:
      UserError: There are checkpoints or metrics of a run with another configuration; the message names the
        differences.
    """
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _PACKAGES}
    run_config = {"config": dataclasses.asdict(config), "dataset": dict(dataset), "versions": versions}
    path = workdir / _CONFIG
    if not write:
        return run_config
    if path.exists() and _is_begun(workdir):
        _check_same_run(workdir, _load_config_json(workdir), run_config)
    with atomic_write(path) as file:
        file.write(json.dumps(run_config, indent=2) + "\n")
    return run_config


def _is_begun(workdir: Path) -> bool:
    """Returns whether a run has written more than its configuration; its checkpoints alone may have been lost."""
    # A run that was killed in its first save leaves a temporary folder only.
    has_checkpoints = any(each.suffix != ".tmp" for each in (workdir / "checkpoints").glob("*"))
    metrics = workdir / "metrics.jsonl"
    return has_checkpoints or (metrics.exists() and metrics.stat().st_size > 0)


def _check_same_run(workdir: Path, saved: dict[str, Any], requested: dict[str, Any]) -> None:
    differences = _differences(saved["config"], requested["config"], RESUME_MUTABLE_FIELDS | {"dataset"})
    if saved["dataset"]["name"] != requested["dataset"]["name"]:
        differences.insert(0, f"dataset={saved['dataset']['name']} (now {requested['dataset']['name']})")
    elif not differences and _images(saved["dataset"]) != _images(requested["dataset"]):
        differences = [f"other images in dataset={saved['dataset']['name']}"]
    if differences:
        raise UserError(f"--workdir={workdir} was created with a different config: {', '.join(differences)}")


def _images(dataset: Mapping[str, Any]) -> dict[str, Any]:
    # Runs of earlier versions lack pixel_max.
    # The warning's text depends on why the data set was not available: no host answers, or there is no network.
    return {"pixel_max": 255} | {name: value for name, value in dataset.items() if name != "warning"}


def _differences(saved: Mapping[str, Any], requested: Mapping[str, Any], ignore: set[str]) -> list[str]:
    # Runs of earlier versions lack fields that came later, which have their defaults.
    saved = {each.name: each.default for each in dataclasses.fields(Config)} | dict(saved)
    return [
        f"{name}={saved[name]} (now {value})"
        for name, value in requested.items()
        if name not in ignore and saved[name] != value
    ]


def check_same_config(run_config: dict[str, Any], requested: Mapping[str, Any], ignore: set[str]) -> None:
    """Raises `UserError` where a requested field differs from that of the run's training.

    Args:
      run_config: The run's config.json.
      requested: Values by field name.
      ignore: Fields that may differ, beside `RESUME_MUTABLE_FIELDS`.
    """
    differences = _differences(run_config["config"], requested, RESUME_MUTABLE_FIELDS | ignore)
    if differences:
        raise UserError(f"the run was trained with a different config: {', '.join(differences)}")


def check_same_images(run_config: dict[str, Any], dataset: Mapping[str, Any]) -> None:
    """Raises `UserError` where a data set no longer has the images that the run was trained on."""
    if _images(run_config["dataset"]) != _images(dataset):
        raise UserError(
            f"--dataset={dataset['name']} no longer has the images or the splits that the run was trained on, so that"
            " test images may be among those; train again with another --workdir"
        )


def load_comparison_runs(workdirs: Sequence[str], run_config: dict[str, Any]) -> dict[str, Path]:
    """Returns the folders of other runs, by name, to compare with the run of `run_config`.

    Raises:
      UserError: A folder contains no run, or its model takes images of another shape; if both were trained on crops,
        with other channels.
    """
    folders = [Path(each).expanduser() for each in workdirs]
    names = [
        folder.name if [each.name for each in folders].count(folder.name) == 1 else str(folder) for folder in folders
    ]
    for folder in folders:
        both = load_run_config(folder, "--compare"), run_config
        shapes = [each["dataset"]["image_shape"] for each in both]
        on_crops = all(each["config"].get("crop_size") for each in both)
        if shapes[0][2 * on_crops :] != shapes[1][2 * on_crops :]:
            text = " and ".join("x".join(map(str, shape)) for shape in shapes)
            raise UserError(f"--compare={folder} can't be compared: image shapes are {text}")
    return dict(zip(map(printable, names), folders))
