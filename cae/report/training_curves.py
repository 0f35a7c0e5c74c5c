"""The training curves of a run, as a section of the report."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from cae.report.charts import line_chart
from cae.report.report import Section

_CLASSIFICATION = "validation/classification_loss"


def training_section(epochs: Sequence[Mapping[str, float]]) -> Section:
    """Returns the curves of loss and PSNR over the epochs; the epochs of a classifier have a figure of their own."""
    classified = [epoch for epoch in epochs if _CLASSIFICATION in epoch]
    reconstructed = [epoch for epoch in epochs if _CLASSIFICATION not in epoch]
    caption = "Loss by epoch; the training loss is the epoch's mean"
    figures = {"loss": (caption, _loss_chart(reconstructed, "loss"))}
    if classified:
        caption = "Cross-entropy of pseudo-labels by epoch, of the classifier that is trained after the autoencoder"
        figures["classification_loss"] = caption, _loss_chart(classified, "cross-entropy (nats)")
    caption = "PSNR by epoch, of the validation split and of the first training images alike"
    figures["psnr"] = caption, line_chart(_lines(epochs, "psnr"), "epoch", "PSNR (dB)")
    rates = [(epoch["epoch"], epoch["learning_rate"]) for epoch in epochs if epoch.get("learning_rate")]
    if rates:
        caption = "Learning rate at the end of each epoch"
        figures["learning_rate"] = caption, line_chart({"learning rate": rates}, "epoch", "learning rate", log=True)
    return Section(
        name="training",
        title="Training",
        figures=figures,
        tables={"epochs": [dict(epoch) for epoch in epochs]},
        sources=dict.fromkeys(figures, "epochs"),
    )


def _loss_chart(epochs: Sequence[Mapping[str, float]], name: str) -> Figure:
    lines = _lines(epochs, "loss")
    # A loss in dB is negative, and a logarithm already.
    return line_chart(lines, "epoch", name, all(loss > 0 for line in lines.values() for _, loss in line))


def _lines(epochs: Sequence[Mapping[str, float]], name: str) -> dict[str, list[tuple[float, float]]]:
    return {
        split: [(epoch["epoch"], epoch[f"{split}/{name}"]) for epoch in epochs] for split in ("train", "validation")
    }
