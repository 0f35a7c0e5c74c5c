"""The tasks of an evaluation on the test split, one module each.

To add one, write a module with a function `run` and name it in `TASKS`:

    def run(context: EvalContext) -> Section:
        images, _ = context.load("test")
        return Section("brightness", "Brightness", results={"mean": float(images.mean())})

    TASKS = {..., "brightness": brightness}
"""

from collections.abc import Iterable, Sequence

from etils import epy

from cae import models
from cae.config import Config
from cae.data import noise
from cae.errors import UserError, unknown_choice_error

# Tasks need TensorFlow, which takes seconds to import; they are looked up by name before.
with epy.lazy_imports():
    from cae.tasks import denoise, interpolate, latents, outliers, reconstruct


TASKS = {
    "denoise": denoise,
    "reconstruct": reconstruct,
    "interpolate": interpolate,
    "latents": latents,
    "outliers": outliers,
}
"""The values of `--tasks`, in the order of the report; each has a function `run(context: EvalContext) -> Section`."""

LATENT_TASKS = {"reconstruct", "interpolate", "latents"}
"""Tasks for which the model must have latent vectors."""

MIN_TEST_IMAGES = {"interpolate": 2}
"""Test images that a task needs, where one does not suffice."""

TSNE_IMAGES, MIN_TSNE_IMAGES = 2000, 5
"""Test images on the maps of latent vectors: t-SNE takes seconds for the default, and needs neighbors."""

CLEAN = "none"
"""The name of clean images among noises: what does a denoiser change where there is no noise?"""

DEFAULT_NOISE = "gaussian:0.5"
"""What a model that was trained on clean images is evaluated on first."""

PAIRED_DATASETS = ("pairs:", "takes:")
PAIRED = "paired"
"""The name of the noise of a data set of pairs, which has it already."""

FULL_RESOLUTION_NOISES = ("awgn:15", "awgn:25", "awgn:50", CLEAN)
"""What denoising of whole images is evaluated on by default, beside the noise of the training."""

BENCHMARK_NOISES = (
    "gaussian:0.1", "gaussian:0.3", "gaussian:0.5", "gaussian:0.8",
    "salt_pepper:0.1", "salt_pepper:0.2", "salt_pepper:0.5",
    "uniform:0.5", "speckle:0.5", "poisson:0.1", "masking:0.5", "occlusion:0.3", "blur:1", "column_noise:0.2",
    "gaussian:0.3+salt_pepper:0.2", CLEAN,
)  # fmt: skip
"""What denoising is evaluated on by default, beside the noise of the training."""


def check_task_names(names: Sequence[str], available: Iterable[str] = TASKS) -> None:
    """Raises `UserError` for a name that is not available."""
    for name in names:
        if name not in available:
            raise unknown_choice_error("--tasks", name, available)


def get_tasks(names: Sequence[str], config: Config, available: Iterable[str] = TASKS) -> list[str]:
    """Returns the names of the tasks to run.

    Args:
      names: Values of `--tasks`; for no name all tasks that the model allows.
      config: The configuration of the run.
      available: The names that `--tasks` can have, in the order of the result.

    Raises:
      UserError: A name is unknown; its task needs latent vectors, which the model does not have; or it needs images of
        one size, and the model was trained on crops.
    """
    check_task_names(names, available)
    has_latents = models.get_model_spec(config.model).has_latents
    allowed = [name for name in available if has_latents or name not in LATENT_TASKS]
    for name in names:
        if name not in allowed:
            raise UserError(f"--tasks={name} needs latent vectors, and --model={config.model} has none")
        if name != "denoise" and config.crop_size is not None:
            raise UserError(f"--tasks={name} needs images of one size, and the run was trained on crops of images")
    if config.crop_size is not None:
        allowed = ["denoise"]
    return [name for name in allowed if name in (names or allowed)]


def leave_out_tasks(
    selected: Sequence[str], requested: Sequence[str], num_test_images: int
) -> tuple[list[str], list[str]]:
    """Returns the tasks for which there are enough test images, and a line for each that is left out.

    Args:
      selected: What `get_tasks` returned.
      requested: Values of `--tasks`.
      num_test_images: Number of test images.

    Raises:
      UserError: A task that was requested needs more.
    """
    reasons = {
        name: f"needs at least {minimum} test images, and the data set has {num_test_images}"
        for name, minimum in MIN_TEST_IMAGES.items()
        if name in selected and num_test_images < minimum
    }
    for name, reason in reasons.items():
        if name in requested:
            raise UserError(f"--tasks={name} {reason}")
    lines = [f"left out {name}: it {reason}" for name, reason in reasons.items()]
    return [name for name in selected if name not in reasons], lines


def check_self_ensemble(config: Config, image_shape: Sequence[int]) -> None:
    """Raises `UserError` for a model whose images cannot be turned by a quarter."""
    if not models.get_model_spec(config.model).free_sides and image_shape[0] != image_shape[1]:
        raise UserError(f"--self_ensemble turns images, and those of --model={config.model} are not square")


def get_corruption(text: str) -> noise.OneOf | None:
    """Returns the corruption that an evaluation's noise names; None for clean images and pairs."""
    return None if text in (CLEAN, PAIRED) else noise.parse_noise(text)


def get_noises(requested: str | None, config: Config, test_dataset: str | None = None) -> list[str]:
    """Returns the noises that denoising is evaluated on, the first of them in most detail.

    Args:
      requested: Several noises, comma-separated. None, or the noise of the training, as a flagfile repeats it, stands
        for that and `BENCHMARK_NOISES`, or `FULL_RESOLUTION_NOISES`; or for that of pairs.
      config: The configuration of the run.
      test_dataset: The data set to evaluate on; None for the run's own.

    Raises:
      UserError: There is an unknown noise, or clean images come first; or noise is to be added to pairs.
    """
    trained, tested = config.noise, test_dataset or config.dataset
    if tested.startswith(PAIRED_DATASETS):
        if requested and requested != trained:
            raise UserError(f"--noise={requested} does not go with {tested}: pairs have noise of their own")
        return [PAIRED]
    if requested and requested != trained:
        noises = requested.split(",")
    else:
        on_crops = config.crop_size is not None
        default, others = ("awgn:25", FULL_RESOLUTION_NOISES) if on_crops else (DEFAULT_NOISE, BENCHMARK_NOISES)
        noises = [trained or default, *others]
    for text in noises:
        if text != CLEAN:
            noise.parse_noise(text)
    if noises[0] == CLEAN:
        raise UserError(f"--noise={requested}: '{CLEAN}', clean images, can follow a noise but not come first")
    return list(dict.fromkeys(noises))
