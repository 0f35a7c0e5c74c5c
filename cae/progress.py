"""What a program is doing: a bar in a terminal or a notebook, else lines.

Work that takes a while is put into a `phase`, whether it can be counted or not:

    with phase("fitting a classifier"):
        ...
    with phase("denoising", len(batches), "batch") as bar:
        for batch in batches:
            ...
            bar.update(1)

Without a terminal, the innermost phase of a `program` prints a line whenever nothing was printed for a few seconds;
used as a library, the package stays silent. The environment variable TQDM_DISABLE=1 turns both off.
"""

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from tqdm import TqdmWarning, tqdm

DELAY_SECONDS = 3.0
"""Of a bar; shorter work shows none."""

MAX_SILENT_SECONDS = 4.0
"""Between lines of the first minutes; later, they are a sixtieth of the phase's time apart."""

_POLL_SECONDS = 0.5


class Lines:
    """The progress of a phase as lines on stderr, with those methods of tqdm's bars that are used.

    Args:
      description: What is done.
      total: Number of units, if it is known.
      unit: What is counted.
      initial: Number of units that were done before.
    """

    def __init__(self, description: str, total: int | None, unit: str, initial: int = 0):
        self._description, self._total, self._unit = description, total, unit
        self._count, self._initial, self._start = initial, initial, time.monotonic()

    def update(self, count: float = 1) -> None:
        """Adds to the units that are done."""
        self._count += count

    def set_description_str(self, description: str) -> None:
        """Changes what is done."""
        self._description = description

    def set_postfix_str(self, text: str, refresh: bool = True) -> None:
        """Ignores what a bar shows behind it."""

    def close(self) -> None:
        """Ends the phase."""
        _printer.remove(self)

    def silent_seconds(self) -> float:
        """Returns how long nothing may be printed at this time."""
        return max(MAX_SILENT_SECONDS, (time.monotonic() - self._start) / 60)

    def describe(self) -> str:
        """Returns what is done, how much of it, and about how long the rest will take, as far as that is known."""
        seconds = time.monotonic() - self._start
        if not self._total:
            return f"{self._description}: {seconds:.0f} s"
        line = f"{self._description}: {self._count:,.0f} of {self._total:,} {self._unit}s"
        done, left = self._count - self._initial, self._total - self._count
        return line if done <= 0 or left < 0 else f"{line}, {format_seconds(seconds * left / done)} left"


class _Printer:
    """Prints the innermost of the phases that are under way, in a thread."""

    def __init__(self):
        self._phases: list[Lines] = []
        self._lock, self._thread, self._last_line = threading.Lock(), None, time.monotonic()
        self.stream: TextIO | None = None
        self.is_enabled = False

    def note_line(self) -> None:
        """Puts off the next line, since another one was printed."""
        self._last_line = time.monotonic()

    def push(self, lines: Lines) -> None:
        with self._lock:
            if not self._phases:
                self.note_line()
            self._phases.append(lines)
            if self._thread is None:
                self._thread = threading.Thread(target=self._print, daemon=True)
                self._thread.start()

    def remove(self, lines: Lines) -> None:
        with self._lock, contextlib.suppress(ValueError):  # It may be closed twice, as a bar may.
            self._phases.remove(lines)

    def print_if_due(self) -> bool:
        """Prints a line if nothing was printed for long enough; returns whether there are any phases."""
        with self._lock:
            if not self._phases:
                self._thread = None
                return False
            innermost = self._phases[-1]
            if time.monotonic() - self._last_line >= innermost.silent_seconds():
                self.note_line()
                print(innermost.describe(), file=self.stream or sys.stderr, flush=True)
            return True

    def stop(self) -> None:
        with self._lock:
            self.is_enabled = False
            self._phases.clear()

    def _print(self) -> None:
        while self.print_if_due():
            time.sleep(_POLL_SECONDS)


_printer = _Printer()


@contextlib.contextmanager
def program(name: str) -> Iterator[None]:
    """A context of a program's work, in which phases print lines where there is no terminal."""
    before, _printer.is_enabled = _printer.is_enabled, True
    try:
        with phase(name, bar=False):
            yield
    finally:
        _printer.is_enabled = before


def is_program() -> bool:
    """Returns whether phases print lines where there is no terminal."""
    return _printer.is_enabled


def stop_lines() -> None:
    """Prints no more lines of phases until the program ends: of several workers, one prints."""
    _printer.stop()


@contextlib.contextmanager
def redirect_lines(stream: TextIO) -> Iterator[None]:
    """A context in which lines of progress are written to a stream instead of stderr."""
    _printer.stream = stream
    try:
        yield
    finally:
        _printer.stream = None


def write_line(text: str) -> None:
    """Prints a line to stdout, above the bars, and puts off the next line of a phase."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()
    _printer.note_line()


@contextlib.contextmanager
def phase(
    description: str,
    total: int | None = None,
    unit: str = "",
    delay: float = DELAY_SECONDS,
    keep: bool = False,
    bar: bool = True,
) -> Iterator["tqdm | Lines | None"]:
    """A context in which the progress of some work is shown.

    Args:
      description: What is done.
      total: Number of units, if it is known; `update` of what the context yields adds to those that are done.
      unit: What is counted, in the singular.
      delay: Seconds after which a bar appears.
      keep: Whether the bar stays at its end.
      bar: Whether there is a bar in a terminal; if not, the phase only prints lines without one.
    """
    delay = delay if total else 0.0
    bar_format = None if total else "{desc} ..."
    if not bar and _is_interactive():
        yield
        return
    with contextlib.closing(start(description, total, unit, delay=delay, leave=keep, bar_format=bar_format)) as shown:
        yield shown


def parallel_map(jobs: Iterable[tuple], total: int, description: str, unit: str) -> list:
    """Returns the results of jobs of `joblib.delayed`, in their order, which run on all CPU cores."""
    import joblib

    results = []
    with phase(description, total, unit) as bar:
        for result in joblib.Parallel(n_jobs=-1, return_as="generator")(jobs):
            results.append(result)
            bar.update()
    return results


def start(description: str, total: int | None, unit: str, initial: int = 0, **options: Any) -> "tqdm | Lines":
    """Returns the progress of a phase that begins, which the caller closes; the options are those of a bar."""
    is_disabled = bool(os.environ.get("TQDM_DISABLE"))
    if _is_interactive():
        options["disable"] = is_disabled
        return _make_bar(desc=description, total=total, unit=unit or "it", initial=initial, unit_scale=True, **options)
    lines = Lines(description, total, unit, initial)
    if _printer.is_enabled and not is_disabled:
        _printer.push(lines)
    return lines


def _is_interactive() -> bool:
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def format_seconds(seconds: float) -> str:
    """Returns a time in minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _make_bar(**options: Any) -> tqdm:
    if not hasattr(tqdm, "_lock"):
        tqdm.set_lock(threading.RLock())  # Its own one is a semaphore, of which Python warns if this process is killed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # In notebooks without widgets the bar is text.
        from tqdm.auto import tqdm as notebook_or_text_tqdm
    return notebook_or_text_tqdm(**options)
