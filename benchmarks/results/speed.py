"""The tables of docs/performance.md: throughput, convergence, scoring."""

from collections.abc import Sequence

from benchmarks.cases import CASES
from benchmarks.results.definition import Command, Key, Line, Row, Table
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
"""The rates of cases that are no training steps."""

TENSORFLOW_CASES = {
    "train": "training step, noise sampled in the pipeline",
    "train_xla": "the same, compiled by XLA (`--jit_compile`)",
    "train_mirrored": "the same, two logical replicas",
    "fit": "Keras `fit` of the same model on arrays, no noise",
    "fit_noise": "Keras `fit` with the same noise",
    "forward": "forward pass, this repository",
    "input_pipeline": "input pipeline alone, with noise",
}
TORCH_CASES = {
    "torch": "PyTorch, eager",
    "torch_fused": "PyTorch, channels last, fused Adam",
    "torch_compile": "PyTorch, the same, `torch.compile`",
    "torch_forward": "forward pass, PyTorch",
}
"""PyTorch is optional."""

ALL_CASES = Command(
    "-m benchmarks.throughput --flagfile=configs/denoise.cfg --json={runs}/throughput.json",
    {"cases": "{runs}/throughput.json"},
    5,
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
            if key in MEASURED.get(CASES[case].unit, RATES)
        },
        packages=packages,
    )


THROUGHPUT = Table(
    name="throughput",
    columns=RATES,
    corner="MNIST, batches of 128, float32",
    rows=[throughput("tensorflow", [*TENSORFLOW_CASES], ()), throughput("torch", [*TORCH_CASES], ("torch",))],
    lines=[
        Line(
            (TENSORFLOW_CASES | TORCH_CASES)[case],
            f"{'torch' if case in TORCH_CASES else 'tensorflow'}/{case}/{{column}}",
        )
        for case in CASES
        if case in TENSORFLOW_CASES | TORCH_CASES
    ],
)

# --- Convergence ------------------------------------------------------------------------------------------------------

MUON = "--optimizer=muon --learning_rate=0.0025 --batch_size=64"


def recipe(name: str, label: str, flags: str, minutes: float, figures: dict[str, Sequence[Key]]) -> Row:
    """Returns the measurement of recipes by `benchmarks.convergence`, in figures of its table `curves`."""
    output = f"{{runs}}/convergence-{name}.json"
    command = Command(f"-m benchmarks.convergence {flags} --json={output}", {"curves": output}, minutes)
    return Row(name, label, [command], figures)


def ends(name: str) -> dict[str, Sequence[Key]]:
    """Returns the figures of a recipe at its end, on the validation and the test split."""
    test = {"recipe": f"{name}, test"}
    keys = {"weights": "weights", "steps": "steps", "seconds": "seconds", "epochs": "epochs", "test_mse": "mse"}
    return {figure: ("curves", test, key) for figure, key in keys.items()} | {
        figure: ("curves", -2, key) for figure, key in {"mse": "mse", "psnr": "psnr", "ssim": "ssim"}.items()
    }


def to_baseline_error(name: str, recipe_name: str, label: str, flags: str, minutes: float) -> Row:
    """Returns the row of a recipe, clean to clean."""
    flags = f"--flagfile=configs/autoencoder.cfg --recipes={recipe_name} {flags}".strip()
    return recipe(name, label, flags, minutes, ends(recipe_name))


CONVERGENCE = Table(
    name="convergence",
    columns={
        "seconds": ("seconds", "{:.1f}"),
        "epochs": ("epochs", "{:.0f}"),
        "mse": ("validation MSE", "{:.5f}"),
        "test_mse": ("test MSE", "{:.5f}"),
    },
    corner="recipe",
    rows=[
        to_baseline_error("baseline", "baseline", "`--recipes=baseline`", "", 2.5),
        to_baseline_error("conv_muon", "conv", f"`--recipes=conv --epochs=1 {MUON}`", f"--epochs=1 {MUON}", 1.5),
        to_baseline_error(
            "baseline_muon",
            "baseline_tuned",
            "`--recipes=baseline_tuned --baseline_epochs=1 ...`, the same flags",
            f"--baseline_epochs=1 {MUON}",
            1.2,
        ),
        to_baseline_error("conv", "conv", "`--recipes=conv --epochs=2` (Adam, cosine)", "--epochs=2", 2),
        to_baseline_error(
            "baseline_tuned",
            "baseline_tuned",
            "`--recipes=baseline_tuned --baseline_epochs=4`, the same schedule",
            "--baseline_epochs=4",
            2.5,
        ),
    ],
)

AT_LAST = {
    "weights": ("parameters", "{:,.0f}"),
    "steps": ("steps", "{:,.0f}"),
    "mse": ("validation MSE", "{:.5f}"),
    "psnr": ("PSNR", "{:.2f} dB"),
    "ssim": ("SSIM", "{:.3f}"),
}


def for_a_time(name: str, recipe_name: str, label: str, flags: str, minutes: float) -> Row:
    """Returns the row of an architecture that is trained for a time."""
    return recipe(name, label, f"--recipes={recipe_name} {flags}", minutes, ends(recipe_name))


CLEAN = "--seconds=100 --learning_rate=0.004"
NOISY = "--seconds=45 --noise=gaussian:0.5 --batch_size=64"

EQUAL_TIME = Table(
    name="equal_time",
    columns=AT_LAST,
    corner="architecture",
    rows=[
        for_a_time("baseline", "baseline", "baseline CNN: strided convolutions, mirrored", CLEAN, 2.5),
        for_a_time("conv", "conv", "`conv`: space-to-depth, residual blocks, mirrored", CLEAN, 2.5),
    ],
)

DENOISERS = Table(
    name="equal_time_denoisers",
    columns=AT_LAST,
    corner="architecture",
    rows=[
        for_a_time("unet", "unet", "`unet`, Muon", f"{NOISY} --optimizer=muon --learning_rate=0.005", 1.5),
        for_a_time("dncnn", "dncnn", "`dncnn`, Muon", f"{NOISY} --optimizer=muon --learning_rate=0.005", 1.5),
        for_a_time("unet_adam", "unet", "`unet`, Adam", f"{NOISY} --optimizer=adam --learning_rate=0.002", 1.5),
    ],
)

# --- Scoring ----------------------------------------------------------------------------------------------------------

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
