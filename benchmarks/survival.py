"""Does a run that is killed again and again end as one that is not? python -m benchmarks.survival [--trials=100].

Each trial starts train.py on the embedded digits, kills it with SIGKILL at a random moment, a third of the trials
inside of a save, and starts the same command again, until one try comes to the end. Then weights, the optimizer's
slots, the loss scale and metrics.jsonl, but for its timings, have to be those of an unbroken run, to the last bit. A
run with another seed has to differ, or the comparison would be blind.
"""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import flags

from cae import program
from cae.errors import UserError
from cae.training import checkpoint

ROOT = Path(__file__).resolve().parents[1]

COMMAND = (
    sys.executable, str(ROOT / "train.py"), "--dataset=digits", "--noise=gaussian:0.5", "--width=4", "--latent_dim=4",
    "--precision=mixed_float16", "--lr_schedule=cosine", "--batch_size=64", "--epochs=4", "--pictures_every=100",
    "--checkpoint_minutes=0.005",
)  # fmt: skip

TIMINGS = ("images_per_second", "memory_mib", "seconds")

LATE, AGAIN = 1.1, 0.1
"""Moments lie in so many times the length of a run; a try after the first is killed with this probability."""


@dataclasses.dataclass
class Trial:
    """What became of a run: how often it was killed, how often inside of a save, and what is not as it should be."""

    kills: int = 0
    in_saves: int = 0
    faults: tuple[str, ...] = ()


def define_flags() -> None:
    """Defines the flags of this program."""
    flags.DEFINE_integer("trials", 100, "How many runs are killed.", lower_bound=1)
    flags.DEFINE_integer("parallel", 2, "How many runs go on at a time.", lower_bound=1)


def main() -> int:
    """Runs all trials and prints what became of them; returns 1 where one did not end as it should."""
    values = flags.FLAGS
    folder = Path(tempfile.mkdtemp(prefix="survival"))
    try:
        unbroken = reference(folder / "unbroken")
        control = compare(folder / "unbroken", reference(folder / "control", "--seed=1")[0])
        if not control:
            raise UserError("a run with another seed ends the same: the comparison sees nothing")
        print(f"an unbroken run takes {unbroken[1]:.1f} s; another seed differs in {len(control)} things", flush=True)
        trials = run_trials(folder, values.trials, *unbroken, parallel=values.parallel, tell=told)
    finally:
        shutil.rmtree(folder)
    failed = [trial for trial in trials if trial.faults]
    print(
        f"{len(trials) - len(failed)} of {len(trials)} ended bit-equal; {sum(trial.kills for trial in trials)} kills,"
        f" {sum(trial.in_saves > 0 for trial in trials)} trials with one inside of a save"
    )
    return bool(failed)


def reference(workdir: Path, *words: str) -> tuple[Path, float]:
    """Returns the folder of a run that nobody interrupts, and the seconds that it took."""
    start = time.monotonic()
    subprocess.run([*COMMAND, *words, f"--workdir={workdir}"], check=True, stdout=subprocess.DEVNULL)
    return workdir, time.monotonic() - start


def run_trials(
    folder: Path,
    trials: int,
    unbroken: Path,
    seconds: float,
    *,
    parallel: int = 2,
    tell: Callable[[int, Trial], None] = lambda number, trial: None,
) -> list[Trial]:
    """Returns what became of so many runs, some of which go on at a time; `tell` hears of each as it ends."""

    def run(number: int) -> Trial:
        trial = run_trial(folder, number, unbroken, seconds)
        tell(number, trial)
        return trial

    with futures.ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(run, range(trials)))


def run_trial(folder: Path, number: int, unbroken: Path, seconds: float) -> Trial:
    """Returns what became of a run that is killed; every third one inside of a save. A function of its number."""
    draw, trial, workdir = random.Random(number), Trial(), folder / f"trial-{number}"
    in_save = number % 3 == 0
    while True:
        wanted = in_save and not trial.in_saves
        killed = wanted or trial.kills == 0 or draw.random() < AGAIN
        code, was_in_save = attempt(workdir, draw, seconds, wanted) if killed else attempt(workdir)
        if code == 0 and (wanted or not trial.kills):
            shutil.rmtree(workdir)  # It came to its end before it could be killed: once more, sooner.
            seconds /= 2
            continue
        if code == 0:
            break
        if code != -signal.SIGKILL:
            return dataclasses.replace(trial, faults=(f"exit code {code}",))
        trial.kills, trial.in_saves = trial.kills + 1, trial.in_saves + was_in_save
    faults = compare(unbroken, workdir) + [f"left behind: {path.name}" for path in leftovers(workdir)]
    shutil.rmtree(workdir)
    return dataclasses.replace(trial, faults=tuple(faults))


def attempt(
    workdir: Path, draw: random.Random | None = None, seconds: float = 0.0, in_save: bool = False
) -> tuple[int, bool]:
    """Starts the run, kills it where there is a `draw`, and returns its exit code, and whether that was in a save."""
    with subprocess.Popen([*COMMAND, f"--workdir={workdir}"], stdout=subprocess.DEVNULL) as process:
        if draw is None:
            return process.wait(), False
        until = time.monotonic() + draw.uniform(0, seconds) * (1 if in_save else LATE)
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        if in_save:
            # A save takes some hundredths of a second, of which any may be the last one.
            while process.poll() is None and not leftovers(workdir):
                time.sleep(0.0005)
            time.sleep(draw.uniform(0, 0.01))
        process.send_signal(signal.SIGKILL)
        return process.wait(), bool(leftovers(workdir))


def leftovers(workdir: Path) -> list[Path]:
    """Returns the temporary files of a save that is under way, or was killed."""
    return [*(workdir / "checkpoints").glob("*temp*")]


def compare(one: Path, other: Path) -> list[str]:
    """Returns in what two runs that came to their ends differ, a line each; nothing where they do not."""
    found = []
    for kind in ("epoch", "best"):
        # Older ends of epochs are kept or not by how many checkpoints were made since, which is a matter of time.
        names = [
            sorted(path.stem for path in (each / "checkpoints").glob(f"{kind}-*.index"))[-checkpoint.EPOCHS :]
            for each in (one, other)
        ]
        if names[0] != names[1]:
            found.append(f"checkpoints {names[0]} and {names[1]}")
            continue
        readers = [tf.train.load_checkpoint(str(each / "checkpoints" / names[0][-1])) for each in (one, other)]
        variables = [reader.get_variable_to_shape_map() for reader in readers]
        if variables[0] != variables[1]:
            found.append(f"variables of {names[0][-1]}")
            continue
        for name in variables[0]:
            a, b = (reader.get_tensor(name) for reader in readers)
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and not np.array_equal(a, b):
                found.append(f"{name} of {names[0][-1]}")
    lines = [(each / "metrics.jsonl").read_text().splitlines() for each in (one, other)]
    if untimed(lines[0]) != untimed(lines[1]):
        found.append("metrics.jsonl")
    return found


def untimed(lines: Sequence[str]) -> list[dict]:
    """Returns the content of metrics.jsonl without what no two runs have alike."""
    return [{key: value for key, value in json.loads(line).items() if key not in TIMINGS} for line in lines]


def told(number: int, trial: Trial) -> None:
    """Prints what became of a trial."""
    print(
        f"trial {number}: {trial.kills} kills, {trial.in_saves} inside of a save,"
        f" {'; '.join(trial.faults) or 'bit-equal'}",
        flush=True,
    )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    define_flags()
    program.run(main)
