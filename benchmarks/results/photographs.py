"""The tables of photographs: BSD68 and CBSD68, denoised by models, by classical baselines and as published."""

import dataclasses
from collections.abc import Sequence

from benchmarks.results.definition import Row, Table, evaluate, train
from benchmarks.results.denoising import UNTIMED
from cae.tasks import FULL_RESOLUTION_NOISES

LEVELS = tuple(noise.removeprefix("awgn:") for noise in FULL_RESOLUTION_NOISES if noise.startswith("awgn"))

MODEL = "this model"
BASELINES = ("noisy input", "total variation", "non-local means")


@dataclasses.dataclass(frozen=True)
class Training:
    """A training on photographs, which several rows evaluate.

    Attributes:
      run: Its name.
      flags: All but the data set.
      minutes: How long it is expected to take.
      color: "color_" for the color images of these sets.
    """

    run: str
    flags: str
    minutes: float
    color: str = ""


SINGLE = Training("photos", "--flagfile=configs/photos.cfg", 15)
SINGLE_FLOAT32 = Training("photos_float32", f"{SINGLE.flags} --precision=float32", 85)
BLIND = Training("photos_blind", "--flagfile=configs/photos_blind.cfg", 76)
COLOR_BLIND = Training("color_photos_blind", f"{BLIND.flags} --channels=3", 91, color="color_")


def photographs(
    training: Training,
    name: str,
    label: str,
    method: str = MODEL,
    *,
    levels: Sequence[str] = LEVELS,
    ensemble: bool = False,
) -> Row:
    """Returns the row of a method that denoises BSD68 or CBSD68.

    Args:
      training: Of the model that is evaluated beside the baselines.
      name: Of the row.
      label: Of the row.
      method: Its name in the evaluation.
      levels: The levels of noise.
      ensemble: Whether the model's outputs for flips and turns are averaged.
    """
    color = training.color
    test_set = f"folder:{{photos}}/{color[:1]}bsd68"
    return Row(
        name=name,
        label=label,
        commands=[
            train(training.run, f"{training.flags} --dataset=folder:{{photos}}/{color}train400", training.minutes),
            evaluate(training.run, f"--tasks=denoise --test_dataset={test_set}" + " --self_ensemble" * ensemble, 12),
        ],
        figures={
            level: ("results", "denoise", "methods", {"method": method, "noise": "awgn", "level": level}, "psnr")
            for level in levels
        },
        needs=(),
        cells={} if method == MODEL and not ensemble else UNTIMED,
    )


def baselines(training: Training) -> list[Row]:
    """Returns the rows of the noisy input and of classical baselines, which the evaluation of any model has."""
    return [photographs(training, method.replace(" ", "_"), method, method) for method in BASELINES]


def without_clean_images(name: str, label: str, flags: str) -> Row:
    """Returns the row of a training that sees noisy images only."""
    training = Training(name, f"{SINGLE.flags} {flags}", SINGLE.minutes)
    return dataclasses.replace(photographs(training, name, label, levels=("25",)), cells={"flags": f"`{flags}`"})


PUBLISHED = {
    "bm3d": "BM3D", "wnnm": "WNNM", "tnrd": "TNRD", "dncnn": "DnCNN, one model for each level",
    "dncnn_b": "DnCNN-B, one model for 0 to 55", "drunet": "DRUNet",
}  # fmt: skip

ENSEMBLE = "the same with `--self_ensemble`"

PHOTOGRAPHS = Table(
    name="photographs",
    columns={"minutes": ("minutes of training", ""), "load": ("load", "")}
    | {level: (level, "{:.2f}") for level in LEVELS},
    rows=[
        *baselines(SINGLE_FLOAT32),
        photographs(SINGLE, "photos", "`photos.cfg`, for 25", levels=("25",)),
        photographs(SINGLE, "photos_self_ensemble", ENSEMBLE, levels=("25",), ensemble=True),
        photographs(SINGLE_FLOAT32, "photos_float32", "`photos.cfg --precision=float32`", levels=("25",)),
        photographs(BLIND, "photos_blind", "`photos_blind.cfg`, one model for 5 to 50"),
        photographs(BLIND, "photos_blind_self_ensemble", ENSEMBLE, ensemble=True),
        *(Row(name, f"{label}, published", needs=()) for name, label in PUBLISHED.items()),
    ],
)

COLOR = Table(
    name="photographs_color",
    columns=PHOTOGRAPHS.columns,
    rows=[
        *baselines(COLOR_BLIND),
        photographs(COLOR_BLIND, "photos_blind", "`photos_blind.cfg --channels=3`, one model for 5 to 50"),
        photographs(COLOR_BLIND, "photos_blind_self_ensemble", ENSEMBLE, ensemble=True),
        Row("cbm3d", "CBM3D, published", needs=()),
    ],
)

WITHOUT_CLEAN_IMAGES = Table(
    name="photographs_without_clean_images",
    columns={"flags": ("flags", ""), "minutes": ("minutes", ""), "load": ("load", ""), "25": ("PSNR", "{:.2f}")},
    corner="training",
    rows=[
        photographs(SINGLE, "photos", "clean images", levels=("25",)),
        without_clean_images("noise2noise", "Noise2Noise", "--objective=noise2noise"),
        without_clean_images(
            "neighbor2neighbor",
            "Neighbor2Neighbor",
            "--objective=neighbor2neighbor --crop_size=128 --batch_size=8 --crops_per_image=32",
        ),
        Row("bm3d", "BM3D as published, no training", needs=()),
    ],
)
