"""Configurations that earlier versions wrote, under today's names."""

from collections.abc import Mapping
from typing import Any

RENAMED = {
    "classes": "normal_classes",
    "width": "base_filters",
    "strategy": "distribution_strategy",
    "records_dir": "cache_dir",
    "checkpoint_minutes": "checkpoint_interval_minutes",
    "pictures_every": "image_summary_epochs",
}
"""Fields that had another name in the config.json of earlier versions."""

RENAMED_VALUES = {
    "loss": {"cross_entropy": "binary_crossentropy", "psnr": "neg_psnr"},
    "distribution_strategy": {"single": "one_device", "multiworker": "multi_worker_mirrored"},
}

RENAMED_NOISES = {"warp:": "affine:", "stripes:": "column_noise:", "mask:": "masking:"}


def upgrade(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a config.json under today's names and with today's values."""
    current = {RENAMED.get(name, name): value for name, value in saved.items()}
    for name, renamed in RENAMED_VALUES.items():
        if name in current:
            current[name] = renamed.get(current[name], current[name])
    for old, new in RENAMED_NOISES.items():
        current["noise"] = (current.get("noise") or "").replace(old, new) or None
    return current
