"""The configuration of a run: one dataclass field per flag, with its default, help and checks."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from cae.config_upgrade import upgrade
from cae.errors import UserError, unknown_choice_error

_DEFINE = {str: flags.DEFINE_string, int: flags.DEFINE_integer, float: flags.DEFINE_float, bool: flags.DEFINE_boolean}


def field(default: Any, help: str, *, choices: Sequence[str] = (), lower_bound: float | None = None) -> Any:
    """Returns a field of `Config`.

    Args:
      default: The default of the field and of its flag.
      help: The flag's help text.
      choices: The values that are allowed; any if empty.
      lower_bound: The smallest value that is allowed, if there is one.
    """
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices, "lower_bound": lower_bound})


@dataclasses.dataclass(frozen=True)
class Config:
    """The configuration of a run; raises `UserError` for a value that is not allowed."""

    dataset: str = field(
        "mnist",
        "A TFDS image data set by its name, 'digits' (bundled with scikit-learn), 'lines' (synthetic), 'folder:PATH' of"
        " images, or 'records:PATH' written by cae.write_records; with --crop_size 'pairs:NOISY,CLEAN', two folders of"
        " images that belong together by name, or 'takes:FIRST,SECOND', two noisy takes of the same.",
    )
    fallback_dataset: str | None = field(None, "Used, with a warning, where --dataset is not available.")
    data_dir: str | None = field(None, "Where TFDS keeps prepared data sets; default: its own folder.")
    streaming: str = field(
        "auto",
        "Whether images are read from disk when they are needed instead of being held in memory: auto does where they"
        " would take more than a quarter of it, and for 'records:PATH'. Other data sets are converted to records once.",
        choices=("auto", "always", "never"),
    )
    cache_dir: str | None = field(
        None,
        "Where results that can be computed again are cached; default: converted data sets in cae_records in TFDS's"
        " folder, parameters of baselines in $XDG_CACHE_HOME/cae or ~/.cache/cae.",
    )
    image_size: int | None = field(
        None, "Height and width in pixels; default: the data set's own, 28 for a folder.", lower_bound=1
    )
    channels: int | None = field(None, "1 for grayscale, 3 for color; default: the data set's own, 1 for a folder.")
    crop_size: int | None = field(
        None,
        "Train on random crops of this side out of images of any sizes, at full resolution; validation and test are"
        " whole images.",
        lower_bound=1,
    )
    augment: bool = field(False, "Flip crops and turn them by quarters at random.")
    crops_per_image: int = field(16, "Number of crops of each image in an epoch.", lower_bound=1)
    normal_classes: str | None = field(
        None, "Comma-separated classes to train on, or all but some by a minus before each; the others are outliers."
    )
    remove_duplicates: bool = field(
        False, "Remove training images that validation, calibration or test has too, pixel by pixel."
    )
    model: str = field("conv", "The model.")
    latent_dim: int = field(32, "Dimensions of a latent vector.", lower_bound=1)
    base_filters: int = field(32, "Filters of the first layers; deeper ones have multiples of it.", lower_bound=1)
    noise: str | None = field(
        None,
        "NAME:LEVEL or NAME:LOW-HIGH, a level sampled for each image; ONE+OTHER is both, ONE/OTHER either;"
        " an evaluation takes several, comma-separated.",
    )
    loss: str = field("mse", "The reconstruction loss of an image.")
    num_clusters: str = field(
        "10,20,40,80", "Comma-separated numbers of clusters of the clusterings whose clusters a classifier learns."
    )
    classifier_epochs: int = field(
        3, "The last epochs, in which the classifier of clusters is trained instead of the autoencoder.", lower_bound=0
    )
    beta: float = field(
        1.0, "Weight of the KL divergence of a variational autoencoder; 1 is the evidence lower bound.", lower_bound=0
    )
    regularizer: str | None = field(
        None, "An additional loss term: acai, adversarially constrained interpolation.", choices=("acai",)
    )
    regularizer_weight: float = field(0.125, "Weight of the regularizer in the loss.", lower_bound=0)
    regularizer_end_weight: float | None = field(
        None,
        "Weight of the regularizer at the end of the training, which it approaches linearly; default: it is constant.",
        lower_bound=0,
    )
    objective: str | None = field(
        None,
        "What is minimized instead of the loss against clean images: neighbor2neighbor, the loss of neighboring pixels"
        " in noisy images; noise2void, that of blind spots; noise2noise, that against the same image with other noise.",
        choices=("neighbor2neighbor", "noise2void", "noise2noise"),
    )
    optimizer: str = field(
        "adam", "Muon reduces the loss more per step, and a step takes longer.", choices=("adam", "muon")
    )
    learning_rate: float = field(
        1e-3, "The learning rate; for cosine the peak in a run of 100 epochs, higher in shorter ones, at most double."
    )
    lr_schedule: str = field("constant", "The learning rate schedule.", choices=("constant", "cosine"))
    epochs: int = field(100, "Number of passes over the training images.", lower_bound=1)
    max_steps: int | None = field(
        None, "Stop after this many steps, even within an epoch; default: after --epochs.", lower_bound=1
    )
    batch_size: int = field(128, "Images in a step, over all replicas.", lower_bound=1)
    precision: str = field(
        "float32", "The dtype policy of the layers.", choices=("float32", "mixed_float16", "mixed_bfloat16")
    )
    jit_compile: bool = field(False, "Compile the step with XLA, which takes some seconds at the start.")
    distribution_strategy: str = field(
        "auto",
        "one_device; mirrored: a replica on each device; multi_worker_mirrored: on each device of the machines in"
        " TF_CONFIG; auto: every GPU of this machine.",
        choices=("auto", "one_device", "mirrored", "multi_worker_mirrored"),
    )
    logical_cpus: int = field(
        1, "Number of logical CPU devices, to try --distribution_strategy=mirrored without GPUs.", lower_bound=1
    )
    seed: int = field(0, "All randomness is a function of the seed and the step.", lower_bound=0)
    checkpoint_interval_minutes: float = field(
        10.0, "Minutes between checkpoints within an epoch; there is one at the end of each.", lower_bound=0
    )
    image_summary_epochs: int | None = field(
        None,
        "Epochs between image summaries in TensorBoard; default: so many that there are ten at most, which it shows.",
        lower_bound=1,
    )

    def __post_init__(self):
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            choices, lower_bound = each.metadata["choices"], each.metadata["lower_bound"]
            if choices and value not in (None, *choices):
                raise unknown_choice_error(f"--{each.name}", value, choices)
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"--{each.name}={value} must be a finite number")
            if None not in (value, lower_bound) and value < lower_bound:
                raise UserError(f"--{each.name}={value} must be at least {lower_bound}")
        if self.channels not in (None, 1, 3):
            raise UserError(f"--channels={self.channels} must be 1 (grayscale) or 3 (color)")
        self._check_crops()
        if not 0 < self.learning_rate < 1:
            raise UserError(f"--learning_rate={self.learning_rate} must lie between 0 and 1")
        if self.objective and self.regularizer:
            raise UserError(f"--objective={self.objective} does not go with --regularizer={self.regularizer}")
        if self.objective == "noise2noise" and not self.noise:
            raise UserError(
                "--objective=noise2noise needs --noise; --dataset=takes:FIRST,SECOND is trained without either"
            )
        for name in ("regularizer_weight", "regularizer_end_weight"):
            if self.regularizer is None and getattr(self, name) != getattr(Config, name):
                raise UserError(f"--{name}={getattr(self, name)} needs --regularizer=acai")
        if self.seed >= 2**31:
            raise UserError(f"--seed={self.seed} must be less than 2147483648")
        if self.logical_cpus > 1 and self.distribution_strategy != "mirrored":
            raise UserError(f"--logical_cpus={self.logical_cpus} needs --distribution_strategy=mirrored")
        check_divisible(self.batch_size, self.logical_cpus)
        parse_num_clusters(self.num_clusters)

    def _check_crops(self) -> None:
        kind = self.dataset.partition(":")[0]
        is_paired = kind in ("pairs", "takes")
        if self.crop_size is None:
            for name, is_set in (
                ("augment", self.augment),
                ("crops_per_image", self.crops_per_image != Config.crops_per_image),
                ("dataset", is_paired),
            ):
                if is_set:
                    raise UserError(f"--{name}={getattr(self, name)} needs --crop_size, such as --crop_size=64")
            return
        for name in ("image_size", "normal_classes"):
            if (value := getattr(self, name)) is not None:
                raise UserError(f"--{name}={value} does not go with --crop_size: images are used whole and unlabeled")
        if is_paired and self.noise:
            raise UserError(f"--noise={self.noise} does not go with --dataset={kind}: pairs have noise of their own")

    def changed(self) -> dict[str, Any]:
        """Returns the fields that differ from their defaults, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value != getattr(Config, name)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Config":
        """Returns the configuration that a config.json holds, whichever version of this code wrote it.

        Args:
          saved: Values by field name; fields that are missing have their defaults.

        Raises:
          UserError: There is an unknown field.
        """
        current = upgrade(saved)
        if unknown := sorted(current.keys() - {each.name for each in dataclasses.fields(cls)}):
            raise UserError(
                f"config.json has the unknown field '{unknown[0]}'; another version of this program wrote it"
            )
        try:
            return cls(**current)
        except TypeError as error:
            raise UserError(
                f"config.json has a value of a wrong type; another version of this program wrote it: {error}"
            ) from error


# --- Checks -----------------------------------------------------------------------------------------------------------


def check_divisible(batch_size: int, replicas: int) -> None:
    """Raises `UserError` where a global batch can't be divided evenly among the replicas."""
    if batch_size % replicas:
        nearest = max(replicas, round(batch_size / replicas) * replicas)
        raise UserError(f"--batch_size={batch_size} is not divisible by {replicas} replicas; use {nearest}")


def parse_num_clusters(text: str) -> tuple[int, ...]:
    """Returns the numbers of clusters that --num_clusters names; raises `UserError` where they are none."""
    names = text.split(",")
    if not all(name.strip().isdecimal() and int(name) > 1 for name in names):
        raise UserError(f"--num_clusters={text} must be comma-separated numbers above 1, such as 10,20,40,80")
    return tuple(map(int, names))


# --- Flags ------------------------------------------------------------------------------------------------------------


def define_config_flags(
    values: flags.FlagValues = flags.FLAGS, names: Mapping[str, Iterable[str]] | None = None
) -> None:
    """Defines a flag for every field of `Config`, and --workdir.

    Args:
      values: Where they are defined.
      names: By field the names of a registry, which its help text lists.
    """
    flags.DEFINE_string("workdir", "runs/default", "The folder of the run.", flag_values=values)
    for each in dataclasses.fields(Config):
        kind = next(kind for kind in _DEFINE if each.type in (kind, kind | None))
        choices = f" One of: {', '.join(each.metadata['choices'])}." if each.metadata["choices"] else ""
        listed = f" Names: {', '.join(names[each.name])}." if each.name in (names or {}) else ""
        _DEFINE[kind](each.name, each.default, each.metadata["help"] + choices + listed, flag_values=values)


def config_from_flags(values: flags.FlagValues = flags.FLAGS) -> Config:
    """Returns the configuration of the command line; raises `UserError` for a value that is not allowed."""
    return Config(**{each.name: values[each.name].value for each in dataclasses.fields(Config)})


def explicit_flags(values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """Returns the fields that the command line or a flagfile sets, by name."""
    return {each.name: values[each.name].value for each in dataclasses.fields(Config) if values[each.name].present}
