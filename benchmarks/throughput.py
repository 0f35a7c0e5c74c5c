"""Training throughput: python -m benchmarks.throughput --flagfile=configs/denoise.cfg [--cases=train,fit].

Measures the training step, with noise in the input pipeline, in each precision and with two logical replicas; Keras'
`fit`; PyTorch with the same architecture, batch size, data and noise, where it is installed; forward passes; the time
that a step is input-bound; and the fraction of the machine's peak GEMM throughput that each reaches. Each case has a
process of its own, and their rounds alternate. The fastest round counts: other load can only slow one down. The ratios
are what holds on another machine.
"""

import contextlib

from absl import flags

from benchmarks import cases
from benchmarks.common import (
    ProcessFunction,
    Table,
    check_names,
    config_flags,
    define_json_flag,
    run_rounds,
    time_first_step,
)
from cae import cli, runtime
from cae.config import config_from_flags, define_config_flags

NUM_ROUNDS = 5


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    define_json_flag()
    flags.DEFINE_list("cases", [], f"What is measured, by default all: {', '.join(cases.CASES)}.")


def main() -> None:
    """Measures and prints a table."""
    selected, config, rounds = flags.FLAGS.cases or cases.CASES, config_from_flags(), {}
    check_names("--cases", selected, cases.CASES)
    with contextlib.ExitStack() as processes:
        for name in selected:
            case = cases.CASES[name]
            try:
                rounds[name] = ProcessFunction(cases.make_round, case, config)
                processes.callback(rounds[name].close)
            # Without memory for one case, or a data type that the device does not have, the others can be measured.
            except Exception as error:  # noqa: BLE001
                print(f"{case.title}: skipped, {error}", flush=True)
        rates = run_rounds(rounds, NUM_ROUNDS)
    runtime.import_tensorflow()
    from benchmarks import flops  # Not earlier: the processes of all cases import this module.

    print_table(rates, config.batch_size, flops.count_per_image(config)).write()
    print(f"start to first step: {time_first_step(*config_flags(config)):.1f} s")


def print_table(rates: dict[str, list[float]], batch_size: int, flops_per_image: dict[str, int]) -> Table:
    """Prints each case's fastest and slowest round, its ratio to the training step, and its fraction of the peak.

    Args:
      rates: The amount per second of each round, by case.
      batch_size: Images in a step.
      flops_per_image: The FLOPs of an image, by unit. The peak is the fastest float32 GEMM of either library.

    Returns:
      The table.
    """
    peak = max([rate for name in ("gemm", "gemm_numpy") for rate in rates.get(name, [])], default=None)
    train_rate = max(rates["train"]) if "train" in rates else None
    print(f"batches of {batch_size}, {flops_per_image['steps'] / 1e6:.1f} million FLOPs per image and training step")
    table = Table(
        {"": "<46", "fastest": ">10,.0f", "slowest": ">10,.0f", "ratio": ">8.2f", "of peak": ">9.0%", " unit": "<10"}
    )
    for name, each in rates.items():
        case = cases.CASES[name]
        if case.unit == "input_bound":
            table.add(case.title, f"{min(each):.2%}", f"{max(each):.2%}")
            continue
        scale, unit = (1e-9, " GFLOP/s") if case.unit == "flops" else (batch_size, " images/s")
        ratio = max(each) / train_rate if train_rate and case.unit == "steps" else None
        image_flops = flops_per_image.get(case.unit)
        fraction = batch_size * max(each) * image_flops / peak if peak and image_flops else None
        table.add(case.title, scale * max(each), scale * min(each), ratio, fraction, unit)
    return table


if __name__ == "__main__":
    define_flags()
    cli.run(main)
