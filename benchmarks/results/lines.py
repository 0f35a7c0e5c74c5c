"""The tables of synthetic lines: `lines.cfg`, and what other flags give."""

from collections.abc import Sequence

from benchmarks.results.definition import Command, Line, Row, Table, evaluate, train
from benchmarks.results.denoising import THREE_SEEDS

METRICS = {"mean_distance": ("mean distance", "{:.5f}"), "smoothness": ("smoothness", "{:.3f}")}

VARIANTS = {
    "constant_weight": "--regularizer_end_weight=0.4",
    "paper_weight": "--regularizer_weight=0.125 --regularizer_end_weight=0.125",
    "no_regularizer": "--regularizer_weight=0 --regularizer_end_weight=0",
    "adam": "--optimizer=adam",
    "two_dimensions": "--latent_dim=2",
    "sixteen_dimensions": "--latent_dim=16",
}
"""Flags by the name of the row: what was tried beside `lines.cfg`."""


def lines(name: str, flags: str, minutes: float, seeds: Sequence[int], quick: Sequence[Command] = ()) -> Row:
    """Returns the row of a training on synthetic lines with further flags."""
    return Row(
        name=name,
        label=f"`{flags}`" if flags else "`lines.cfg`",
        commands=[
            train(name, f"--flagfile=configs/lines.cfg {flags}".strip(), minutes),
            evaluate(name, "--tasks=interpolate", 0.4),
        ],
        quick=quick,
        figures={key: ("results", "interpolate", key) for key in METRICS},
        seeds=seeds,
        needs=(),
    )


QUICK = [
    train("lines", "--flagfile=configs/lines.cfg --epochs=1", 1),
    evaluate("lines", "--tasks=interpolate --interpolation_pairs=50", 0.7),
]
DEFAULT_ROW = lines("lines", "", 3.8, THREE_SEEDS, QUICK)
VARIANT_ROWS = [lines(name, flags, 3.8, (0,)) for name, flags in VARIANTS.items()]

LINES = Table(
    name="lines",
    columns={"minutes": ("minutes", ""), "load": ("load", "")} | METRICS,
    rows=[
        DEFAULT_ROW,
        lines("lines_80", "--epochs=80", 27, (0,)),
        *VARIANT_ROWS,
        Row("acai", "ACAI as published, 64-dimensional", needs=()),
        Row("acai_baseline", "its plain autoencoder", needs=()),
    ],
    lines=[
        Line("`lines.cfg`: 4-dimensional latent vectors", "lines/{column}"),
        Line("the same with `--epochs=80`", "lines_80/{column}"),
        Line("ACAI as published, 64-dimensional", "acai/{column}"),
        Line("its plain autoencoder", "acai_baseline/{column}"),
    ],
)

LINE_VARIANTS = Table(
    name="line_variants",
    source=LINES.name,
    columns=METRICS,
    corner="`lines.cfg` with",
    rows=[DEFAULT_ROW, *VARIANT_ROWS],
    lines=[
        Line("nothing else", "lines/{column}"),
        *(Line(f"`{flags}`", f"{name}/{{column}}") for name, flags in VARIANTS.items()),
    ],
)
