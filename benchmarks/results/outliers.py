"""The tables of outlier detection: scores, protocols, and anomaly maps."""

from collections.abc import Sequence

from benchmarks.results.definition import Command, Key, Line, Row, Table, train
from benchmarks.results.denoising import AUTOENCODER, QUICK_AUTOENCODER

NEEDS = ("mnist", "fashion_mnist")

SCORES = ("fisher", "mse", "ssim", "top_pixels", "mahalanobis", "knn", "denoising", "hog")

SETS = {
    "fashion_mnist": "Fashion-MNIST", "omniglot": "Omniglot", "uniform_noise": "uniform noise", "black": "black",
    "gray": "gray", "white": "white", "inverted": "inverted digits", "left_right": "mirrored left to right",
    "up_down": "mirrored upside down", "quarter_turn": "rotated by 90 degrees", "shuffled_blocks": "blocks shuffled",
    "missing_square": "missing square", "overlaid": "two digits overlaid",
}  # fmt: skip

FOLDERS = {"omniglot": "folder:{omniglot}"}
"""Names, in an evaluation's results, of sets that are read from a folder."""

OUTLIERS = Table(
    name="outliers",
    columns={score: (score, "{:.4f}") for score in SCORES},
    rows=[
        Row(
            name="autoencoder",
            commands=AUTOENCODER,
            quick=QUICK_AUTOENCODER,
            figures={
                f"{score}/{name}": ("results", "outliers", "scores", score, FOLDERS.get(name, name))
                for score in SCORES
                for name in SETS
            },
            full_only=[f"{score}/omniglot" for score in SCORES],
            needs=NEEDS,
        )
    ],
    lines=[
        *(Line(label, f"autoencoder/{{column}}/{name}") for name, label in SETS.items()),
        Line("**worst**", "autoencoder/min:{column}/"),
    ],
)

# --- One digit left out, one digit normal -----------------------------------------------------------------------------

DIGITS, FEWER_DIGITS = tuple(range(10)), (1, 4, 5, 7, 9)
CHOSEN_ON = ("3", "9")
"""Digits left out, on which the recipe was chosen."""


def protocol(config: str, classes: Sequence[int], minutes: float) -> Command:
    """Returns the one-class protocol of a configuration on some digits."""
    selected = "" if classes == DIGITS else f" --classes={','.join(map(str, classes))}"
    workdir = f"{{runs}}/{config}-seed{{seed}}"
    words = f"-m benchmarks.one_class --flagfile=configs/{config}.cfg{selected} --seeds={{seed}} --workdir={workdir}"
    return Command(words, {"protocol": f"{workdir}/one_class.csv"}, minutes, workdir)


def by_class(metrics: Sequence[str], scores: Sequence[str], classes: Sequence[int]) -> dict[str, Sequence[Key]]:
    """Returns the figures `METRIC/SCORE/CLASS`."""
    return {
        f"{metric}/{score}/{each}": ("protocol", {"class": each}, f"{metric}/{score}")
        for metric in metrics
        for score in scores
        for each in classes
    }


AREAS = ("auroc", "auprc", "auprc_pooled")
PREVALENCES = ("prevalence", "prevalence_pooled")
MEAN = "mean:1,4,5,7,9"


def left_out_line(label: str, figure: str, seed: int | None = None, spec: str | None = None) -> Line:
    """Returns a line of one digit left out, of the row that has the seed."""
    row = "fewer_digits" if seed else "all_digits"
    return Line(label, f"{row}/{figure}/{{column}}", spec, seed)


LEFT_OUT = Table(
    name="one_digit_left_out",
    columns={str(digit): (f"{digit}{'*' * (str(digit) in CHOSEN_ON)}", "{:.3f}") for digit in DIGITS}
    | {MEAN: ("mean of 1, 4, 5, 7, 9", "{:.3f}")},
    corner="`deep_cluster`",
    rows=[
        Row(
            name="all_digits",
            commands=[protocol("deep_cluster", DIGITS, 30)],
            figures=by_class(AREAS, ("deep_cluster",), DIGITS)
            | by_class(AREAS, ("hog", "knn", "mse"), DIGITS)
            | {f"{name}/{digit}": ("protocol", {"class": digit}, name) for name in PREVALENCES for digit in DIGITS}
            | {"seconds": ("protocol", {"class": "mean"}, "seconds")},
        ),
        Row(
            name="fewer_digits",
            commands=[protocol("deep_cluster", FEWER_DIGITS, 15)],
            figures=by_class(AREAS, ("deep_cluster",), FEWER_DIGITS),
            seeds=(1, 2),
        ),
    ],
    lines=[
        *(
            left_out_line(f"{title}, seed {seed}", f"{metric}/deep_cluster", seed)
            for metric, title in {
                "auroc": "AUROC", "auprc": "AUPRC, official prevalence", "auprc_pooled": "AUPRC, pooled prevalence"
            }.items()
            for seed in (0, 1, 2)
        ),
        left_out_line("official prevalence", "prevalence", spec="{:.1%}"),
        left_out_line("pooled prevalence", "prevalence_pooled", spec="{:.1%}"),
        *(
            left_out_line(f"`{score}`, AUPRC, official, seed 0", f"auprc/{score}") for score in ("hog", "knn", "mse")
        ),
        left_out_line("`hog`, AUPRC, pooled, seed 0", "auprc_pooled/hog"),
        left_out_line("`hog`, AUROC, seed 0", "auroc/hog"),
    ],
)  # fmt: skip

NORMAL = Table(
    name="one_digit_normal",
    columns={str(digit): (str(digit), "{:.4f}") for digit in (*DIGITS, "mean")},
    corner="AUROC",
    rows=[
        Row(
            name="one_class",
            commands=[protocol("one_class", DIGITS, 13)],
            figures=by_class(("auroc",), ("fisher", "hog", "mse"), (*DIGITS, "mean")),
        )
    ],
    lines=[
        *(Line(f"`{score}`", f"one_class/auroc/{score}/{{column}}") for score in ("fisher", "hog", "mse")),
        *(
            Line(f"{label}, published", f"{name}/auroc/{{column}}")
            for name, label in {
                "convolutional_autoencoder": "a convolutional autoencoder", "ocgan": "OCGAN", "arnet": "ARNet"
            }.items()
        ),
    ],
)  # fmt: skip

LEFT_OUT_SCORES = Table(
    name="one_digit_left_out_scores",
    source=LEFT_OUT.name,
    columns={
        "auroc": ("AUROC", "{:.3f}"), "auprc": ("AUPRC at 10% outliers", "{:.3f}"),
        "auprc_pooled": ("AUPRC at 36%", "{:.3f}"),
    },
    corner="one digit of MNIST left out, mean of 1, 4, 5, 7 and 9",
    rows=LEFT_OUT.rows[:1],
    lines=[
        Line(label, f"all_digits/{{column}}/{score}/{MEAN}")
        for score, label in {
            "deep_cluster": "`deep_cluster`", "knn": "step 1 alone: `knn` of the same model",
            "hog": "`hog`, which needs no model", "mse": "`mse` of the same model",
        }.items()
    ],
)  # fmt: skip

LEFT_OUT_PUBLISHED = Table(
    name="one_digit_left_out_published",
    columns={str(digit): (str(digit), "{:.3g}") for digit in FEWER_DIGITS} | {MEAN: ("mean", "{:.3g}")},
    corner="AUPRC",
    rows=[],
    lines=[
        Line("VAE with 32 latent dimensions", "vae/auprc/{column}"),
        Line("the same, AUROC", "vae/auroc/{column}"),
        Line("MEG", "meg/auprc/{column}"),
        Line("latent energy-based model", "latent_ebm/auprc/{column}"),
    ],
)
"""Figures of publications alone, to stand below a text."""

# --- Anomaly maps -----------------------------------------------------------------------------------------------------

MAPS = {"squared error": "squared error", "smoothed": "the same, smoothed", "anomaly map": "anomaly map"}
PATCHES = {"other image": "digit", "uniform noise": "noise"}
REGION_METRICS = {"auroc": "AUROC", "iou": "IoU", "best_iou": "best IoU", "fpr": "FPR"}
LOCALIZED = {"autoencoder": "`autoencoder.cfg --epochs=5`", "denoise_2": "`denoise.cfg --epochs=2`"}
TRAININGS = {
    "autoencoder": AUTOENCODER[0],
    "denoise_2": train("denoise_2", "--flagfile=configs/denoise.cfg --epochs=2", 1),
}


def localization(run: str) -> Row:
    """Returns the measurement of a run's anomaly maps."""
    workdir = f"{{runs}}/{run}-seed{{seed}}"
    command = Command(
        f"-m benchmarks.anomaly_localization --workdir={workdir}", {"maps": f"{workdir}/anomaly_localization.json"}, 2
    )
    return Row(
        name=run,
        commands=[TRAININGS[run], command],
        figures={
            f"{split}/{name}/{patch}/{metric}": ("maps", {"split": split, "patch": patch, "map": name}, metric)
            for split in ("test", "validation")
            for name in MAPS
            for patch in PATCHES
            for metric in REGION_METRICS
        },
    )


LOCALIZATION = Table(
    name="anomaly_localization",
    columns={
        f"{patch}/{metric}": (f"{REGION_METRICS[metric]}, {title}", "{:.4f}")
        for patch, title in PATCHES.items()
        for metric in ("auroc", "iou", "best_iou")
    }
    | {"other image/fpr": ("FPR", "{:.4f}")},
    corner="run, map",
    rows=[localization(run) for run in LOCALIZED],
    lines=[
        Line(f"{label}, {map_label}{split_label}", f"{run}/{split}/{name}/{{column}}")
        for split, split_label in {"test": "", "validation": "; validation images"}.items()
        for run, label in LOCALIZED.items()
        for name, map_label in MAPS.items()
    ],
)
