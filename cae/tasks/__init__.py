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

TSNE_IMAGES, MIN_TSNE_IMAGES = 2000, 5
"""Test images on the maps of latent vectors: t-SNE takes seconds for the default, and needs neighbors."""

CLEAN = "none"
"""The name of clean images among noises: what does a denoiser change where there is no noise?"""

DEFAULT_NOISE = "gaussian:0.5"
"""What a model that was trained on clean images is evaluated on first."""

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


def get_tasks(names: Sequence[str], model: str, available: Iterable[str] = TASKS) -> list[str]:
    """Returns the names of the tasks to run.

    Args:
      names: Values of `--tasks`; for no name all tasks that the model allows.
      model: The value of `--model`.
      available: The names that `--tasks` can have, in the order of the result.

    Raises:
      UserError: A name is unknown, or its task needs latent vectors, which the model does not have.
    """
    check_task_names(names, available)
    allowed = [name for name in available if models.get_model_spec(model).has_latents or name not in LATENT_TASKS]
    for name in names:
        if name not in allowed:
            raise UserError(f"--tasks={name} needs latent vectors, and --model={model} has none")
    return [name for name in allowed if name in (names or allowed)]


def get_noises(requested: str | None, trained: str | None) -> list[str]:
    """Returns the noises that denoising is evaluated on, the first of them in most detail.

    Args:
      requested: Several noises, comma-separated. None, or the noise of the training, as a flagfile repeats it, stands
        for that and `BENCHMARK_NOISES`.
      trained: The noise of the training; None for clean images.

    Raises:
      UserError: There is an unknown noise, or clean images come first.
    """
    if requested and requested != trained:
        noises = requested.split(",")
    else:
        noises = [trained or DEFAULT_NOISE, *BENCHMARK_NOISES]
    for text in noises:
        if text != CLEAN:
            noise.parse_noise(text)
    if noises[0] == CLEAN:
        raise UserError(f"--noise={requested}: '{CLEAN}', clean images, can follow a noise but not come first")
    return list(dict.fromkeys(noises))
