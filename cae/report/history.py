"""How training went, from metrics.jsonl to a part of the page."""

import json
from pathlib import Path
from typing import Any

from cae.report.figures import curves
from cae.report.page import Section


def read(path: Path) -> list[dict[str, float]]:
    """Returns what metrics.jsonl holds, a dict an epoch; nothing where there is none."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def section(epochs: list[dict[str, float]]) -> Section:
    """Returns the curves of loss and PSNR against the epoch."""

    def points(name: str) -> list[tuple[float, float]]:
        return [(each["epoch"], each[name]) for each in epochs]

    losses = {name: points(f"{name}/loss") for name in ("train", "validation")}
    qualities = {name: points(f"{name}/psnr") for name in ("train", "validation")}
    return Section(
        name="training",
        title="Training",
        figures={
            "loss": (
                "Loss by epoch; in training, the mean over the epoch",
                # A loss in dB is negative, and a logarithm already.
                curves(losses, "epoch", "loss", log=all(loss > 0 for line in losses.values() for _, loss in line)),
            ),
            "psnr": (
                "PSNR by epoch: the validation split, and the first training images measured alike",
                curves(qualities, "epoch", "PSNR (dB)"),
            ),
        },
        tables={"epochs": epochs},
    )


def facts(record: dict[str, Any], step: int, epochs: list[dict[str, float]], parameters: int) -> dict[str, str]:
    """Returns what the page says of a run: its data, its model, how it was trained and with which versions."""
    dataset = record["dataset"]
    best = next((each["epoch"] for each in epochs if each["step"] == step), "?")
    return {
        "data set": f"{dataset['name']}, images {'x'.join(map(str, dataset['image_shape']))}",
        "splits": "; ".join(f"{name} {s['images']:,} ({s['origin']})" for name, s in dataset["splits"].items()),
        "files left out": ", ".join(dataset["skipped"]) or "none",
        "parameters": f"{parameters:,}",
        "checkpoint": f"step {step:,}, epoch {best} of {len(epochs)}: the least validation loss",
        "training time": f"{sum(each['seconds'] for each in epochs) / 60:.1f} minutes",
        "settings": ", ".join(f"{name}={value}" for name, value in record["settings"].items() if value is not None),
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
    }
