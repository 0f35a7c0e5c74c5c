"""The tables of docs/performance.md that compare trainings: time to a given error, and error after a given time."""

from collections.abc import Sequence

from benchmarks.results.definition import Command, Key, Line, Row, Table

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
        for_a_time("baseline", "baseline_tuned", "baseline CNN: strided convolutions, mirrored", CLEAN, 2.5),
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

# --- Keras' example ---------------------------------------------------------------------------------------------------

KERAS_FIGURES = {
    "epochs": ("epochs", "{:.1f}"),
    "seconds": ("seconds", "{:.0f}"),
    "loss": ("test cross-entropy", "{:.4f}"),
    "psnr": ("PSNR", "{:.2f} dB"),
}
KERAS_CURVES = {
    ("keras_example", 1): ("Keras' example", 391),
    ("keras_example", 5): ("Keras' example", 1955),
    ("unet", 0.5): ("`unet`", 391),
    ("unet", 1): ("`unet`", 782),
}
"""Label and steps by recipe and epochs, which are rounded: an epoch of `unet` ends with a whole step."""

KERAS_EXAMPLE = Table(
    name="keras_example",
    columns=KERAS_FIGURES,
    rows=[
        recipe(
            "curves",
            "",
            "--flagfile=configs/unet.cfg --recipes=keras_example,unet --epochs=1 --baseline_epochs=5"
            " --evaluations_per_epoch=2 --eval_split=test",
            5,
            {
                f"{name}/{epochs}/{key}": ("curves", {"recipe": name, "steps": steps}, key)
                for (name, epochs), (_, steps) in KERAS_CURVES.items()
                for key in KERAS_FIGURES
            },
        )
    ],
    lines=[
        *(Line(label, f"curves/{name}/{epochs}/{{column}}") for (name, epochs), (label, _) in KERAS_CURVES.items()),
        Line("Keras' example, published", "keras_example/{column}"),
    ],
)
