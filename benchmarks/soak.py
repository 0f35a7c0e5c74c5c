"""Soak test: is a long run traced once, and does its memory stay the same? `python -m benchmarks.soak`.

Takes --max_steps=10000 steps of a small model on the digits, unless other flags are given, and prints the number of
traces and how much the resident memory grew between the first tenth of the steps and the end.
"""

import gc

import psutil
from absl import flags

from benchmarks.common import define_json_flag, write_json
from benchmarks.stepper import Stepper
from cae import cli, runtime
from cae.config import Config, config_from_flags, define_config_flags
from cae.errors import UserError

DEFAULTS = {"dataset": "digits", "base_filters": 8, "batch_size": 32, "max_steps": 10_000}


def define_flags() -> None:
    """Defines the flags of this program, which are those of a run, with other defaults."""
    define_config_flags()
    define_json_flag()
    for name, value in DEFAULTS.items():
        flags.FLAGS.set_default(name, value)


def main() -> None:
    """Takes the steps, and prints a line for every tenth of them and a summary."""
    runtime.retain_freed_memory()
    config = config_from_flags()
    if config.max_steps < 10:
        raise UserError(f"--max_steps={config.max_steps} must be at least 10")
    num_traces, memory_mib = run_steps(config)
    for tenth, each in enumerate(memory_mib, start=1):
        print(f"step {config.max_steps * tenth // 10:>8}  {each:>8.1f} MiB")
    growth = memory_mib[-1] / memory_mib[0] - 1
    print(f"{config.max_steps} steps: traces: {num_traces}; memory grew by {growth:.2%} after the first tenth")
    write_json(
        [{"steps": config.max_steps, "traces": num_traces, "first MiB": memory_mib[0], "last MiB": memory_mib[-1]}]
    )


def run_steps(config: Config) -> tuple[int, list[float]]:
    """Takes `config.max_steps` steps; returns the number of traces, and the resident MiB after each tenth of them."""
    stepper, memory_mib = Stepper.create(config), []
    for tenth in range(1, 11):
        stepper.run(config.max_steps * tenth // 10 - stepper.num_steps)
        gc.collect()
        memory_mib.append(psutil.Process().memory_info().rss / 2**20)
    return stepper.num_traces, memory_mib


if __name__ == "__main__":
    define_flags()
    cli.run(main)
