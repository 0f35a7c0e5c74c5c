"""Every setting of a run: its flag, its check, the frozen `Config` made of them, and `config.json`.

A setting is one field of `Config`: the flag, its default and its help are made from the field.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock
from absl import flags

from cae.errors import UserError, unknown_name

_DEFINE = {
    str: flags.DEFINE_string, int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_boolean
}  # fmt: skip


def setting(default: Any, help: str, *, choices: Sequence[str] = (), least: float | None = None) -> Any:
    """Returns a field of `Config`: `help` is the flag's, `choices` or `least` say what it may be."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "least": least})


@dataclasses.dataclass(frozen=True)
class Config:
    """What a person chose for a run, checked; raises `UserError` for a value that can't be."""

    dataset: str = setting(
        "mnist",
        "A TFDS image data set by its name, 'digits' (embedded), 'lines' (drawn), 'folder:PATH' of pictures, or"
        " 'records:PATH', which cae.write_records wrote.",
    )
    fallback_dataset: str | None = setting(None, "Taken, with a warning, where --dataset can't be had.")
    data_dir: str | None = setting(None, "Where TFDS keeps prepared data sets; its own place unless said.")
    streaming: str = setting(
        "auto",
        "Whether images are read from disk when they are needed, not held in memory: auto does where they would take"
        " more than a quarter of it, and for 'records:PATH'. The others are written as records once.",
        choices=("auto", "always", "never"),
    )
    records_dir: str | None = setting(
        None, "Where data sets that are streamed are written as records; cae_records in TFDS's place unless said."
    )
    image_size: int | None = setting(None, "Sides in pixels: the data set's own, 28 for a folder.", least=1)
    channels: int | None = setting(None, "1 for grey, 3 for colour: the data set's own, 1 for a folder.")
    classes: str | None = setting(
        None, "Classes to take, by commas, or all but some by a minus before each; the others are outliers."
    )
    model: str = setting("conv", "The family of models.")
    latent_dim: int = setting(32, "How many numbers an image is squeezed into.", least=1)
    width: int = setting(32, "Channels of the first layers; deeper ones have multiples of it.", least=1)
    noise: str | None = setting(
        None,
        "NAME:LEVEL or NAME:LOW-HIGH, a level drawn for each image; ONE+OTHER is both, ONE/OTHER either;"
        " an evaluation takes several, separated by commas.",
    )
    loss: str = setting("mse", "What training minimises, per image.")
    beta: float = setting(
        1.0, "Weight of a variational autoencoder's divergence; 1 is the evidence lower bound.", least=0
    )
    regularizer: str | None = setting(
        None, "What makes interpolation stay on the data: acai, a critic of mixed latent vectors.", choices=("acai",)
    )
    regularizer_weight: float = setting(0.125, "Of the critic's opinion in the autoencoder's loss.", least=0)
    optimizer: str = setting("adam", "Muon learns more in a step, which takes longer.", choices=("adam", "muon"))
    learning_rate: float = setting(
        1e-3, "The optimizer's; for a cosine its peak in 100 epochs, higher in fewer, at most double."
    )
    lr_schedule: str = setting("constant", "How the learning rate goes.", choices=("constant", "cosine"))
    epochs: int = setting(100, "How many times training sees every image.", least=1)
    batch_size: int = setting(128, "Images a step, shared out over the replicas.", least=1)
    precision: str = setting(
        "float32", "What layers compute in.", choices=("float32", "mixed_float16", "mixed_bfloat16")
    )
    jit_compile: bool = setting(False, "Have XLA compile the step, which takes some seconds at the start.")
    strategy: str = setting(
        "auto",
        "One device, a replica on each, or on those of the machines that TF_CONFIG names; auto takes every GPU here.",
        choices=("auto", "single", "mirrored", "multiworker"),
    )
    logical_cpus: int = setting(1, "Make this many devices of the CPU, for trying out --strategy=mirrored.", least=1)
    seed: int = setting(0, "All randomness is a function of it and of the step.", least=0)
    checkpoint_minutes: float = setting(
        10.0, "Minutes between checkpoints within an epoch; there is one at the end of each.", least=0
    )
    pictures_every: int = setting(5, "Epochs between pictures in TensorBoard.", least=1)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check(field, getattr(self, field.name))
        if self.channels not in (None, 1, 3):
            raise UserError(f"--channels={self.channels} must be 1 (grey) or 3 (colour)")
        if not 0 < self.learning_rate < 1:
            raise UserError(f"--learning_rate={self.learning_rate} must lie between 0 and 1")
        if self.regularizer is None and self.regularizer_weight != _default("regularizer_weight"):
            raise UserError(f"--regularizer_weight={self.regularizer_weight} needs --regularizer=acai")
        if self.seed >= 2**31:
            raise UserError(f"--seed={self.seed} must be less than 2147483648")
        if self.logical_cpus > 1 and self.strategy != "mirrored":
            raise UserError(f"--logical_cpus={self.logical_cpus} needs --strategy=mirrored")
        check_shares(self.batch_size, self.logical_cpus)


def check_shares(batch_size: int, replicas: int) -> None:
    """Raises `UserError` where a global batch can't be shared out evenly over the replicas."""
    if batch_size % replicas:
        nearest = max(replicas, round(batch_size / replicas) * replicas)
        raise UserError(
            f"--batch_size={batch_size} cannot be shared out evenly over {replicas} replicas; {nearest} can"
        )


def _default(name: str) -> Any:
    return Config.__dataclass_fields__[name].default


def _check(field: dataclasses.Field, value: Any) -> None:
    choices, least = field.metadata["choices"], field.metadata["least"]
    if choices and value is not None and value not in choices:
        raise unknown_name(f"--{field.name}", value, choices)
    if least is not None and value is not None and value < least:
        raise UserError(f"--{field.name}={value} must be at least {least}")


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags that both programs take: one for every setting, and --workdir."""
    flags.DEFINE_string(
        "workdir", None, "Where a run writes; runs/<name of the --flagfile> unless said.", flag_values=values
    )
    for field in dataclasses.fields(Config):
        kind = next(kind for kind in _DEFINE if field.type in (kind, kind | None))
        known = f" One of: {', '.join(field.metadata['choices'])}." if field.metadata["choices"] else ""
        _DEFINE[kind](field.name, field.default, field.metadata["help"] + known, flag_values=values)


def from_flags(values: flags.FlagValues = flags.FLAGS) -> Config:
    """Returns the settings that the flags say; raises `UserError` for a value that can't be."""
    return Config(**{field.name: values[field.name].value for field in dataclasses.fields(Config)})


def said_settings(values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """Returns the settings that the command line or a flagfile named, by name."""
    return {f.name: values[f.name].value for f in dataclasses.fields(Config) if values[f.name].present}


def workdir_from_flags(values: flags.FlagValues = flags.FLAGS, argv: Sequence[str] | None = None) -> Path:
    """Returns --workdir, or runs/ and the name of the last --flagfile, or runs/default."""
    if values.workdir:
        return Path(values.workdir).expanduser()
    argv = sys.argv if argv is None else argv
    name = "default"
    for word, following in zip(argv, [*argv[1:], ""]):
        option, equals, value = word.lstrip("-").partition("=")
        if word.startswith("-") and option == "flagfile":
            name = Path(value if equals else following).stem
    return Path("runs") / name


# --- config.json -----------------------------------------------------------------------------------------------------

# A run that goes on may have these otherwise: they do not change what is learned, only where, how long and how seen.
MAY_DIFFER = {
    "fallback_dataset", "data_dir", "streaming", "records_dir", "epochs", "strategy", "logical_cpus",
    "checkpoint_minutes", "pictures_every",
}  # fmt: skip

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "tensorboard", "numpy")


_LOCK = ".lock"


@contextlib.contextmanager
def open_workdir(workdir: Path) -> Iterator[None]:
    """A context in which no other process can write a run to a folder, which is made where it is missing.

    Args:
      workdir: The run's folder.

    Raises:
      UserError: The folder can't be written, another process writes to it, or something else than a run lives there.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
        lock = filelock.FileLock(workdir / _LOCK, timeout=0)
        lock.acquire()
    except filelock.Timeout as error:
        raise UserError(f"--workdir={workdir} is being written by another run; wait for it, or name another") from error
    except OSError as error:
        raise UserError(f"--workdir={workdir} cannot be written: {error.strerror}") from error
    try:
        _partial(workdir / "config.json").unlink(missing_ok=True)  # Of a run that was killed.
        if (workdir / "config.json").exists():
            read_record(workdir)
        elif any(path.name != _LOCK for path in workdir.iterdir()):
            raise UserError(f"--workdir={workdir} holds something else than a run; name a new or an empty folder")
        yield
    finally:
        lock.release()


def _partial(path: Path) -> Path:
    return path.with_suffix(".tmp")


def read_record(workdir: Path) -> dict[str, Any]:
    """Returns the content of a run's config.json; raises `UserError` where there is none that a run wrote."""
    path = workdir / "config.json"
    try:
        held = json.loads(path.read_text())
        if not {"settings", "dataset", "versions"} <= held.keys():
            raise ValueError
    except FileNotFoundError as error:
        raise UserError(f"--workdir={workdir} holds no run: there is no config.json; train.py writes one") from error
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not the record of a run; name another --workdir") from error
    return held


def claim(workdir: Path, config: Config, dataset: dict[str, Any], writes: bool = True) -> dict[str, Any]:
    """Writes config.json for a run on the data set that is really used, whole or not at all, and returns its content.

    Raises `UserError`, naming what differs, where checkpoints of another run are there. writes: whether this is the
    process, of those that take part, that does it.
    """
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    wanted = {"settings": dataclasses.asdict(config), "dataset": dataset, "versions": versions}
    path = workdir / "config.json"
    if not writes:
        return wanted
    if path.exists() and any((workdir / "checkpoints").glob("*.index")):
        _refuse_another(workdir, read_record(workdir), wanted)
    partial = _partial(path)
    partial.write_text(json.dumps(wanted, indent=2) + "\n")
    os.replace(partial, path)
    return wanted


def _refuse_another(workdir: Path, held: dict[str, Any], wanted: dict[str, Any]) -> None:
    differences = _differences(held["settings"], wanted["settings"], MAY_DIFFER | {"dataset"})
    if held["dataset"]["name"] != wanted["dataset"]["name"]:
        differences.insert(0, f"dataset ({held['dataset']['name']} there, {wanted['dataset']['name']} now)")
    elif not differences and _images_of(held) != _images_of(wanted):
        differences = ["images under the same name"]
    if differences:
        raise UserError(f"--workdir={workdir} holds a run with another {', another '.join(differences)}")


def _images_of(held: dict[str, Any]) -> dict[str, Any]:
    # The warning says why there is a fallback in words that may change: no address answers, or no network is there.
    return {name: value for name, value in held["dataset"].items() if name != "warning"}


def _differences(there: dict[str, Any], now: dict[str, Any], but: set[str]) -> list[str]:
    # A record is silent on settings that came later; such a run had what is the default since.
    there = {field.name: field.default for field in dataclasses.fields(Config)} | there
    return [
        f"{name} ({there[name]} there, {value} now)"
        for name, value in now.items()
        if name not in but and there[name] != value
    ]


def check_same_run(held: dict[str, Any], said: dict[str, Any], but: set[str]) -> None:
    """Raises `UserError` where a setting that was said, other than `but`, is not what the run was trained with."""
    differences = _differences(held["settings"], said, MAY_DIFFER | but)
    if differences:
        raise UserError(f"the run was trained with another {', another '.join(differences)}")


def check_same_images(held: dict[str, Any], dataset: dict[str, Any]) -> None:
    """Raises `UserError` where a data set no longer has the images that a run was trained with."""
    if _images_of(held) != _images_of({"dataset": dataset}):
        raise UserError(
            f"--dataset={dataset['name']} no longer has the images or the splits that the run was trained with, so that"
            " test images may be among those; train again with another --workdir"
        )


def read_others(workdirs: Sequence[str], held: dict[str, Any]) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Returns other runs' folders and records by name, for a comparison with the one whose record is `held`.

    Raises `UserError` where one is no run, or takes other images.
    """
    folders = [Path(each).expanduser() for each in workdirs]
    names = [
        folder.name if [each.name for each in folders].count(folder.name) == 1 else str(folder) for folder in folders
    ]
    others = {name: (folder, read_record(folder)) for name, folder in zip(names, folders)}
    for folder, record in others.values():
        theirs, ours = (each["dataset"]["image_shape"] for each in (record, held))
        if theirs != ours:
            shapes = " and ".join("x".join(map(str, shape)) for shape in (theirs, ours))
            raise UserError(f"--compare={folder} cannot be compared: images are {shapes} here")
    return others


def settings_of(held: dict[str, Any]) -> Config:
    """Returns the settings in a record; raises `UserError` where another version of this code wrote them."""
    known = {field.name for field in dataclasses.fields(Config)}
    strange = sorted(held["settings"].keys() - known)
    if strange:
        raise UserError(f"config.json has the setting '{strange[0]}', which this version does not know")
    return Config(**held["settings"])
