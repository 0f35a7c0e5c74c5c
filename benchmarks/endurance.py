"""Whether a long run stays as it began: python -m benchmarks.endurance [--steps=10000].

Takes many steps of a small model on the embedded digits and says how often the step was traced and by how much the
process's memory grew between a tenth of them and the end.
"""

import gc

import psutil
import tensorflow as tf
from absl import flags

from benchmarks import STEPS_PER_CALL, ours
from cae import config, memory, program
from cae.data import sources
from cae.training import objectives
from cae.training.build import build_state
from cae.training.steps import make_train_steps


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.FLAGS.set_default("dataset", "digits")
    flags.FLAGS.set_default("width", 8)
    flags.FLAGS.set_default("batch_size", 32)
    flags.DEFINE_integer("steps", 10_000, "How many steps are taken.", lower_bound=100)


def main() -> None:
    """Takes the steps and prints a line every tenth of them, and a last one."""
    memory.keep_freed()
    steps = flags.FLAGS.steps
    traces, memories = endure(config.from_flags(), steps)
    growth = memories[-1] / memories[0] - 1
    for tenth, mebibytes in enumerate(memories, start=1):
        print(f"step {steps * tenth // 10:>8}  {mebibytes:>8.1f} MiB")
    print(
        f"{steps} steps: {traces} trace{'s' * (traces != 1)}, memory grew by {100 * growth:.2f}% after the first tenth"
    )


def endure(settings: config.Config, steps: int) -> tuple[int, list[float]]:
    """Returns how often the step was traced, and the resident memory, in MiB, after each tenth of the steps."""
    source = sources.open_source(settings)
    state = build_state(tf.distribute.get_strategy(), settings, source.image_shape, steps)
    train_steps = make_train_steps(tf.distribute.get_strategy(), state, objectives.find(settings), settings.batch_size)
    batches, memories, done = iter(ours.batches_of(settings, source)), [], 0
    for tenth in range(1, 11):
        while done < steps * tenth // 10:
            count = min(STEPS_PER_CALL, steps * tenth // 10 - done)
            float(train_steps(batches, tf.constant(count))[0]["loss"])
            done += count
        gc.collect()
        memories.append(psutil.Process().memory_info().rss / 2**20)
    return train_steps.experimental_get_tracing_count(), memories


if __name__ == "__main__":
    define_flags()
    program.run(main)
