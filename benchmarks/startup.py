"""From the start of Python to the end of the first training step, piece by piece.

python -m benchmarks.startup --flagfile=configs/denoise.cfg

Starts --starts new processes, one after the other, after one that is not counted: it reads files from the disk.
"""

import statistics

from absl import flags

from benchmarks.common import Table, config_flags, define_json_flag, time_pieces
from cae import cli
from cae.config import config_from_flags, define_config_flags
from cae.progress import phase

COLUMNS = {"piece": "<30", "median s": ">10.2f", "fastest s": ">10.2f"}


def define_flags() -> None:
    """Defines the flags of a run and those of this program."""
    define_config_flags()
    define_json_flag()
    flags.DEFINE_integer("starts", 5, "Number of starts.", lower_bound=1)


def main() -> None:
    """Measures and prints a table."""
    starts, words = [], config_flags(config_from_flags())
    with phase("starting", flags.FLAGS.starts + 1, "start") as bar:
        for _ in range(flags.FLAGS.starts + 1):
            starts.append(time_pieces(*words))
            bar.update(1)
    starts = starts[1:]
    table = Table(COLUMNS)
    for piece in starts[0]:
        seconds = [each[piece] for each in starts]
        table.add(piece, statistics.median(seconds), min(seconds))
    totals = [sum(each.values()) for each in starts]
    table.add("in all", statistics.median(totals), min(totals))
    table.write()


if __name__ == "__main__":
    define_flags()
    cli.run(main)
