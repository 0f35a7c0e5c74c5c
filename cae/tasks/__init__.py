"""What a fitted model is good for, one module a task.

To add one, write a module with a function `run(Subject) -> Section` and name it in `TASKS`.
"""

import dataclasses
from collections.abc import Sequence
from types import ModuleType

from etils import epy

from cae import models
from cae.data import noise
from cae.errors import UserError, unknown_name

# Tasks need TensorFlow, which takes seconds to import; they are looked up by name before.
with epy.lazy_imports():
    from cae.tasks import denoise, interpolate, latents, outliers, reconstruct


@dataclasses.dataclass(frozen=True)
class Task:
    """A module, and what it needs: a model with latent vectors, and whether pictures of one's own can take its test."""

    module: ModuleType
    needs_latents: bool
    takes_images: bool


TASKS = {
    "denoise": Task(denoise, needs_latents=False, takes_images=True),
    "reconstruct": Task(reconstruct, needs_latents=True, takes_images=True),
    "interpolate": Task(interpolate, needs_latents=True, takes_images=True),
    "latents": Task(latents, needs_latents=True, takes_images=False),
    "outliers": Task(outliers, needs_latents=False, takes_images=True),
}
"""What `--tasks` can name, in the order of the report."""

MOST_BETWEEN = 12
"""How many pictures of one's own interpolation takes."""

TSNE_IMAGES, LEAST_TSNE_IMAGES = 2000, 5
"""Test images on the maps of latent vectors: as many as take t-SNE seconds, and as few as have neighbors."""

CLEAN = "none"
"""The name of no noise at all: what does a denoiser do where there is nothing to mend?"""

DEFAULT_NOISE = "gaussian:0.5"
"""What a model that was trained on clean images is tried on first."""

USUAL_NOISES = (
    "gaussian:0.1", "gaussian:0.3", "gaussian:0.5", "gaussian:0.8",
    "salt_pepper:0.1", "salt_pepper:0.2", "salt_pepper:0.5",
    "uniform:0.5", "speckle:0.5", "poisson:0.1", "mask:0.5", "occlusion:0.3", "blur:1", "stripes:0.2",
    "gaussian:0.3+salt_pepper:0.2", CLEAN,
)  # fmt: skip
"""What denoising is tried on, beside the noise of the training."""


def check(names: Sequence[str]) -> None:
    """Raises `UserError` for a name that is no task's."""
    for name in names:
        if name not in TASKS:
            raise unknown_name("--tasks", name, TASKS)


def find(names: Sequence[str], model: str, images: bool = False) -> dict[str, ModuleType]:
    """Returns the tasks of those names in the report's order; for no name all that can be done.

    images: whether they are to be done with a person's own pictures. Raises `UserError` for an unknown name, and for a
    task that can't be done.
    """
    check(names)
    has_latents = models.find(model).has_latents
    for name in names:
        if TASKS[name].needs_latents and not has_latents:
            raise UserError(f"--tasks={name} needs latent vectors, and --model={model} has none")
        if images and not TASKS[name].takes_images:
            able = ", ".join(name for name, task in TASKS.items() if task.takes_images)
            raise UserError(f"--tasks={name} does not take --images; {able} do")
    return {
        name: task.module
        for name, task in TASKS.items()
        if (name in names or not names)
        and (has_latents or not task.needs_latents)
        and (task.takes_images or not images)
    }


def noises(said: str | None, trained: str | None) -> list[str]:
    """Returns the noises to try, the first of them in most detail; raises `UserError` for what is none.

    said: some, separated by commas; the training's own, as a flagfile says it, or nothing for that and the usual ones.
    """
    wanted = said.split(",") if said and said != trained else [trained or DEFAULT_NOISE, *USUAL_NOISES]
    for text in wanted:
        if text != CLEAN:
            noise.parse(text)
    if wanted[0] == CLEAN:
        raise UserError(f"--noise={said}: '{CLEAN}', clean images, can follow a noise but not come first")
    return list(dict.fromkeys(wanted))
