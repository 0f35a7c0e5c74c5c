"""Prediction on Apache Beam beside that in one process.

python -m benchmarks.beam_prediction --workdir=runs/autoencoder --saved_model=exports/autoencoder

Writes the test images of the run, repeated, as PNG files, and detects outliers among --sizes of them: by cae.beam with
two processes; by a plain loop in one process over the same functions, which is what cae.predict does except drawing;
and by cae.predict, which draws an anomaly map for each image, among a fiftieth as many. Each is run for both sizes, and
the images a second are those between them, so that start-up does not count. Memory is the largest resident set of a
worker.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from absl import flags

from benchmarks.common import Table, define_json_flag, parse_sizes
from cae import cli
from cae.beam import model, tasks
from cae.config import define_config_flags
from cae.data.arrays import to_pil
from cae.data.image_io import read_image
from cae.errors import UserError
from cae.run import Run
from cae.tasks.flags import dataset_location
from cae.workdir import workdir_from_flags

NUM_WORKERS = 2

DRAWN_FRACTION = 50
"""Of how many images cae.predict, which draws, gets one."""

COLUMNS = {"program": "<14", "images": ">10,", "seconds": ">10.1f", "images/s": ">12,.0f", "worker MiB": ">12,.0f"}


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    define_json_flag()
    flags.DEFINE_string("saved_model", None, "An export of the run with its detector.", required=True)
    flags.DEFINE_list("sizes", ["10000", "60000"], "Two numbers of images.")


def main() -> None:
    """Measures and prints a table."""
    run, saved_model = Run.load(workdir_from_flags()), os.path.abspath(flags.FLAGS.saved_model)
    sizes = parse_sizes("--sizes", flags.FLAGS.sizes, minimum=10 * DRAWN_FRACTION)
    images = run.open_dataset(**dataset_location(flags.FLAGS)).load("test")[0]
    location = [f"--{name}={value}" for name, value in dataset_location(flags.FLAGS).items()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in {*sizes, *(size // DRAWN_FRACTION for size in sizes)}:
            (folder / str(size)).mkdir()
            for index in range(size):
                to_pil(images[index % len(images)]).save(folder / str(size) / f"{index:07}.png")
        table = Table(COLUMNS)
        beam = ["cae.beam", f"--saved_model={saved_model}", f"--direct_num_workers={NUM_WORKERS}"]
        beam.append("--direct_running_mode=multi_processing")
        predict = ["cae.predict", f"--workdir={run.workdir}", "--tasks=outliers", *location]
        rates = Rates()

        def add(program: str, size: int, seconds: float, memory: float | None = None) -> None:
            table.add(program, size, seconds, rates.add(program, size, seconds), memory)

        for size in sizes:
            output = folder / f"out-{size}"
            add("cae.beam", size, *run_program([*beam, f"--input={folder / str(size)}/*", f"--output={output}"]))
            add("plain loop", size, run_loop(saved_model, folder / str(size)))
            drawn = size // DRAWN_FRACTION
            add("cae.predict", drawn, run_program([*predict, f"--images={folder / str(drawn)}"])[0])
        table.write()


class Rates:
    """Images a second of programs between two numbers of images, so that their start does not count."""

    def __init__(self):
        self._last: dict[str, tuple[int, float]] = {}

    def add(self, program: str, size: int, seconds: float) -> float | None:
        """Returns the rate of a program since its last number of images; None for the first."""
        before = self._last.get(program)
        self._last[program] = size, seconds
        return (size - before[0]) / (seconds - before[1]) if before else None


def run_program(words: list[str]) -> tuple[float, float]:
    """Runs a module; returns its seconds, and the largest resident set of a worker of Beam, in MiB."""
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1"} if words[0] == "cae.beam" else None
    start, peak = time.perf_counter(), 0
    with subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                try:
                    peak = max(peak, child.memory_info().rss)
                except psutil.Error:
                    continue  # It has ended.
            time.sleep(0.2)
    if process.returncode:
        raise UserError(f"python -m {' '.join(words)} ended with exit code {process.returncode}; run it to see why")
    return time.perf_counter() - start, peak / 2**20


def run_loop(saved_model: str, folder: Path) -> float:
    """Reads and scores all files of a folder in this process, and returns the seconds."""
    start = time.perf_counter()
    manifest = model.read_manifest(saved_model)
    task = tasks.make_task("detect", manifest, "auto", manifest.detector["default_alpha"])
    loaded = model.Model(saved_model)
    items = []
    for path in sorted(folder.iterdir()):
        items.append(task.prepare(path.name, read_image(path)))
        if len(items) == task.batch_size:
            task.predict(loaded, items)
            items = []
    if items:
        task.predict(loaded, items)
    return time.perf_counter() - start


if __name__ == "__main__":
    define_flags()
    cli.run(main)
