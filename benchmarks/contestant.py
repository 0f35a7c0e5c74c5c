"""Measures one row of `benchmarks.speed` in a process of its own, a round whenever it is told to by a line on stdin.

It answers each with a line of JSON: at first what it counts with, or why it can't; then what a round came to.
"""

import importlib.util
import json
import os
import sys
from typing import Any

from absl import flags

from benchmarks import rows
from cae import config, memory, program
from cae.data import sources
from cae.errors import UserError


def define_flags() -> None:
    """Defines the flags of this program: those of a run, and its own."""
    config.define_flags()
    flags.DEFINE_string("row", None, "What is measured.")


def main() -> None:
    """Gets ready, says so, and measures until stdin ends."""
    row = rows.ROWS[flags.FLAGS.row]
    if importlib.util.find_spec(row.needs) is None:
        return answer({"missing": f"{row.needs} is not installed"})
    if row.as_it_comes:
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
    else:
        memory.keep_freed()
    try:
        settings = config.from_flags()
        measure = row.make(settings, sources.open_source(settings))
    except UserError as error:
        return answer({"missing": str(error)})
    answer({"batch_size": settings.batch_size})
    for _ in sys.stdin:
        amount, seconds = measure()
        answer({"amount": amount, "seconds": seconds})
    return None


def answer(values: dict[str, Any]) -> None:
    """Writes a line that the other side knows from anything else that may be written."""
    print(f"\n{MARK}{json.dumps(values)}", flush=True)


MARK = "answer: "

if __name__ == "__main__":
    define_flags()
    program.run(main)
