"""Do memory and start-up grow with the number of images? python -m benchmarks.growth [--folder=/tmp/growth].

Generates two sets of records, of 60,000 and 1,000,000 images of 28x28 unless told otherwise, and trains on each by
train.py in a fresh process, for the same number of steps: epochs are cut short, nothing else is. Then starts on each
take turns, up to the end of the first step. Memory is what a process has resident: the system's cache of files is not.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from absl import flags
from etils import epy

import cae
import train
from cae import config, program
from cae.errors import UserError

with epy.lazy_imports():
    from cae.data import pipeline

SIDE = 28
CLASSES = ("upper left", "upper right", "lower left", "lower right")
AT_ONCE = 1000

HELD_OUT = 5000
"""Images of each split but the training's."""

BATCH_SIZE, EPOCHS = 128, 2
MODEL = ("--model=conv", "--width=4", "--latent_dim=8", "--noise=gaussian:0.3", f"--batch_size={BATCH_SIZE}")


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.DEFINE_list("sizes", ["60000", "1000000"], "How many images the two sets have.")
    flags.DEFINE_string("folder", None, "Where the sets are written and kept; a temporary folder unless said.")
    flags.DEFINE_integer("steps", 300, "How many steps training takes.", lower_bound=2)
    flags.DEFINE_integer("starts", 5, "How many times the first step is waited for, on each set.", lower_bound=1)
    flags.DEFINE_integer("steps_an_epoch", None, "Says that this is one of the processes that are measured.")


def main() -> None:
    """Measures and prints a table; or trains, where this is one of the processes that are measured."""
    values = flags.FLAGS
    if values.steps_an_epoch:
        train_shortly(values.steps_an_epoch)
        return
    sizes = parse(values.sizes)
    with folder_for(values.folder) as folder:
        sets = {size: generated(folder / f"{size}", size) for size in sizes}
        memory = {size: trained(path, folder / "run", values.steps) for size, path in sets.items()}
        starts = {size: [] for size in sizes}
        for _ in range(values.starts):
            for size, path in sets.items():
                starts[size].append(seconds_to_first_step(path))
    print_table({size: (*memory[size], statistics.median(starts[size]), min(starts[size])) for size in sizes})
    print(
        f"{values.steps} steps of {BATCH_SIZE} images; s to the first step: of {values.starts} starts that took turns"
    )


def parse(words: list[str]) -> list[int]:
    """Returns the two sizes; raises `UserError` for others than two numbers, the smaller one first."""
    least = 4 * HELD_OUT
    if len(words) == 2 and all(word.isdecimal() for word in words) and least <= int(words[0]) < int(words[1]):
        return [int(word) for word in words]
    raise UserError(f"--sizes={','.join(words)} must be two numbers of images, the smaller first and at least {least}")


@contextlib.contextmanager
def folder_for(named: str | None) -> Iterator[Path]:
    """Yields the folder that was named, where records stay, or else one that is gone afterwards."""
    if named is None:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary)
    else:
        folder = Path(named).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


def generated(path: Path, count: int) -> Path:
    """Returns the folder with records of so many images, after writing them where they are not there yet."""
    if not path.exists():
        needed, free = 1.1 * count * SIDE**2, shutil.disk_usage(path.parent).free
        if needed > free:
            raise UserError(f"{count:,} images take {needed / 2**30:.1f} GiB, and {path.parent} has fewer left")
        start = time.perf_counter()
        splits = {"train": count - 3 * HELD_OUT} | dict.fromkeys(("validation", "calibration", "test"), HELD_OUT)
        cae.write_records(path, spots(count), CLASSES, splits)
        print(f"{count:,} images written in {time.perf_counter() - start:.1f} s", flush=True)
    return path


def spots(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images of a bright spot each, of any size and at any place, uint8 [n, 28, 28, 1], and its quarter [n]."""
    at = np.arange(SIDE, dtype=np.float32)
    for start in range(0, count, AT_ONCE):
        random, some = np.random.default_rng([count, start]), min(AT_ONCE, count - start)
        centres, widths = random.uniform(4, 24, (2, some, 1)), random.uniform(1, 5, (2, some, 1))
        down, across = np.exp(-0.5 * np.square((at - centres) / widths)).astype(np.float32)
        images = (255 * down[:, :, None] * across[:, None, :]).astype(np.uint8)
        low, right = (centres[..., 0] > SIDE / 2).astype(int)
        yield images[..., None], 2 * low + right


def trained(path: Path, workdir: Path, steps: int) -> tuple[float, float]:
    """Trains in a fresh process; returns its resident memory in MiB, the most that it was and that at the end."""
    shutil.rmtree(workdir, ignore_errors=True)
    own = (f"--steps_an_epoch={max(1, steps // EPOCHS)}", f"--epochs={EPOCHS}", f"--workdir={workdir}")
    command = [sys.executable, "-m", "benchmarks.growth", f"--dataset=records:{path}", *MODEL, *own]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"training on {path} ended with code {process.returncode}")
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    most = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return most, json.loads(lines[-1])["memory_mib"]


def train_shortly(steps: int) -> None:
    """Does what train.py does, but for epochs, which have so many steps."""
    program.start_tensorflow()
    feed = pipeline.feed

    def shortened(*arguments: object) -> pipeline.Feed:
        return dataclasses.replace(feed(*arguments), images=steps * BATCH_SIZE)

    with mock.patch.object(pipeline, "feed", shortened):
        train.main()


def seconds_to_first_step(path: Path) -> float:
    """Returns how long a fresh Python takes from its first line to the end of the first step."""
    command = [sys.executable, "-m", "benchmarks.first_step", f"--dataset=records:{path}", *MODEL]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def print_table(measured: dict[int, tuple[float, float, float, float]]) -> None:
    """Prints a line for each size, and the second's figures over the first's."""
    print(f"{'images':>12}{'MiB at most':>14}{'MiB at the end':>17}{'s to first step: median':>26}{'fastest':>10}")
    for size, (most, end, median, fastest) in measured.items():
        print(f"{size:>12,}{most:>14,.0f}{end:>17,.0f}{median:>26.2f}{fastest:>10.2f}")
    most, end, median, fastest = (after / before for before, after in zip(*measured.values()))
    print(f"{'ratio':>12}{most:>14.3f}{end:>17.3f}{median:>26.3f}{fastest:>10.3f}")


if __name__ == "__main__":
    define_flags()
    program.run(main)
