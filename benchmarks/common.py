"""What several benchmarks share and what needs no TensorFlow: tables, rounds, processes, and the time of a start."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from absl import flags

from cae.config import Config
from cae.errors import UserError, unknown_choice_error
from cae.io_utils import atomic_write

TRAIN_COMMAND = (sys.executable, str(Path(__file__).resolve().parents[1] / "train.py"))


class Table:
    """Prints rows under a header line, each as soon as its values are known.

    Attributes:
      rows: The rows that were printed, values by column.
    """

    def __init__(self, formats: Mapping[str, str]):
        """Prints the header.

        Args:
          formats: Format specifications by column; each begins with an alignment and a width, as in ">10,.1f".
        """
        self._formats, self.rows = formats, []
        self._print(formats)

    def add(self, *values: Any) -> None:
        """Prints a row: numbers in their column's format, strings as they are, None as blanks."""
        self.rows.append(dict(zip(self._formats, values)))
        self._print(values)

    def write(self) -> None:
        """Writes the rows at full precision to the file that --json names, if any."""
        write_json(self.rows)

    def _print(self, values: Iterable[Any]) -> None:
        print("".join(map(_format_cell, values, self._formats.values())).rstrip(), flush=True)


def define_json_flag() -> None:
    """Defines the flag of programs whose table can be written to a file."""
    flags.DEFINE_string("json", None, "A JSON file for the rows of the table, at full precision.")


def write_json(rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows of tables to the file that --json names, if any."""
    if flags.FLAGS.json:
        with atomic_write(Path(flags.FLAGS.json)) as file:
            file.write(json.dumps(rows, indent=2) + "\n")


def _format_cell(value: Any, spec: str) -> str:
    if value is None or isinstance(value, str):
        return format(value or "", re.match(r"[<>]\d+", spec)[0])
    return format(value, spec)


def run_rounds(functions: Mapping[str, Callable[[], float]], num_rounds: int) -> dict[str, list[float]]:
    """Calls every function once a round, in turn, so that a machine that slows down slows all of them alike.

    Args:
      functions: What is measured: functions that return a rate, per second.
      num_rounds: Number of rounds. Another one before them, in which graphs are traced, is not counted.

    Returns:
      The rates of each function, one a round.
    """
    rates = {name: [] for name in functions}
    for number in range(num_rounds + 1):
        for name, function in functions.items():
            rates[name].append(function())
        if number:
            last = ", ".join(f"{name} {each[-1]:.4g}" for name, each in rates.items())
            print(f"round {number} of {num_rounds}, per second: {last}", flush=True)
    return {name: each[1:] for name, each in rates.items()}


class ProcessFunction:
    """A function that is made and called in a new process, which ends when it is closed, or when this process ends.

    Exceptions of that process are raised in this one.
    """

    def __init__(self, make: Callable[..., Callable[[], Any]], *args: Any):
        """Starts the process and makes the function.

        Args:
          make: A function of a module; it is called in the process and returns the function.
          *args: Its arguments, which are pickled.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, connection = context.Pipe()
        self._process = context.Process(target=_serve, args=(connection, make, args))
        self._process.start()
        connection.close()
        self._receive()

    def __call__(self) -> Any:
        """Calls the function and returns its result."""
        self._connection.send(None)
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            result, error = self._connection.recv()
        except EOFError as eof:
            self._process.join()
            raise RuntimeError(f"its process ended with exit code {self._process.exitcode}") from eof
        if error:
            raise error
        return result


def _serve(connection: Connection, make: Callable[..., Callable[[], Any]], args: Sequence[Any]) -> None:
    # Libraries write notices to stderr; errors are exceptions.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        function = make(*args)
        connection.send((None, None))
        while True:
            connection.recv()
            connection.send((function(), None))
    except EOFError:
        pass
    except Exception as error:  # noqa: BLE001 - The other process raises it.
        connection.send((None, error))


def check_names(flag: str, names: Sequence[str], choices: Collection[str]) -> None:
    """Raises `UserError` for a name in the list of a flag that is not one of the choices."""
    for name in names:
        if name not in choices:
            raise unknown_choice_error(flag, name, choices)


def parse_sizes(flag: str, words: Sequence[str], minimum: int) -> list[int]:
    """Returns the whole numbers of a flag, each once and in ascending order; raises `UserError` for other words."""
    if not words or not all(word.isascii() and word.isdigit() and int(word) >= minimum for word in words):
        raise UserError(f"{flag}={','.join(words)} must be a list of whole numbers of at least {minimum}")
    return sorted({int(word) for word in words})


def config_flags(config: Config) -> list[str]:
    """Returns the flags that make a configuration: those of the fields that differ from their defaults."""
    return [f"--{name}={value}" for name, value in config.changed().items()]


def measure_seconds(function: Callable[..., Any], *args: Any, **kwargs: Any) -> float:
    """Returns the seconds that a call takes."""
    start = time.perf_counter()
    function(*args, **kwargs)
    return time.perf_counter() - start


def time_pieces(*flags: str) -> dict[str, float]:
    """Returns the seconds of each piece from the start of a new Python process to the end of its first training step.

    Raises:
      UserError: The process failed; the message is its last line.
    """
    command = [sys.executable, "-m", "benchmarks.first_step", *flags]
    process = subprocess.run(command, check=False, capture_output=True, text=True)
    if process.returncode:
        raise UserError((process.stderr.strip().splitlines() or [f"{command} failed without output"])[-1])
    return json.loads(process.stdout.splitlines()[-1])


def time_first_step(*flags: str) -> float:
    """Returns the seconds from the start of a new Python process to the end of its first training step."""
    return sum(time_pieces(*flags).values())
