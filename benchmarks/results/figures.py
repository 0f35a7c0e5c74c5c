"""The figures of all tables by path, as texts: single values, or mean and range over seeds."""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import records

PUBLISHED = "published"
"""The file of figures of publications: by table and row label, source, conditions and figures."""

NO_FIGURE = ""

EXTREMES = {"min": min, "max": max}


class Figures:
    """Figures of measurements and of publications by paths `TABLE/ROW/FIGURE`.

    `minutes` and `load` as figures are those of a row's first command, which is its training. In a figure
    `mean:1,2` stands for the mean over several names, `min:PREFIX` and `max:PREFIX` for the smallest and the largest
    value with a prefix, unless there is a figure of exactly that name.

    Figures whose precision is that of their source are texts.

    Args:
      folder: The folder of the tables' files.
    """

    def __init__(self, folder: Path = records.TABLES):
        names = [path.stem for path in folder.glob("*.json") if path.stem != PUBLISHED]
        self.tables = {name: records.load_table(name, folder) for name in names}
        self.published: Mapping[str, Mapping[str, Any]] = records.load_table(PUBLISHED, folder)

    def records(self, table: str, row: str, seed: int | None = None) -> list[records.Record]:
        """Returns the measurements of a row, those of all seeds for None."""
        found = self.tables.get(table, {}).get(row, [])
        return [record for record in found if seed in (None, record["seed"])]

    def values(self, path: str, seed: int | None = None) -> list[float | str]:
        """Returns a figure of each seed, without those that are missing."""
        table, row, name = path.split("/", 2)
        found = [record["figures"] for record in self.records(table, row, seed)]
        found += [self.published[table][row]["figures"]] if row in self.published.get(table, {}) else []
        values = [_get(figures, name) for figures in found]
        return [value for value in values if value is not None]

    def minutes(self, path: str) -> str:
        """Returns the minutes of the training of a row `TABLE/ROW`, the mean over seeds, with two digits at most."""
        commands = [record["commands"][0] for record in self.records(*path.split("/", 1))]
        return format_minutes([each["minutes"] for each in commands if each["minutes"] is not None])

    def load(self, path: str) -> str:
        """Returns the load average at the start and the end of the training of a row `TABLE/ROW`, means over seeds.

        Where it was not recorded, remarks stand instead.
        """
        commands = [record["commands"][0] for record in self.records(*path.split("/", 1))]
        if commands and all(each["load"] for each in commands):
            return format_load(
                {"load": [statistics.fmean(loads) for loads in zip(*(each["load"] for each in commands))]}
            )
        return "; ".join(dict.fromkeys(filter(None, map(format_load, commands))))

    def text(self, path: str, spec: str, seed: int | None = None) -> str:
        """Returns a figure as a text, empty if it is missing.

        Args:
          path: `TABLE/ROW/FIGURE`.
          spec: A format string, such as `"{:.2f} dB"`.
          seed: Of the measurement; None for mean and range over all.
        """
        parent, _, name = path.rpartition("/")
        if name in ("minutes", "load"):
            return getattr(self, name)(parent)
        return format_values(self.values(path, seed), spec)


def _get(figures: Mapping[str, float], name: str) -> float | None:
    """Returns a figure, or the aggregate that its name describes; None where there is none."""
    if name in figures:
        return figures[name]
    if found := re.fullmatch(r"(.*)mean:([^/]*)(.*)", name):
        values = [figures.get(f"{found[1]}{each}{found[3]}") for each in found[2].split(",")]
        return statistics.fmean(values) if all(isinstance(value, int | float) for value in values) else None
    kind, _, prefix = name.partition(":")
    if kind in EXTREMES:
        return EXTREMES[kind]((value for key, value in figures.items() if key.startswith(prefix)), default=None)
    return None


def format_values(values: Sequence[float | str], spec: str) -> str:
    """Returns a value, or of several the mean, the smallest and the largest; a text, as it was published, as it is."""
    if not values:
        return NO_FIGURE
    if len(values) == 1:
        return values[0] if isinstance(values[0], str) else spec.format(values[0])
    number = spec[: spec.index("}") + 1]
    return f"{spec.format(statistics.fmean(values))} ({number.format(min(values))} to {number.format(max(values))})"


def format_minutes(minutes: Sequence[float]) -> str:
    """Returns the mean of minutes, in whole minutes from ten on."""
    if not minutes:
        return NO_FIGURE
    mean = statistics.fmean(minutes)
    return f"{mean:.0f}" if mean >= 9.95 else f"{mean:.2g}"


def format_load(command: Mapping[str, Any]) -> str:
    """Returns the load average at the start and the end of a command, or the remark where it was not recorded."""
    if command["load"] is None:
        return command.get("remark") or NO_FIGURE
    return " to ".join(f"{each:.1f}" for each in command["load"])
