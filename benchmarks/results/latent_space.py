"""The tables of interpolation, latent vectors, latent dimensions, and rate and distortion."""

from collections.abc import Sequence

from benchmarks.results.definition import Command, Key, Line, Row, Table, evaluate, train
from benchmarks.results.denoising import AUTOENCODER, QUICK_AUTOENCODER, THREE_SEEDS, UNTIMED

QUICK_EVALUATION = "--tasks=interpolate,latents --interpolation_pairs=50 --kmeans_n_init=5 --tsne_images=0"

RUNS = {
    "affine_invariant": [
        train("affine_invariant", "--flagfile=configs/affine_invariant.cfg", 16),
        evaluate("affine_invariant", "--tasks=latents", 1),
    ],
    "acai": [
        train("acai", "--flagfile=configs/acai.cfg", 15),
        evaluate("acai", "--tasks=interpolate,latents", 1),
    ],
    "vae": [
        train("vae", "--flagfile=configs/vae.cfg", 2.5),
        evaluate("vae", "--tasks=interpolate,latents", 1),
    ],
    "autoencoder": AUTOENCODER,
}  # fmt: skip

QUICK_RUNS = {
    "vae": [train("vae", "--flagfile=configs/vae.cfg --epochs=1", 0.7), evaluate("vae", QUICK_EVALUATION, 1)],
    "autoencoder": QUICK_AUTOENCODER,
}

SEEDS = {"vae": THREE_SEEDS, "autoencoder": THREE_SEEDS}

NEEDS = {"autoencoder": ("mnist", "fashion_mnist")}

# --- Interpolation ----------------------------------------------------------------------------------------------------

PATH_METRICS = {
    "nn_distance_ratio": ("nearest-neighbor distance ratio", "{:.3f}"),
    "confidence": ("confidence", "{:.3f}"),
    "num_distinct_labels": ("distinct labels", "{:.2f}"),
    "max_step_ratio": ("max step ratio", "{:.2f}"),
    "endpoint_mse": ("endpoint MSE", "{:.5f}"),
}


def interpolation(name: str, label: str, run: str, method: str) -> Row:
    """Returns the row of a method of interpolation between digits of different classes."""
    selected = {"pair_type": "different_class", "method": method}
    return Row(
        name=name,
        label=label,
        commands=RUNS[run],
        quick=QUICK_RUNS.get(run, ()),
        figures={key: ("results", "interpolate", "methods", selected, key) for key in PATH_METRICS},
        seeds=SEEDS.get(run, (0,)),
        needs=NEEDS.get(run, ("mnist",)),
        cells=UNTIMED if name in ("acai_slerp", "pixels") else {},
    )


INTERPOLATION = Table(
    name="interpolation",
    columns={"minutes": ("minutes of training", ""), "load": ("load", "")} | PATH_METRICS,
    rows=[
        interpolation("acai", "`acai.cfg`, lerp", "acai", "lerp"),
        interpolation("acai_slerp", "the same, slerp", "acai", "slerp"),
        interpolation("vae", "`vae.cfg`, lerp", "vae", "lerp"),
        interpolation("autoencoder", "`autoencoder.cfg --epochs=5`, lerp", "autoencoder", "lerp"),
        interpolation("pixels", "pixel-space interpolation", "acai", "pixel_blend"),
    ],
)

# --- Latent vectors ---------------------------------------------------------------------------------------------------

LATENT_METRICS = {
    "linear_probe_accuracy": ("linear probe accuracy", "{:.2%}"),
    "cluster_accuracy": ("cluster accuracy, whitened", "{:.2%}"),
    "cluster_accuracy_unwhitened": ("cluster accuracy, not whitened", "{:.2%}"),
    "n_components_99": ("components that hold 99% of the variance", "{:.0f}"),
    "participation_ratio": ("participation ratio", "{:.1f}"),
    "mse": ("test MSE", "{:.5f}"),
    "pca_mse": ("MSE of as many principal components", "{:.5f}"),
}


def latents(run: str) -> Row:
    """Returns the measurement of a model's latent vectors."""
    figures: dict[str, Sequence[Key]] = {key: ("results", "latents", key) for key in LATENT_METRICS}
    if run == "vae":
        figures["train_loss"] = ("training", -1, "train/loss")
    return Row(
        name=run,
        commands=RUNS[run],
        quick=QUICK_RUNS.get(run, ()),
        figures=figures,
        seeds=SEEDS.get(run, (0,)),
        needs=NEEDS.get(run, ("mnist",)),
    )


LATENTS = Table(
    name="latents",
    columns={
        "affine_invariant": ("`affine_invariant.cfg`", ""),
        "acai": ("`acai.cfg`", ""),
        "vae": ("`vae.cfg`", ""),
        "autoencoder": ("`autoencoder.cfg --epochs=5`", ""),
        "published": ("ACAI as published", ""),
    },
    rows=[latents(run) for run in RUNS],
    lines=[
        Line("minutes of training", "{column}/minutes"),
        Line("load", "{column}/load"),
        *(Line(title, f"{{column}}/{key}", spec) for key, (title, spec) in LATENT_METRICS.items()),
    ],
)

# --- Latent dimension -------------------------------------------------------------------------------------------------

LATENT_DIMS = (2, 4, 8, 16, 32, 64)
DIM_METRICS = {
    "mse": "test MSE after 6 epochs",
    "pca_mse": "as many principal components",
    "mse_over_pca_mse": "the first divided by the second",
}
SWEEP = Command(
    "-m benchmarks.latent_dim_sweep --flagfile=configs/autoencoder.cfg --epochs=6 --sweep_dir={runs}/latent_dim_sweep",
    {"sweep": "{runs}/latent_dim_sweep/latent_dims.csv"},
    21,
    "{runs}/latent_dim_sweep",
)

LATENT_DIM = Table(
    name="latent_dim",
    columns={str(dim): (str(dim), "{:#.3g}") for dim in LATENT_DIMS},
    corner="latent dimensions",
    rows=[
        Row(
            name="sweep",
            commands=[SWEEP],
            figures={f"{key}/{dim}": ("sweep", {"latent_dim": dim}, key) for key in DIM_METRICS for dim in LATENT_DIMS},
        )
    ],
    lines=[Line(title, f"sweep/{key}/{{column}}") for key, title in DIM_METRICS.items()],
)

# --- Color ------------------------------------------------------------------------------------------------------------

CODES = {
    "latent vector, 2 bits a dimension": ("latent vector", "2 bits a dimension", "bits_per_pixel"),
    "4 bits": ("latent vector", "4 bits a dimension", "bits_per_pixel"),
    "8 bits": ("latent vector", "8 bits a dimension", "bits_per_pixel"),
    "JPEG, quality 5, without headers": ("JPEG", "quality 5", "without_headers"),
    "quality 20, without headers": ("JPEG", "quality 20", "without_headers"),
    "quality 1, the whole file": ("JPEG", "quality 1", "bits_per_pixel"),
}
"""Method, setting and column of bits by label."""

RATE_METRICS = {"bits": ("bits per pixel", "{:.3g}"), "psnr": ("PSNR", "{:.2f} dB"), "ssim": ("SSIM", "{:.3f}")}

COLOR = Table(
    name="color",
    columns={"minutes": ("minutes", ""), "load": ("load", ""), "psnr": ("PSNR", "{:.1f} dB")},
    rows=[
        Row(
            name="color_autoencoder",
            label="`color_autoencoder.cfg`, 8,334 images of CIFAR-10",
            commands=[
                train("color_autoencoder", "--flagfile=configs/color_autoencoder.cfg --dataset=folder:{cifar10}", 3),
                evaluate("color_autoencoder", "--tasks=reconstruct", 1),
            ],
            figures={"psnr": ("results", "reconstruct", "psnr")}
            | {
                f"{key}/{label}": ("rates", {"method": method, "setting": setting}, bits if key == "bits" else key)
                for label, (method, setting, bits) in CODES.items()
                for key in RATE_METRICS
            },
            needs=(),
        )
    ],
)

RATES = Table(
    name="rate_distortion",
    source=COLOR.name,
    columns=RATE_METRICS,
    rows=COLOR.rows,
    lines=[Line(label, f"color_autoencoder/{{column}}/{label}") for label in CODES],
)
