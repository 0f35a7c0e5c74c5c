"""Memory and start-up against the number of images: python -m benchmarks.dataset_scaling [--folder=/tmp/scaling].

Generates a set of records of each of --sizes, images of 28x28, and trains on it by train.py in a new process, for the
same number of steps. Then starts on each, up to the end of the first step, alternate. Memory is the resident set of a
process; the system's file cache does not count.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import flags

import cae
from benchmarks.common import TRAIN_COMMAND, Table, define_json_flag, measure_seconds, parse_sizes, time_first_step
from cae import cli
from cae.errors import UserError

SIDE = 28
CLASS_NAMES = ("upper left", "upper right", "lower left", "lower right")
CHUNK_SIZE = 1000

# Number of images of each split but train.
EVAL_IMAGES = 5000

BATCH_SIZE = 128
MODEL = ("--model=conv", "--base_filters=4", "--latent_dim=8", "--noise=gaussian:0.3", f"--batch_size={BATCH_SIZE}")

COLUMNS = {
    "images": ">12,", "max MiB": ">10,.0f", "last MiB": ">10,.0f", "median start": ">14.2f", "fastest": ">10.2f",
}  # fmt: skip


def define_flags() -> None:
    """Defines the flags of this program."""
    define_json_flag()
    flags.DEFINE_list("sizes", ["60000", "1000000"], "Numbers of images of the sets.")
    flags.DEFINE_string("folder", None, "Where the sets are written and kept; default: a temporary folder.")
    flags.DEFINE_integer("max_steps", 300, "Number of training steps.", lower_bound=1)
    flags.DEFINE_integer("starts", 5, "Number of starts on each set.", lower_bound=1)


def main() -> None:
    """Measures and prints a table."""
    values = flags.FLAGS
    sizes = parse_sizes("--sizes", values.sizes, minimum=4 * EVAL_IMAGES)
    with contextlib.nullcontext(values.folder) if values.folder else tempfile.TemporaryDirectory() as name:
        folder = Path(name).expanduser()
        sets = {size: generate(folder / f"{size}", size) for size in sizes}
        # A folder of its own, since one of a fixed name may be the user's.
        with tempfile.TemporaryDirectory(prefix="runs-", dir=folder) as runs:
            memory = {size: measure_memory(path, Path(runs) / "run", values.max_steps) for size, path in sets.items()}
        starts = {size: [] for size in sizes}
        for _ in range(values.starts):
            for size, path in sets.items():
                starts[size].append(time_first_step(f"--dataset=records:{path}", *MODEL))
    rows = {size: (*memory[size], statistics.median(starts[size]), min(starts[size])) for size in sizes}
    table = Table(COLUMNS)
    for size, row in rows.items():
        table.add(size, *row)
    table.write()
    table.add("ratio", *(f"{large / small:.3f}" for small, large in zip(rows[sizes[0]], rows[sizes[-1]])))
    print(f"{values.max_steps} steps of {BATCH_SIZE} images; seconds to the first step of {values.starts} starts")


def generate(path: Path, count: int) -> Path:
    """Returns the folder with records of `count` images, after writing it if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        needed, free = 1.1 * count * SIDE**2, shutil.disk_usage(path.parent).free
        if needed > free:
            raise UserError(f"{count:,} images take {needed / 2**30:.1f} GiB, more than {path.parent} has left")
        splits = {"train": count - 3 * EVAL_IMAGES}
        splits |= dict.fromkeys(("validation", "calibration", "test"), EVAL_IMAGES)
        seconds = measure_seconds(cae.write_records, path, generate_spots(count), CLASS_NAMES, splits)
        print(f"{count:,} images written in {seconds:.1f} s", flush=True)
    return path


def generate_spots(count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images of one bright spot of random size and place, uint8 [n, 28, 28, 1], and its quadrant, int [n]."""
    axis = np.arange(SIDE, dtype=np.float32)
    for start in range(0, count, CHUNK_SIZE):
        random, size = np.random.default_rng([count, start]), min(CHUNK_SIZE, count - start)
        centers, widths = random.uniform(4, 24, (2, size, 1)), random.uniform(1, 5, (2, size, 1))
        rows, columns = np.exp(-0.5 * np.square((axis - centers) / widths)).astype(np.float32)
        images = (255 * rows[:, :, None] * columns[:, None, :]).astype(np.uint8)
        lower, right = (centers[..., 0] > SIDE / 2).astype(int)
        yield images[..., None], 2 * lower + right


def measure_memory(path: Path, workdir: Path, max_steps: int) -> tuple[float, float]:
    """Trains in a new process; returns its resident memory in MiB: the maximum, and at the end. Removes `workdir`."""
    shutil.rmtree(workdir, ignore_errors=True)
    run_flags = (f"--dataset=records:{path}", f"--max_steps={max_steps}", f"--workdir={workdir}")
    process = subprocess.Popen([*TRAIN_COMMAND, *MODEL, *run_flags], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"training on {path} failed with exit code {process.returncode}")
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    maximum = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return maximum, json.loads(lines[-1])["rss_mib"]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
