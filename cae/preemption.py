"""SIGINT (Ctrl-C) and SIGTERM: the first requests an orderly end, a second one ends the program at once.

Python runs signal handlers between two bytecode instructions, one of which may take minutes while TensorFlow compiles
or computes. Therefore a thread reads signals from a wakeup file descriptor and enforces the grace period.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

GRACE_PERIOD_SECONDS = 25.0
"""Time from a signal to the end of the program, whatever it does: schedulers send SIGKILL after 30 seconds."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Preempted(Exception):
    """The program ends because of a signal, after it has saved its state.

    Attributes:
      signal_number: The signal's number.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


class PreemptionHandler:
    """Records the first signal within `deferred()`; outside of it, a signal ends the program at once."""

    def __init__(self):
        self._received, self._deferred, self._installed = 0, False, False
        self._sockets, self._stderr = socket.socketpair(), 2

    def install(self) -> None:
        """Starts to listen; only for programs, since signal handlers are those of the whole process."""
        self._stderr = os.dup(2)  # stderr is redirected while TensorFlow is imported.
        self._sockets[1].setblocking(False)
        signal.set_wakeup_fd(self._sockets[1].fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()
        self._installed = True
        self.reinstall()

    def reinstall(self) -> None:
        """Replaces handlers that a library has installed since; does nothing before `install()`."""
        if self._installed:
            for number in SIGNALS:
                signal.signal(number, _noop_handler)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[Callable[[], int]]:
        """Defers the first signal: the program polls for it and ends itself within `GRACE_PERIOD_SECONDS`.

        Yields:
          A function that returns the number of the signal received, or 0.
        """
        self._deferred = True
        try:
            yield lambda: self._received
        finally:
            self._deferred = False

    def _listen(self) -> None:
        while received := self._sockets[0].recv(16):
            for number in received:
                if number in SIGNALS:
                    self._receive(number)

    def _receive(self, number: int) -> None:
        if self._received or not self._deferred:
            self._exit(number, "")
        self._received = number
        how = f" after a grace period of {GRACE_PERIOD_SECONDS:.0f} s"
        timer = threading.Timer(GRACE_PERIOD_SECONDS, self._exit, (number, how))
        timer.daemon = True
        timer.start()

    def _exit(self, number: int, how: str) -> None:
        """Ends the process; files are safe, since they are renamed into place once they are complete."""
        name = os.path.basename(sys.argv[0])
        message = (
            f"{name}: terminated by {signal.Signals(number).name}{how}; rerun the same command to resume from the last"
            " checkpoint\n"
        )
        with contextlib.suppress(OSError):
            os.write(self._stderr, message.encode())
        os._exit(128 + number)


def _noop_handler(*_: object) -> None:
    """Makes Python write the signal's number to the wakeup file descriptor."""
