"""Published protocols of outlier detection: every class in turn is the normal one, or the one held out.

python -m benchmarks.protocol --flagfile=configs/one_normal.cfg, or configs/one_held_out.cfg, whose --classes says which
of both. Each class has a run of its own below --workdir; the same command goes on where it stopped.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
from absl import flags
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import series
from cae import config, program, runs
from cae.data import sources
from cae.errors import UserError
from cae.outliers import detector as detectors
from cae.outliers import scores
from cae.tasks import outliers
from cae.training import distribution


def define_flags() -> None:
    """Defines the flags of this program, which are those of a run."""
    config.define_flags()
    flags.adopt_module_key_flags(config)


def main() -> None:
    """Trains and measures what is not yet there, and writes one table of all classes."""
    settings, workdir = config.from_flags(), config.workdir_from_flags()
    if settings.classes is None:
        raise UserError("--classes=0 is needed for one normal class in turn, or --classes=-0 for one held out")
    held_out = settings.classes.startswith("-")
    strategy = distribution.make_strategy(settings.strategy, settings.logical_cpus)
    source = sources.open_source(dataclasses.replace(settings, classes=None))
    for notice in source.notices():
        print(notice, flush=True)
    rows = []
    for name in source.class_names:
        one = dataclasses.replace(settings, classes="-" * held_out + name)
        path = workdir / name / "protocol.json"
        row = series.result_of(one, path)
        if row is None:
            start = time.monotonic()
            series.train(strategy, one, sources.open_source(one), workdir / name)
            row = {"class": name, "epochs": one.epochs} | measured(one, workdir / name)
            row |= {"seconds": time.monotonic() - start}
            series.keep(row, path)
        rows.append(row)
        print(line(row), flush=True)
    rows.append(
        {"class": "mean"} | {key: float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "class"}
    )
    print(line(rows[-1]))
    series.write_table(workdir / "protocol.csv", rows)
    print(f"table: {workdir / 'protocol.csv'}; seconds in all: {sum(row['seconds'] for row in rows[:-1]):.0f}")


def measured(settings: config.Config, workdir: Path) -> dict[str, float]:
    """Returns AUROC and AUPR of every score: outliers are the test images of the other classes."""
    run, source = runs.load(workdir), sources.open_source(settings)
    train_images, calibration = source.read("train")[0], source.read("calibration")[0]
    detector = detectors.make(
        next(iter(scores.SCORES)), run.model, train_images, calibration, rule="conformal", alpha=None, step=run.step
    )
    detector.save(workdir)
    fitted = outliers.fit_all(detector, train_images)
    normal = outliers.scores_of(fitted, detector, source.read("test")[0])
    odd = outliers.scores_of(fitted, detector, source.left_out("test")[0])
    found = {}
    for name in fitted:
        labels = np.repeat([0, 1], [len(normal[name]), len(odd[name])])
        values = np.concatenate([normal[name], odd[name]])
        found |= {
            f"auroc/{name}": float(roc_auc_score(labels, values)),
            f"aupr/{name}": float(average_precision_score(labels, values)),
        }
    return found | {"false_alarm_rate": float(np.mean(~detector.threshold.belongs(normal[detector.name])))}


def line(row: dict[str, float | str]) -> str:
    """Returns what is printed of a class: the default score's AUROC and AUPR, and the best other score's."""
    first, *others = scores.SCORES
    told = [f"{row['class']:>6}"]
    for key in ("auroc", "aupr"):
        best = max((other for other in others if f"{key}/{other}" in row), key=lambda other: row[f"{key}/{other}"])
        told.append(f"{key} {first} {row[f'{key}/{first}']:.4f} (next: {best} {row[f'{key}/{best}']:.4f})")
    return "  ".join([*told, f"{row['seconds']:.0f} s"])


if __name__ == "__main__":
    define_flags()
    program.run(main)
