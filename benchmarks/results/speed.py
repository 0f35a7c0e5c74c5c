"""The tables of docs/performance.md: throughput, start and memory, scoring."""

from collections.abc import Sequence

from benchmarks.cases import CASES
from benchmarks.results.definition import Command, Line, Row, Table
from benchmarks.results.denoising import AUTOENCODER
from benchmarks.results.outliers import DIGITS, SCORES, protocol

# --- Throughput -------------------------------------------------------------------------------------------------------

RATES = {
    "fastest": ("images/s", "{:,.0f}"),
    "slowest": ("slowest round", "{:,.0f}"),
    "ratio": ("relative to the first row", "{:.2f}"),
    "of peak": ("fraction of peak GEMM throughput", "{:.0%}"),
}

MEASURED = {"forward": ("fastest", "slowest", "of peak"), "batches": ("fastest", "slowest")}
"""The rates of cases that are no training steps, by unit."""

LOW_PRECISION = {"train_bfloat16": ("fastest", "slowest", "ratio"), "torch_bfloat16": ("fastest", "slowest", "ratio")}
"""The rates of cases in bfloat16, by name: the peak is that of float32."""

TENSORFLOW_CASES = {
    "train": "training step, noise sampled in the pipeline",
    "train_xla": "training step, compiled by XLA (`--jit_compile`)",
    "train_bfloat16": "training step, `--precision=mixed_bfloat16`",
    "train_mirrored": "training step, two logical replicas",
    "fit": "Keras `fit` of the same model on arrays, no noise",
    "fit_noise": "Keras `fit` with the same noise",
    "forward": "forward pass, this repository",
    "input_pipeline": "input pipeline alone, with noise",
}
TORCH_CASES = {
    "torch": "PyTorch, eager",
    "torch_fused": "PyTorch, channels last, fused Adam",
    "torch_compile": "PyTorch, channels last, fused Adam, `torch.compile`",
    "torch_bfloat16": "PyTorch, channels last, fused Adam, bfloat16",
    "torch_forward": "forward pass, PyTorch",
}
"""PyTorch is optional."""

SHOWN_CASES = [case for case in CASES if case in TENSORFLOW_CASES | TORCH_CASES]
PEAKS = {"gemm": ("fastest",), "gemm_numpy": ("fastest",)}
"""The rates of matrix products, whose fastest is the peak, in GFLOP/s."""

ALL_CASES = Command(
    f"-m benchmarks.throughput --flagfile=configs/denoise.cfg --cases={','.join([*SHOWN_CASES, *PEAKS])}"
    " --json={runs}/throughput.json",
    {"cases": "{runs}/throughput.json"},
    8,
)


def throughput(name: str, labels: Sequence[str], packages: Sequence[str]) -> Row:
    """Returns the measurement of some cases, which are measured by one command."""
    return Row(
        name=name,
        commands=[ALL_CASES],
        figures={
            f"{case}/{key}": ("cases", {"": CASES[case].title}, key)
            for case in labels
            for key in RATES
            if key in (LOW_PRECISION | PEAKS).get(case, MEASURED.get(CASES[case].unit, RATES))
        },
        packages=packages,
    )


THROUGHPUT = Table(
    name="throughput",
    columns=RATES,
    corner="MNIST, batches of 128",
    rows=[throughput("tensorflow", [*TENSORFLOW_CASES, *PEAKS], ()), throughput("torch", [*TORCH_CASES], ("torch",))],
    lines=[
        Line(
            (TENSORFLOW_CASES | TORCH_CASES)[case],
            f"{'torch' if case in TORCH_CASES else 'tensorflow'}/{case}/{{column}}",
        )
        for case in SHOWN_CASES
    ],
)

# --- Start ------------------------------------------------------------------------------------------------------------

PIECES = (
    "Python and flags", "TensorFlow and Keras", "other imports", "data set opened", "images read, model built",
    "first step, traced and taken", "in all",
)  # fmt: skip
START_FIGURES = {"median s": ("median of 5 starts", "{:.2f} s"), "fastest s": ("fastest", "{:.2f} s")}

STARTUP = Table(
    name="startup",
    columns=START_FIGURES,
    rows=[
        Row(
            name="denoise",
            commands=[
                Command(
                    "-m benchmarks.startup --flagfile=configs/denoise.cfg --json={runs}/startup.json",
                    {"pieces": "{runs}/startup.json"},
                    1,
                )
            ],
            figures={f"{piece}/{key}": ("pieces", {"piece": piece}, key) for piece in PIECES for key in START_FIGURES},
        )
    ],
    lines=[Line(piece, f"denoise/{piece}/{{column}}") for piece in PIECES],
)

# --- Size of the data set ---------------------------------------------------------------------------------------------

SIZES = {60_000: "60,000", 1_000_000: "1,000,000"}
SCALING_FIGURES = {
    "max MiB": ("resident memory, at most", "{:.0f} MiB"),
    "last MiB": ("at the end", "{:.0f} MiB"),
    "median start": ("start of Python to first step, median of 5", "{:.2f} s"),
    "fastest": ("fastest", "{:.2f} s"),
}

SCALING = Table(
    name="dataset_scaling",
    columns=SCALING_FIGURES,
    corner="images",
    rows=[
        Row(
            name="streamed",
            commands=[
                Command(
                    "-m benchmarks.dataset_scaling --json={runs}/dataset_scaling.json",
                    {"scaling": "{runs}/dataset_scaling.json"},
                    8,
                )
            ],
            figures={f"{size}/{key}": ("scaling", {"images": size}, key) for size in SIZES for key in SCALING_FIGURES},
            needs=(),
        )
    ],
    lines=[Line(label, f"streamed/{size}/{{column}}") for size, label in SIZES.items()],
)

# --- Scores -----------------------------------------------------------------------------------------------------------

SCORING_FIGURES = {
    "images/s": ("images/s, fastest of 5 rounds", "{:,.0f}"),
    "to the forward pass": ("relative to the forward pass", "{:.2f}"),
}
SCORED = ("forward pass", *SCORES)


def scoring(name: str, training: Command, workdir: str, scores: Sequence[str]) -> Row:
    """Returns the measurement of scores of a run, which `training` trains in `workdir`."""
    output = f"{{runs}}/scoring-{name}.json"
    command = Command(f"-m benchmarks.scoring_throughput --workdir={workdir} --json={output}", {"scores": output}, 2)
    figures = {f"{score}/{key}": ("scores", {"": score}, key) for score in scores for key in SCORING_FIGURES}
    return Row(name, commands=[training, command], figures=figures)


SCORING = Table(
    name="scoring_throughput",
    columns=SCORING_FIGURES,
    rows=[
        scoring("autoencoder", AUTOENCODER[0], "{runs}/autoencoder-seed{seed}", SCORED),
        scoring(
            "deep_cluster",
            protocol("deep_cluster", DIGITS, 30),
            "{runs}/deep_cluster-seed{seed}/0-seed{seed}",
            ("forward pass", "deep_cluster"),
        ),
    ],
    lines=[
        *(Line(name, f"autoencoder/{name}/{{column}}") for name in SCORED),
        Line("forward pass of `deep_cluster.cfg`", "deep_cluster/forward pass/{column}"),
        Line("deep_cluster, of `deep_cluster.cfg`", "deep_cluster/deep_cluster/{column}"),
    ],
)
