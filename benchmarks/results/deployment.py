"""The tables of docs/deployment.md and docs/distributed.md: exported files beside the model, and Apache Beam."""

from collections.abc import Sequence

from benchmarks.results.definition import Command, Key, Line, Row, Table, train
from benchmarks.results.outliers import TRAININGS

MODELS = {
    "denoise_2": ("conv, denoise", "fisher", TRAININGS["denoise_2"]),
    "autoencoder": (
        "conv, autoencoder",
        "knn",
        train("autoencoder_knn", "--flagfile=configs/autoencoder.cfg --epochs=5", 1.5),
    ),
    "vae": ("vae, vae", "mahalanobis", train("vae_mahalanobis", "--flagfile=configs/vae.cfg", 2.5)),
    "unet_1": ("unet, unet", "denoising", train("unet_1", "--flagfile=configs/unet.cfg --epochs=1", 1.2)),
    "dncnn_1": (
        "dncnn, dncnn",
        "ssim",
        train("dncnn_1", "--model=dncnn --dataset=mnist --noise=gaussian:0.5 --epochs=1", 4),
    ),
}
"""Label, score of the detector, and training of each row's run.

A run has the detector that was fitted last: those with a score that is not the default are runs of their own.
"""

OUTPUTS = {
    "denoise": "denoised", "encode": "codes", "decode": "images", "reconstruct": "reconstructed", "detect": "score"
}  # fmt: skip
"""The output of each function that is compared with the model's."""

FILES = {
    "saved_model/float32": ("SavedModel", OUTPUTS),
    "onnx/float32": ("ONNX", OUTPUTS),
    "litert/float32": ("LiteRT float32", OUTPUTS),
    "litert/float16": ("LiteRT float16", ("denoise", "encode", "decode")),
    "litert/int8": ("LiteRT int8", ("denoise", "encode", "decode")),
    "keras/float32": ("`model.keras`", ("denoise", "encode", "decode", "reconstruct")),
}
"""Label and functions of each format and precision."""

ALPHAS = ("0.01", "0.05")

FILE_METRICS = {
    "bytes": ("bytes", "{:,.0f}"),
    "largest": ("largest difference", "{:.1e}"),
    "milliseconds": ("one image", "{:.2f} ms"),
}


def export(
    name: str, score: str, training: Command, formats: str = "saved_model,onnx,litert,keras", functions: str = ""
) -> list[Command]:
    """Returns the commands that train a run, fit its detector, and export both; functions: all that there are."""
    workdir = training.resumes
    folder = f"{{runs}}/export-{name}-{score}-seed{{seed}}"
    selected = f" --functions={functions}" * bool(functions)
    words = f"-m cae.export --workdir={workdir} --format={formats}{selected} --output={folder}"
    detector = Command(f"eval.py --workdir={workdir} --tasks=outliers --score={score}", {}, 1.5)
    return [training, detector, Command(words, {"export": f"{folder}/export.json"}, 2, folder)]


def files(name: str) -> dict[str, Sequence[Key]]:
    """Returns the figures of an export: `KEY/FORMAT/PRECISION/FUNCTION` of its files, and `fpr/ALPHA`."""
    figures: dict[str, Sequence[Key]] = {}
    for kind, (_, functions) in FILES.items():
        file_format, precision = kind.split("/")
        for function in functions:
            # U-Net and DnCNN have no latent vectors.
            if function in ("denoise", "detect") or name not in ("unet_1", "dncnn_1"):
                file = "export", "files", {"format": file_format, "precision": precision, "function": function}
                paths = {"largest": (*file, "largest_difference", OUTPUTS[function])}
                paths |= {key: (*file, key) for key in FILE_METRICS if key not in paths}
                figures |= {f"{key}/{kind}/{function}": path for key, path in paths.items()}
    decisions = ("export", "detector", "decisions")
    return figures | {f"fpr/{alpha}": (*decisions, alpha, "false_positive_rate") for alpha in ALPHAS}


PARITY = Table(
    name="export_parity",
    columns={f"max:largest/{kind}/": (label, "{:.1e}") for kind, (label, _) in FILES.items() if "keras" not in kind}
    | {f"fpr/{alpha}": (f"FPR at {alpha}", "{:.4f}") for alpha in ALPHAS},
    corner="model (detector's score)",
    rows=[
        Row(name, f"{label} ({score})", export(name, score, training), files(name))
        for name, (label, score, training) in MODELS.items()
    ],
)

EXPORTED_FILES = Table(
    name="export_files",
    source="export_parity",
    columns=FILE_METRICS,
    corner="file of `denoise.cfg`",
    rows=PARITY.rows[:1],
    lines=[
        Line(f"{label}, {function}", f"denoise_2/{{column}}/{kind}/{function}")
        for kind, (label, functions) in FILES.items()
        for function in functions
    ],
)
"""A SavedModel and a `model.keras` have all functions in one file, whose bytes are those of all."""

# --- One image --------------------------------------------------------------------------------------------------------

TIMED = [(function, program) for function in ("denoise", "detect") for program in ("Python", "ONNX")]


def single_image(name: str, label: str, score: str, training: Command) -> Row:
    """Returns the row of a model's times for one image."""
    commands = export(name, score, training)
    output = f"{{runs}}/single_image-{name}.json"
    words = f"-m benchmarks.single_image --workdir={training.resumes} --export={commands[-1].resumes} --json={output}"
    figures: dict[str, Sequence[Key]] = {}
    for function, program in TIMED:
        selected = {"function": function, "program": program}
        figures[f"{function}/{program}"] = "times", selected, "fastest ms"
        if program == "ONNX":
            figures[f"{function}/ratio"] = "times", selected, "ratio"
    return Row(name, f"{label} ({score})", [*commands, Command(words, {"times": output}, 0.3)], figures)


SINGLE_IMAGE = Table(
    name="single_image",
    columns={
        "denoise/Python": ("`run.denoise`", "{:.2f} ms"),
        "denoise/ONNX": ("`denoise.onnx`", "{:.2f} ms"),
        "denoise/ratio": ("ratio", "{:.1f}"),
        "detect/Python": ("`run.is_inlier`", "{:.2f} ms"),
        "detect/ONNX": ("`detect.onnx`", "{:.2f} ms"),
        "detect/ratio": ("ratio", "{:.1f}"),
    },
    corner="model (detector's score)",
    rows=[single_image(name, *model) for name, model in MODELS.items()],
)

# --- Apache Beam ------------------------------------------------------------------------------------------------------

TRAINING = train("autoencoder_mse", "--flagfile=configs/autoencoder.cfg --epochs=5", 1.5)
EXPORTED = export("autoencoder_mse", "mse", TRAINING, "saved_model", "detect")

BEAM = Table(
    name="beam",
    columns={"images/s": ("images/s", "{:,.0f}"), "worker MiB": ("memory of a worker", "{:,.0f} MiB")},
    rows=[
        Row(
            name="autoencoder",
            commands=[
                *EXPORTED,
                Command(
                    f"-m benchmarks.beam_prediction --workdir={TRAINING.resumes}"
                    f" --saved_model={EXPORTED[-1].resumes} --json={{runs}}/beam_prediction.json",
                    {"beam": "{runs}/beam_prediction.json"},
                    6,
                ),
            ],
            figures={
                f"{program}/images/s": ("beam", {"program": program, "images": images}, "images/s")
                for program, images in {"cae.beam": 60_000, "plain loop": 60_000, "cae.predict": 1200}.items()
            }
            | {"cae.beam/worker MiB": ("beam", {"program": "cae.beam", "images": 60_000}, "worker MiB")},
        )
    ],
    lines=[
        Line(label, f"autoencoder/{program}/{{column}}")
        for program, label in {
            "cae.beam": "`cae.beam`, Beam's local runner with two processes",
            "plain loop": "a plain loop in one process over the same functions",
            "cae.predict": "`cae.predict`, which draws an anomaly map for each image",
        }.items()
    ],
)
