"""The command line of a program: flags, exit codes, and errors in one line on stderr."""

import errno
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import app, flags, logging

from cae import progress
from cae.errors import UserError, unwrap_graph_error
from cae.io_utils import printable
from cae.preemption import Preempted

EXIT_PARTIAL = 3
"""The exit code of a program that did its work but for some files, which it listed."""


_MACHINE_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOMEM, errno.EMFILE,
    errno.ENFILE,
}  # fmt: skip
"""Errors in writing that another file would have as well: a full disk, no permission, a lack of resources."""


def run(main: Callable[[], int | None]) -> None:
    """Parses the command line, calls `main`, and exits with the exit code that `call` would return."""
    spec = sys.modules["__main__"].__spec__  # Of 'python -m cae.predict', for example.
    name = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # File names may hold bytes that are not UTF-8.
    app.run(lambda _: _exit_code(name, main), flags_parser=lambda argv: _parse(name, argv))


def call(main: Callable[[], int | None], argv: Sequence[str]) -> int:
    """Parses `argv` and calls `main` in this process.

    Args:
      main: Does the program's work; it returns the exit code, None for 0.
      argv: The command line, the program's name first.

    Returns:
      What `main` returns; 1 or 2 after one line on stderr; 128 plus the number of the signal that preempted `main`.
    """
    name = Path(argv[0]).name
    try:
        _parse(name, argv)
    except SystemExit as exit_:
        return exit_.code
    return _exit_code(name, main)


def print_line(text: str) -> None:
    """Prints a text as one line, whatever names it contains."""
    progress.write_line(printable(text))


def ends_program(error: Exception) -> bool:
    """Returns whether an error that occurred with one of many files has to end the work on the others."""
    if isinstance(error, OSError):
        return error.errno in _MACHINE_ERRNOS
    return isinstance(error, UserError | Preempted | MemoryError) or _is_resource_exhausted(error)


def _is_resource_exhausted(error: Exception) -> bool:
    # TensorFlow's class isn't imported, which takes seconds.
    return type(error).__name__ == "ResourceExhaustedError"


def _exit_code(name: str, main: Callable[[], int | None]) -> int:
    # Libraries' notices and warnings are hidden unless --verbosity is set.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.ERROR)
        warnings.simplefilter("ignore")
    try:
        with progress.program(name):
            return main() or 0
    except UserError as error:
        return _report(name, error, 2)
    except Preempted as error:
        return _report(name, f"{error}; rerun the same command to resume", 128 + error.signal_number)
    except KeyboardInterrupt:
        return _report(name, "interrupted", 130)
    except (OSError, MemoryError) as error:
        return _report(name, f"{type(error).__name__}: {error}", 1)
    except Exception as error:
        if message := unwrap_graph_error(error):
            return _report(name, message, 2)
        if not _is_resource_exhausted(error):
            raise
        return _report(name, "out of memory; use a smaller --batch_size, --base_filters or --image_size", 1)


def _parse(name: str, argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise UserError(f"'{rest[1]}' is not a flag; flags look like --epochs=5, and --help lists them")
        return rest
    except (flags.Error, UserError, OSError) as error:
        sys.exit(_report(name, error, 2))


def _report(name: str, error: object, code: int) -> int:
    """Prints an error in one line and returns its exit code."""
    line = " ".join(str(error).split())
    print(f"{name}: {line}", file=sys.stderr, flush=True)
    return code
