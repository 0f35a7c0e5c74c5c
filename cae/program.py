"""How a program starts and ends: flags read, and what went wrong said in one line."""

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging

from cae import memory
from cae.errors import UserError, raised_in_graph
from cae.interrupts import Interrupted

SOME_LEFT_OUT = 3
"""The exit code of a program that did its work, but for some files, which it named."""


def run(main: Callable[[], int | None]) -> None:
    """Reads the flags of the command line, calls `main` and exits with its exit code, as `call` returns it."""
    name = Path(sys.argv[0]).name
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # Names of files may hold bytes that are no text.
    app.run(lambda _: _exit_code(name, main), flags_parser=lambda argv: _parse(name, argv))


def call(main: Callable[[], int | None], argv: Sequence[str]) -> int:
    """Reads the flags in `argv`, calls `main` in this process, and returns the exit code of the program.

    Args:
      main: Does the program's work; what it returns is the exit code, 0 for nothing.
      argv: The command line, with the name of the program first.

    Returns:
      What `main` returns; 1 or 2 after one line on stderr; 128 and the number of the signal that interrupted `main`.
    """
    name = Path(argv[0]).name
    try:
        _parse(name, argv)
    except SystemExit as ended:
        return ended.code
    return _exit_code(name, main)


def _exit_code(name: str, main: Callable[[], int | None]) -> int:
    # What libraries note and warn of is no news to whoever runs a program, unless asked for by --verbosity.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
        warnings.simplefilter("ignore")
    try:
        return main() or 0
    except UserError as error:
        return _report(name, error, 2)
    except Interrupted as stop:
        return _report(name, f"{stop}; the same command goes on", 128 + stop.number)
    except KeyboardInterrupt:
        return _report(name, "interrupted", 130)
    except (OSError, MemoryError) as error:
        return _report(name, f"{type(error).__name__}: {error}", 1)
    except Exception as error:
        if told := raised_in_graph(error):
            return _report(name, told, 2)
        # TensorFlow's own class for this can't be named here: it takes seconds to import.
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        return _report(name, "out of memory; a smaller --batch_size, --width or --image_size takes less", 1)


def start_tensorflow() -> None:
    """Imports TensorFlow, without what it writes to stderr before it can be told not to."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    memory.keep_freed()


def _parse(name: str, argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise UserError(f"'{rest[1]}' is not a flag; flags look like --epochs=5, and --help lists them")
        return rest
    except (flags.Error, UserError, OSError) as error:
        sys.exit(_report(name, error, 2))


def _report(name: str, error: object, code: int) -> int:
    """Prints an error in one line and returns the exit code that goes with it."""
    line = " ".join(str(error).split())
    print(f"{name}: {line}", file=sys.stderr, flush=True)
    return code
