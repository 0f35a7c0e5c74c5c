"""One image by the Python API and by ONNX Runtime.

python -m benchmarks.single_image --workdir=runs/denoise --export=exports/denoise

Times `run.denoise` and `run.is_inlier` of a run with a detector, and the files `denoise.onnx` and `detect.onnx` of its
export, in a warm process, in turns. A time is the median of --calls calls; the table has the smallest and the largest
of --rounds times, and the ratio of Python's time to the file's in the median round.
"""

import functools
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from absl import flags

from benchmarks.common import Table, define_json_flag, measure_seconds, run_rounds
from cae import cli
from cae.config import define_config_flags
from cae.errors import UserError
from cae.run import Run
from cae.tasks.flags import dataset_location
from cae.workdir import workdir_from_flags

COLUMNS = {"function": "<10", "program": "<12", "fastest ms": ">11.2f", "slowest ms": ">11.2f", "ratio": ">8.1f"}


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    define_json_flag()
    flags.DEFINE_string("export", None, "An export of the run to ONNX, with its detector.", required=True)
    flags.DEFINE_integer("rounds", 7, "Number of rounds.", lower_bound=1)
    flags.DEFINE_integer("calls", 80, "Number of calls in a round.", lower_bound=1)


def main() -> None:
    """Measures and prints a table."""
    run, folder = Run.load(workdir_from_flags()), Path(flags.FLAGS.export).expanduser()
    image = run.open_dataset(**dataset_location(flags.FLAGS)).load("test")[0][:1]
    table = Table(COLUMNS)
    for name, python in {"denoise": run.denoise, "detect": run.is_inlier}.items():
        calls = {"Python": functools.partial(python, image), "ONNX": load(folder, name, image)}
        rates = run_rounds(
            {program: functools.partial(measure_rate, call) for program, call in calls.items()}, flags.FLAGS.rounds
        )
        ratio = statistics.median(onnx / python for python, onnx in zip(*rates.values()))
        for program, each in rates.items():
            table.add(name, program, 1000 / max(each), 1000 / min(each), ratio if program == "ONNX" else None)
    table.write()


def load(folder: Path, name: str, image: np.ndarray) -> Callable[[], list]:
    """Returns a call of a file of an export with an image; raises `UserError` without the file."""
    path = folder / "onnx" / f"{name}.onnx"
    if not path.is_file():
        raise UserError(
            f"--export={folder} has no {path.relative_to(folder)}; export with --format=onnx and a detector"
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = {"images": image.astype(np.float32) / 255, "alpha": np.array(0.01, np.float32)}
    return lambda: session.run(None, {each.name: inputs[each.name] for each in session.get_inputs()})


def measure_rate(call: Callable[[], object]) -> float:
    """Returns how many calls a second the median of some calls makes."""
    return 1 / statistics.median(measure_seconds(call) for _ in range(flags.FLAGS.calls))


if __name__ == "__main__":
    define_flags()
    cli.run(main)
