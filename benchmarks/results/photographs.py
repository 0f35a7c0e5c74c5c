"""The tables of photographs: BSD68 and CBSD68, denoised by models, by classical baselines and as published."""

import dataclasses
from collections.abc import Sequence

from benchmarks.results.definition import Row, Table, evaluate, train
from benchmarks.results.denoising import UNTIMED
from cae.tasks import FULL_RESOLUTION_NOISES

LEVELS = tuple(noise.removeprefix("awgn:") for noise in FULL_RESOLUTION_NOISES if noise.startswith("awgn"))


def photographs(
    name: str,
    label: str,
    flags: str,
    minutes: float,
    *,
    method: str,
    ensemble: bool,
    levels: Sequence[str],
    options: str = "",
    color: str = "",
) -> Row:
    """Returns the row of a method that denoises BSD68 or CBSD68.

    Args:
      name: Of the row.
      label: Of the row.
      flags: The configuration.
      minutes: Of the training.
      method: Its name in the evaluation.
      ensemble: Whether the model's outputs for flips and turns are averaged.
      levels: The levels of noise.
      options: Further flags of the training, whose run has the row's name then.
      color: "color_" for the color images of these sets.
    """
    run = name if options else f"{color}{flags.partition('.cfg')[0].rpartition('/')[2]}"
    test_set = f"folder:{{photos}}/{color[:1]}bsd68"
    training = f"{flags} {'--channels=3' * bool(color)} --dataset=folder:{{photos}}/{color}train400 {options}"
    return Row(
        name=name,
        label=label,
        commands=[
            train(run, " ".join(training.split()), minutes),
            evaluate(run, f"--tasks=denoise --test_dataset={test_set}" + " --self_ensemble" * ensemble, 12),
        ],
        figures={
            level: ("results", "denoise", "methods", {"method": method, "noise": "awgn", "level": level}, "psnr")
            for level in levels
        },
        needs=(),
        cells={} if method == MODEL and not ensemble else UNTIMED,
    )


NEIGHBORS = "--objective=neighbor2neighbor --crop_size=128 --batch_size=8 --crops_per_image=32"

BLIND, SINGLE = "--flagfile=configs/photos_blind.cfg", "--flagfile=configs/photos.cfg"
MODEL = "this model"

PUBLISHED = {
    "bm3d": "BM3D", "wnnm": "WNNM", "tnrd": "TNRD", "dncnn": "DnCNN, one model for each level",
    "dncnn_b": "DnCNN-B, one model for 0 to 55", "drunet": "DRUNet",
}  # fmt: skip

PHOTOGRAPHS = Table(
    name="photographs",
    columns={"minutes": ("minutes of training", ""), "load": ("load", "")}
    | {level: (level, "{:.2f}") for level in LEVELS},
    rows=[
        *(
            photographs(method.replace(" ", "_"), method, BLIND, 76, method=method, ensemble=False, levels=LEVELS)
            for method in ("noisy input", "total variation", "non-local means")
        ),
        photographs("photos", "`photos.cfg`, for 25", SINGLE, 15, method=MODEL, ensemble=False, levels=("25",)),
        photographs(
            "photos_self_ensemble", "the same with `--self_ensemble`", SINGLE, 15, method=MODEL, ensemble=True,
            levels=("25",),
        ),
        photographs(
            "photos_blind", "`photos_blind.cfg`, one model for 5 to 50", BLIND, 76, method=MODEL, ensemble=False,
            levels=LEVELS,
        ),
        photographs(
            "photos_blind_self_ensemble", "the same with `--self_ensemble`", BLIND, 76, method=MODEL, ensemble=True,
            levels=LEVELS,
        ),
        *(Row(name, f"{label}, published", needs=()) for name, label in PUBLISHED.items()),
    ],
)  # fmt: skip

COLOR = Table(
    name="photographs_color",
    columns=PHOTOGRAPHS.columns,
    rows=[
        *(
            photographs(
                method.replace(" ", "_"), method, BLIND, 60, method=method, ensemble=False, levels=LEVELS,
                color="color_",
            )
            for method in ("noisy input", "total variation", "non-local means")
        ),
        photographs(
            "photos_blind", "`photos_blind.cfg --channels=3`, one model for 5 to 50", BLIND, 60, method=MODEL,
            ensemble=False, levels=LEVELS, color="color_",
        ),
        photographs(
            "photos_blind_self_ensemble", "the same with `--self_ensemble`", BLIND, 60, method=MODEL, ensemble=True,
            levels=LEVELS, color="color_",
        ),
        Row("cbm3d", "CBM3D, published", needs=()),
    ],
)  # fmt: skip

WITHOUT_CLEAN_IMAGES = Table(
    name="photographs_without_clean_images",
    columns={"flags": ("flags", ""), "minutes": ("minutes", ""), "load": ("load", ""), "25": ("PSNR", "{:.2f}")},
    corner="training",
    rows=[
        photographs("photos", "clean images", SINGLE, 15, method=MODEL, ensemble=False, levels=("25",)),
        *(
            dataclasses.replace(
                photographs(name, label, SINGLE, 15, method=MODEL, ensemble=False, levels=("25",), options=options),
                cells={"flags": f"`{options}`"},
            )
            for name, label, options in (
                ("noise2noise", "Noise2Noise", "--objective=noise2noise"),
                ("neighbor2neighbor", "Neighbor2Neighbor", NEIGHBORS),
            )
        ),
        Row("bm3d", "BM3D as published, no training", needs=()),
    ],
)
