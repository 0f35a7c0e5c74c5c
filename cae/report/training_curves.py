"""The training curves of a run, as a section of the report."""

from collections.abc import Mapping, Sequence

from cae.report.charts import line_chart
from cae.report.report import Section


def training_section(epochs: Sequence[Mapping[str, float]]) -> Section:
    """Returns the curves of loss and PSNR over the epochs."""
    losses, psnrs = (
        {split: [(epoch["epoch"], epoch[f"{split}/{name}"]) for epoch in epochs] for split in ("train", "validation")}
        for name in ("loss", "psnr")
    )
    # A loss in dB is negative, and a logarithm already.
    log = all(loss > 0 for line in losses.values() for _, loss in line)
    return Section(
        name="training",
        title="Training",
        figures={
            "loss": ("Loss by epoch; the training loss is the epoch's mean", line_chart(losses, "epoch", "loss", log)),
            "psnr": (
                "PSNR by epoch, of the validation split and of the first training images alike",
                line_chart(psnrs, "epoch", "PSNR (dB)"),
            ),
        },
        tables={"epochs": [dict(epoch) for epoch in epochs]},
    )
