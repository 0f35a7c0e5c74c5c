"""Fault injection: does a run that is killed again and again end like an uninterrupted one?

python -m benchmarks.fault_injection [--trials=100]

Each trial starts train.py on the digits, kills it with SIGKILL at a random time, a third of the trials during a save,
and starts the same command again, until one attempt ends by itself. Then weights, optimizer variables, loss scale and
metrics.jsonl, except for its timings, must be those of an uninterrupted run, bit by bit. A run with another seed must
differ, or the comparison would detect nothing.
"""

import dataclasses
import json
import random
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent import futures
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from benchmarks.common import TRAIN_COMMAND, define_json_flag, measure_seconds, write_json
from cae import cli
from cae.errors import UserError

COMMAND = (
    *TRAIN_COMMAND, "--dataset=digits", "--noise=gaussian:0.5", "--base_filters=4",
    "--latent_dim=4", "--precision=mixed_float16", "--lr_schedule=cosine", "--batch_size=64", "--epochs=4",
    "--image_summary_epochs=100", "--checkpoint_interval_minutes=0.005",
)  # fmt: skip

# Keys of metrics.jsonl in which any two runs differ.
TIMINGS = ("images_per_second", "rss_mib", "epoch_seconds")

# The latest time of a kill, in lengths of an uninterrupted run.
MAX_KILL_TIME = 1.1

# The probability that an attempt after the first kill is killed, too.
REPEATED_KILL_PROBABILITY = 0.1


@dataclasses.dataclass
class Trial:
    """The kills of a trial, those during a save, and in what the run then differed from an uninterrupted one."""

    kills: int = 0
    kills_in_save: int = 0
    differences: tuple[str, ...] = ()

    def __str__(self) -> str:
        kills = f"{self.kills} kills, {self.kills_in_save} during a save"
        return f"{kills}, {'; '.join(self.differences) or 'bit-equal'}"


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_integer("trials", 100, "Number of runs that are killed.", lower_bound=1)
    flags.DEFINE_integer("parallel", 2, "Number of runs at a time.", lower_bound=1)
    define_json_flag()


def main() -> int:
    """Runs all trials and prints their results; returns 1 if a run differed from the uninterrupted one."""
    num_trials = flags.FLAGS.trials
    with tempfile.TemporaryDirectory(prefix="fault_injection") as temporary:
        folder = Path(temporary)
        seconds = run_uninterrupted(folder / "uninterrupted")
        run_uninterrupted(folder / "control", "--seed=1")
        num_different = len(compare(folder / "uninterrupted", folder / "control"))
        if not num_different:
            raise UserError("a run with another seed ends the same: the comparison detects nothing")
        print(f"an uninterrupted run takes {seconds:.1f} s; another seed differs in {num_different} items", flush=True)
        trials = run_trials(folder, num_trials, folder / "uninterrupted", seconds, flags.FLAGS.parallel)
    num_equal = sum(not trial.differences for trial in trials)
    num_kills = sum(trial.kills for trial in trials)
    num_in_save = sum(trial.kills_in_save > 0 for trial in trials)
    print(
        f"{num_equal} of {num_trials} ended bit-equal; {num_kills} kills, {num_in_save} trials with one during a save"
    )
    counts = {"trials": num_trials, "bit-equal": num_equal, "kills": num_kills, "killed in a save": num_in_save}
    write_json([counts | {"different with another seed": num_different}])
    return int(num_equal < num_trials)


def run_uninterrupted(workdir: Path, *more_flags: str) -> float:
    """Trains a run in a new folder and returns the seconds that it took."""
    command = [*COMMAND, *more_flags, f"--workdir={workdir}"]
    return measure_seconds(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)


def run_trials(
    folder: Path, num_trials: int, uninterrupted: Path, seconds: float, num_parallel: int = 2
) -> list[Trial]:
    """Runs trials, `num_parallel` at a time, and returns their results.

    Args:
      folder: Where the runs have their folders.
      num_trials: Number of trials.
      uninterrupted: The folder of a run that was not killed.
      seconds: The time which that run took.
      num_parallel: Number of trials at a time.
    """
    with futures.ThreadPoolExecutor(num_parallel) as pool:
        return list(pool.map(lambda number: run_trial(folder, number, uninterrupted, seconds), range(num_trials)))


def run_trial(folder: Path, number: int, uninterrupted: Path, seconds: float) -> Trial:
    """Kills a run at times that depend on the trial's number, every third run during a save, and prints the result."""
    rng, trial, workdir = random.Random(number), Trial(), folder / f"trial-{number}"
    while True:
        in_save = number % 3 == 0 and not trial.kills_in_save
        if in_save or not trial.kills or rng.random() < REPEATED_KILL_PROBABILITY:
            code, was_in_save = start_and_kill(workdir, rng, seconds, in_save)
        else:
            code, was_in_save = subprocess.call([*COMMAND, f"--workdir={workdir}"], stdout=subprocess.DEVNULL), False
        if code == 0 and (in_save or not trial.kills):
            shutil.rmtree(workdir)  # It ended before it could be killed: another attempt, killed earlier.
            seconds /= 2
        elif code == -signal.SIGKILL:
            trial.kills, trial.kills_in_save = trial.kills + 1, trial.kills_in_save + was_in_save
        else:
            break
    if code:
        trial.differences = (f"exit code {code}",)
    else:
        partial_saves = [f"temporary file {path.name}" for path in find_partial_saves(workdir)]
        trial.differences = (*compare(uninterrupted, workdir), *partial_saves)
        shutil.rmtree(workdir)
    print(f"trial {number}: {trial}", flush=True)
    return trial


def start_and_kill(workdir: Path, rng: random.Random, seconds: float, in_save: bool) -> tuple[int, bool]:
    """Starts the run and kills it at a random time, or in the next save; returns its exit code, and if it saved."""
    with subprocess.Popen([*COMMAND, f"--workdir={workdir}"], stdout=subprocess.DEVNULL) as process:
        kill_time = time.monotonic() + rng.uniform(0, seconds) * (1 if in_save else MAX_KILL_TIME)
        while process.poll() is None and time.monotonic() < kill_time:
            time.sleep(0.01)
        if in_save:
            while process.poll() is None and not find_partial_saves(workdir):
                time.sleep(0.0005)
            time.sleep(rng.uniform(0, 0.01))  # A save takes some hundredths of a second.
        process.send_signal(signal.SIGKILL)
        return process.wait(), bool(find_partial_saves(workdir))


def find_partial_saves(workdir: Path) -> list[Path]:
    """Returns the temporary files of a save that is running or was killed."""
    return [*(workdir / "checkpoints").glob("*.tmp")]


# --- Comparison -------------------------------------------------------------------------------------------------------


def compare(workdir: Path, other: Path) -> list[str]:
    """Returns in what two complete runs differ: variables of their newest checkpoints, and metrics.jsonl."""
    differences = []
    for pattern in ("step-*-epoch-*", "best-*"):
        paths = [max((run / "checkpoints").glob(pattern)) for run in (workdir, other)]
        if paths[0].name == paths[1].name:
            differences += compare_checkpoints(*paths)
        else:
            differences.append(f"checkpoints {paths[0].name} and {paths[1].name}")
    return differences + ["metrics.jsonl"] * (load_metrics(workdir) != load_metrics(other))


def compare_checkpoints(path: Path, other: Path) -> list[str]:
    """Returns the names of the variables in which two checkpoints differ."""
    readers = [tf.train.load_checkpoint(str(each / "ckpt")) for each in (path, other)]
    shapes = [reader.get_variable_to_shape_map() for reader in readers]
    if shapes[0] != shapes[1]:
        return [f"variables of {path.name}"]
    names = shapes[0].keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    pairs = {name: [reader.get_tensor(name) for reader in readers] for name in names}
    return [f"{name} of {path.name}" for name, values in pairs.items() if not np.array_equal(*values)]


def load_metrics(workdir: Path) -> list[dict[str, float]]:
    """Returns the content of metrics.jsonl without timings."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMINGS} for line in lines]


if __name__ == "__main__":
    define_flags()
    cli.run(main)
