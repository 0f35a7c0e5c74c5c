"""The tables of what a conformal threshold guarantees and what not: false positive rates, power, drift, many images."""

from collections.abc import Sequence

from benchmarks.results.definition import Command, Key, Line, Row, Table
from benchmarks.results.denoising import AUTOENCODER
from benchmarks.results.outliers import NEEDS, SETS

ALPHAS = (0.01, 0.05, 0.1)
GUARANTEE = {
    "fpr": "false positive rate",
    "fpr_ci_low": "99% interval of the exact distribution, from",
    "fpr_ci_high": "to",
    "empirical_coverage": "of 1,000 random halves of the test split, inside",
}

CONFORMAL = Table(
    name="conformal",
    columns={key: (title, "{:.1%}" if key == "empirical_coverage" else "{:.2%}") for key, title in GUARANTEE.items()},
    corner="alpha",
    rows=[
        Row(
            name="autoencoder",
            commands=AUTOENCODER,
            figures={f"{key}/{alpha}": ("guarantee", {"alpha": alpha}, key) for key in GUARANTEE for alpha in ALPHAS},
            needs=NEEDS,
        )
    ],
    lines=[Line(str(alpha), f"autoencoder/{{column}}/{alpha}") for alpha in ALPHAS],
)

# --- What the guarantee says ------------------------------------------------------------------------------------------

DRIFTS = {
    "test images": "unchanged", "20% darker": "20% darker", "JPEG quality 30": "saved as JPEG of quality 30",
    "shifted by 2 pixels": "shifted to the right by 2 pixels",
    "Gaussian noise 0.1": "Gaussian noise of standard deviation 0.1",
}  # fmt: skip
HARD_SETS = ("left_right", "up_down", "quarter_turn", "missing_square", "overlaid")
TESTS = {
    "one by one, alpha 0.01": "one by one, alpha 0.01", "one by one, alpha 0.05": "one by one, alpha 0.05",
    "together, FDR 0.1": "together, `--fdr=0.1`",
}  # fmt: skip
ALARMS = {
    "false alarms": ("false alarms", "{:.1f}"),
    "found": ("outliers found, of 100", "{:.1f}"),
    "false discoveries": ("false, of all alarms", "{:.2%}"),
}
BY_CLASS = {
    "fpr": "`conformal`",
    "fpr_label_known": "`class_conditional`, label known",
    "fpr_label_unknown": "`class_conditional`, label unknown",
}
WORKDIR = AUTOENCODER[0].resumes


def exchangeability_figures() -> dict[str, Sequence[Key]]:
    """Returns the figures `ALPHA/IMAGES`, `SET/TEST/KEY` of alarms among many images, and `KEY/ALPHA/CLASS`."""
    figures: dict[str, Sequence[Key]] = {
        f"{alpha}/{name}": ("exchangeability", {"fraction taken for outliers at": name}, f"alpha {alpha}")
        for alpha in ALPHAS
        for name in (*DRIFTS, *HARD_SETS)
    }
    figures |= {
        f"{name}/{test}/{key}": ("exchangeability", {"outliers": name, "test": test}, key)
        for name in ("uniform_noise", "quarter_turn")
        for test in TESTS
        for key in ALARMS
    }
    return figures | {
        f"{key}/{alpha}/{digit}": (table, {"class": digit}, key)
        for alpha, table in {"0.01": "by_class", "0.05": "by_class_at_0.05"}.items()
        for key in BY_CLASS
        for digit in range(10)
    }


POWER = Table(
    name="power",
    columns={"test images": ("false alarms", "{:.2%}")} | {name: (SETS[name], "{:.2%}") for name in HARD_SETS},
    corner="alpha",
    rows=[
        Row(
            name="autoencoder",
            commands=[
                *AUTOENCODER,
                Command(
                    f"-m benchmarks.exchangeability --workdir={WORKDIR} --json={{runs}}/exchangeability.json",
                    {"exchangeability": "{runs}/exchangeability.json"},
                    3,
                ),
                Command(
                    f"eval.py --workdir={WORKDIR} --tasks=outliers --alpha=0.05",
                    {"by_class_at_0.05": f"{WORKDIR}/report/outliers_fpr_by_class.csv"},
                    1.5,
                ),
            ],
            figures=exchangeability_figures(),
            needs=NEEDS,
        )
    ],
    lines=[Line(str(alpha), f"autoencoder/{alpha}/{{column}}") for alpha in ALPHAS],
)

DRIFT = Table(
    name="drift",
    source=POWER.name,
    columns={str(alpha): (f"alpha {alpha}", "{:.2%}") for alpha in ALPHAS},
    rows=POWER.rows,
    lines=[Line(label, f"autoencoder/{{column}}/{name}") for name, label in DRIFTS.items()],
)

MANY_IMAGES = Table(
    name="many_images",
    source=POWER.name,
    columns=ALARMS,
    corner="outliers, test",
    rows=POWER.rows,
    lines=[
        Line(f"{SETS[name]}, {label}", f"autoencoder/{name}/{test}/{{column}}")
        for name in ("uniform_noise", "quarter_turn")
        for test, label in TESTS.items()
    ],
)

FPR_BY_CLASS = Table(
    name="fpr_by_class",
    source=POWER.name,
    columns={str(digit): (str(digit), "{:.2%}") for digit in range(10)},
    rows=POWER.rows,
    lines=[
        Line(f"alpha {alpha}, {label}", f"autoencoder/{key}/{alpha}/{{column}}")
        for alpha in ("0.01", "0.05")
        for key, label in BY_CLASS.items()
    ],
)
