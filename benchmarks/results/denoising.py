"""The tables of denoising: MNIST and digits, and all methods on all noises."""

from collections.abc import Sequence

from benchmarks.results.definition import Key, Line, Row, Table, evaluate, train
from cae.tasks import BENCHMARK_NOISES, CLEAN

THREE_SEEDS = (0, 1, 2)

UNTIMED = {"minutes": "", "load": ""}
"""Cells of lines that show another result of a run which has a line already."""

METRICS = ("mse", "psnr", "ssim")
FORMATS = {"mse": "{:.5f}", "psnr": "{:.2f} dB", "ssim": "{:.3f}"}

FEW = "--baseline_images=100 --baseline_tuning_images=16"
"""Limits of quick evaluations."""

DENOISE = f"--tasks=denoise {FEW} --noise=gaussian:0.5"

AUTOENCODER = (
    train("autoencoder", "--flagfile=configs/autoencoder.cfg --epochs=5", 1.5),
    evaluate("autoencoder", "--outlier_datasets=fashion_mnist,folder:{omniglot}", 3),
)
"""The plain autoencoder and its whole evaluation, which rows of most tables share."""

QUICK_AUTOENCODER = (
    train("autoencoder", "--flagfile=configs/autoencoder.cfg --epochs=1", 0.7),
    evaluate(
        "autoencoder",
        "--outlier_datasets=fashion_mnist --max_outliers_per_set=500 --interpolation_pairs=50 --kmeans_n_init=5"
        f" --tsne_images=0 {FEW} --noise=gaussian:0.5",
        2,
    ),
)


def metrics_of(task: str) -> dict[str, Sequence[Key]]:
    """Returns the figures MSE, PSNR and SSIM of a task."""
    return {name: ("results", task, name) for name in METRICS}


def metrics_of_method(method: str) -> dict[str, Sequence[Key]]:
    """Returns the figures of a method that denoises the noise `gaussian:0.5`."""
    selected = {"method": method, "noise": "gaussian", "level": "0.5"}
    return {name: ("results", "denoise", "methods", selected, name) for name in METRICS}


def denoiser(
    name: str, flags: str, minutes: float, training: str, *, quick: str = "", seeds: Sequence[int] = (0,)
) -> Row:
    """Returns the row of a denoiser of `gaussian:0.5`.

    Args:
      name: Of the row and its folder.
      flags: Of the training.
      minutes: Of the training.
      training: What the page says of it.
      quick: The flags of --budget=quick, in which an epoch and an evaluation take two minutes; "" for none.
      seeds: Of the runs.
    """
    return Row(
        name=name,
        label=f"`python train.py {flags}`",
        commands=[train(name, flags, minutes), evaluate(name, DENOISE, 1.5)],
        quick=[train(name, quick, 1.3), evaluate(name, DENOISE, 0.8)] if quick else (),
        figures=metrics_of("denoise"),
        seeds=seeds,
        cells={"training": training},
    )


DIGITS = "--flagfile=configs/denoise.cfg --dataset=digits"

DENOISING = Table(
    name="denoising",
    columns={"minutes": ("minutes", ""), "load": ("load", ""), "training": ("training", "")}
    | {name: (name.upper(), spec) for name, spec in FORMATS.items()},
    corner="command",
    rows=[
        denoiser("denoise", "--flagfile=configs/denoise.cfg", 28, "noisy to clean, 100 epochs"),
        denoiser(
            "denoise_7",
            "--flagfile=configs/denoise.cfg --epochs=7",
            2,
            "noisy to clean",
            quick="--flagfile=configs/denoise.cfg --epochs=1",
            seeds=THREE_SEEDS,
        ),
        denoiser(
            "unet",
            "--flagfile=configs/unet.cfg",
            4.3,
            "noisy to clean, no latent vector",
            quick="--flagfile=configs/unet.cfg --epochs=1",
            seeds=THREE_SEEDS,
        ),
        denoiser(
            "unet_30", "--flagfile=configs/unet.cfg --precision=mixed_bfloat16 --epochs=66", 29, "the same, longer"
        ),
        denoiser("blind_denoise", "--flagfile=configs/blind_denoise.cfg", 15, "many noises to clean"),
        Row(
            name="autoencoder",
            label="`python train.py --flagfile=configs/autoencoder.cfg --epochs=5`",
            commands=AUTOENCODER,
            quick=QUICK_AUTOENCODER,
            figures=metrics_of("reconstruct"),
            needs=("mnist", "fashion_mnist"),
            seeds=THREE_SEEDS,
            cells={"training": "clean to clean"},
        ),
        Row(
            name="autoencoder_as_denoiser",
            label="the same run, as a denoiser",
            commands=AUTOENCODER,
            quick=QUICK_AUTOENCODER,
            figures=metrics_of("denoise"),
            needs=("mnist", "fashion_mnist"),
            seeds=THREE_SEEDS,
            cells=UNTIMED | {"training": "noisy to clean"},
        ),
        Row(
            name="digits",
            label="`make denoise` without a network: the bundled digits, 256 test images",
            commands=[train("digits", DIGITS, 3.1), evaluate("digits", "", 1.5)],
            quick=[train("digits", f"{DIGITS} --epochs=20", 0.8), evaluate("digits", DENOISE, 0.4)],
            figures=metrics_of("denoise"),
            needs=(),
            cells={"training": "noisy to clean, 100 epochs"},
        ),
        Row(
            name="noisy_input",
            label="the noisy input itself",
            commands=[
                train("denoise_7", "--flagfile=configs/denoise.cfg --epochs=7", 2),
                evaluate("denoise_7", DENOISE, 1.5),
            ],
            quick=[
                train("denoise_7", "--flagfile=configs/denoise.cfg --epochs=1", 1.3),
                evaluate("denoise_7", DENOISE, 0.8),
            ],
            figures=metrics_of_method("noisy input"),
            cells=UNTIMED,
        ),
    ],
)

# --- All methods on all noises ----------------------------------------------------------------------------------------

NOISES = {
    "gaussian:0.1": "gaussian 0.1", "gaussian:0.3": "gaussian 0.3", "gaussian:0.5": "gaussian 0.5",
    "gaussian:0.8": "gaussian 0.8", "salt_pepper:0.2": "impulse 0.2", "salt_pepper:0.5": "impulse 0.5",
    "uniform:0.5": "uniform 0.5", "speckle:0.5": "speckle 0.5", "poisson:0.1": "poisson 0.1",
    "column_noise:0.2": "column 0.2", "masking:0.5": "masking 0.5",
}  # fmt: skip
assert {*NOISES} <= {*BENCHMARK_NOISES}

METHODS = {
    "noisy input": "noisy input", "unet": "`unet.cfg`", "unet_01": "`unet.cfg --noise=gaussian:0.1`",
    "this model": "`blind_denoise.cfg`", "autoencoder": "`autoencoder.cfg`, clean to clean", "median": "median",
    "gaussian": "Gaussian", "bilateral": "bilateral", "non-local means": "non-local means",
    "total variation": "total variation", "wavelet": "wavelet",
}  # fmt: skip
"""Labels by method; models but for the evaluated one are named as their run without its seed."""

RUNS = ("autoencoder", "unet", "unet_01")
"""The models that are compared with the evaluated one."""

TRAINED_ON = {
    "unet": ("gaussian:0.5",),
    "unet_01": ("gaussian:0.1",),
    "this model": tuple(each for each in NOISES if each[:4] in ("gaus", "salt")),
}

ACCURACY, SECONDS = "classifier_accuracy", "seconds_per_1000_images"

COMPARED = ",".join(f"{{runs}}/{run}-seed{{seed}}" for run in RUNS)
COMPARISON = evaluate("blind_denoise", f"--tasks=denoise --compare={COMPARED}", 7)


def benchmark_path(method: str, noise: str, key: str = "psnr") -> Sequence[Key]:
    """Returns the path of the PSNR, or another figure, of a method on a noise."""
    name, _, level = noise.partition(":")
    method = f"{method}-seed0" if method in RUNS else method
    return "results", "denoise", "methods", {"method": method, "noise": name, "level": level}, key


BENCHMARK = Table(
    name="denoising_benchmark",
    columns={noise: (title, "{:.1f}") for noise, title in NOISES.items()},
    rows=[
        Row(
            name="psnr",
            commands=[
                train("blind_denoise", "--flagfile=configs/blind_denoise.cfg", 15),
                train("unet", "--flagfile=configs/unet.cfg", 4.3),
                train("unet_01", "--flagfile=configs/unet.cfg --noise=gaussian:0.1", 4.3),
                AUTOENCODER[0],
                COMPARISON,
            ],
            figures={f"{method}/{noise}": benchmark_path(method, noise) for method in METHODS for noise in NOISES}
            | {f"{method}/accuracy": benchmark_path(method, "gaussian:0.5", ACCURACY) for method in METHODS}
            | {f"{method}/seconds": benchmark_path(method, "gaussian:0.5", SECONDS) for method in METHODS}
            | {"clean/accuracy": benchmark_path("noisy input", CLEAN, ACCURACY)},
        )
    ],
    lines=[
        Line(label, f"psnr/{method}/{{column}}", marked=TRAINED_ON.get(method, ())) for method, label in METHODS.items()
    ],
)
