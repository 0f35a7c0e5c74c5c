"""SIGINT (Ctrl-C) and SIGTERM: the first asks a program to end when it can, and a second one ends it at once.

Python runs handlers of signals between two of its own instructions, which may be minutes apart where TensorFlow
compiles or computes. So a thread is told of signals by a pipe, and watches the clock.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

PATIENCE = 25.0
"""Seconds from a signal to the end, wherever the program may be: schedulers kill what takes longer than 30."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """The program was asked to end by a signal, and everything is in order for it; the text says what was done."""

    def __init__(self, number: int, text: str):
        super().__init__(text)
        self.number = number


class Interrupts:
    """Which signal a program was sent, if any; it ends by it at once unless it is within `postponed`."""

    def __init__(self):
        self._asked, self._postponed, self._installed = 0, False, False
        self._ends, self._stderr = socket.socketpair(), 2

    def install(self) -> None:
        """Begins to listen; for programs alone, since signals belong to the whole process."""
        self._stderr = os.dup(2)  # What is there now may be elsewhere while TensorFlow is imported.
        self._ends[1].setblocking(False)
        signal.set_wakeup_fd(self._ends[1].fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()
        self._installed = True
        self.reinstall()

    def reinstall(self) -> None:
        """Takes signals back from libraries that took them over; does nothing unless installed."""
        if self._installed:
            for number in SIGNALS:
                signal.signal(number, _nothing)

    @contextlib.contextmanager
    def postponed(self) -> Iterator[Callable[[], int]]:
        """A context in which a first signal waits for the program to ask, by calling what it gives, and to end itself.

        What it gives returns the signal's number, or 0. After `PATIENCE` seconds the program ends all the same.
        """
        self._postponed = True
        try:
            yield lambda: self._asked
        finally:
            self._postponed = False

    def _listen(self) -> None:
        while received := self._ends[0].recv(16):
            for number in received:
                if number in SIGNALS:
                    self._receive(number)

    def _receive(self, number: int) -> None:
        if self._asked or not self._postponed:
            self._end(number, "ended at once" if self._asked else "ended")
        self._asked = number
        timer = threading.Timer(
            PATIENCE, self._end, (number, f"ended after waiting {PATIENCE:.0f} s for a step to end")
        )
        timer.daemon = True
        timer.start()

    def _end(self, number: int, how: str) -> None:
        """Ends the process; whatever it was writing was to be renamed when it was whole."""
        name = os.path.basename(sys.argv[0])
        text = f"{name}: {how} by {signal.Signals(number).name}; the same command goes on from the last checkpoint\n"
        with contextlib.suppress(OSError):
            os.write(self._stderr, text.encode())
        os._exit(128 + number)


def _nothing(*_: object) -> None:
    """Lets Python take note of a signal, for the thread to be told."""
