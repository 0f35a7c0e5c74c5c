"""A profile of some training steps and their graph, which TensorBoard shows."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from etils import epy

from cae.errors import UserError

# Flags are checked before TensorFlow is imported, which takes seconds.
with epy.lazy_imports():
    import tensorflow as tf


def parse_profile_steps(text: str | None) -> tuple[int, int] | None:
    """Returns the first and the last step that --profile_steps names, counted from 1; None for None.

    Raises:
      UserError: They are not two numbers, or not in order.
    """
    if text is None:
        return None
    numbers = [number.strip() for number in text.split(",")]
    if len(numbers) == 2 and all(number.isdecimal() for number in numbers) and 0 < int(numbers[0]) <= int(numbers[1]):
        return int(numbers[0]), int(numbers[1])
    raise UserError(f"--profile_steps={text} must be the first and the last step to profile, such as 10,20")


class StepProfiler:
    """Profiles those of some steps that a run takes, once; a failure is a warning and does not end the run.

    The profile starts later where the run is resumed between the steps, and ends earlier where the run does.

    Args:
      folder: The folder of TensorBoard's run.
      steps: The first and the last step, counted from 1; None to do nothing.
      log: Prints a line.
      write_graph: Writes a graph to TensorBoard.
    """

    def __init__(
        self,
        folder: Path,
        steps: tuple[int, int] | None,
        log: Callable[[str], None],
        write_graph: "Callable[[tf.Graph], None]",
    ):
        self._folder, self._log, self._write_graph = folder, log, write_graph
        self._first, self._last = steps or (0, 0)
        self._flag = f"--profile_steps={self._first},{self._last}"
        self._is_pending, self._is_running = steps is not None, False

    def limit(self, step: int, num_steps: int) -> int:
        """Returns how many of `num_steps` to take in a call: one where they are profiled, or none of those.

        Args:
          step: Number of steps taken.
          num_steps: The most that the call may take.
        """
        if not (self._is_pending or self._is_running) or step >= self._last:
            return num_steps
        return max(1, min(num_steps, self._first - 1 - step))

    def call(self, step: int, train_steps: Callable, *args: Any) -> Any:
        """Calls a graph function that takes steps, and profiles it if its first step is among those to profile.

        Args:
          step: Number of steps taken before.
          train_steps: The function, whose graph is written when the profile starts.
          *args: Its arguments.

        Returns:
          What it returns.
        """
        if self._is_pending and self._first <= step + 1 <= self._last:
            # Before the profile, so that it has no tracing.
            self._write_graph(train_steps.get_concrete_function(*args).graph)
            self._start()
        if not self._is_running:
            return train_steps(*args)
        with tf.profiler.experimental.Trace("train", step_num=step + 1, _r=1):
            results = train_steps(*args)
        if step + 1 >= self._last:
            self.stop()
        return results

    def close(self) -> None:
        """Ends the profile, or prints that there is none."""
        self.stop()
        if self._is_pending:
            self._log(f"warning: {self._flag}: none of these steps was taken, and there is no profile")

    def stop(self) -> None:
        """Writes the profile if it is under way."""
        if self._is_running:
            self._is_running = False
            with self._warn_of_errors():
                tf.profiler.experimental.stop()
                self._log(f"profile written to {self._folder / 'plugins' / 'profile'}")

    def _start(self) -> None:
        self._is_pending = False
        with self._warn_of_errors():
            tf.profiler.experimental.start(str(self._folder))
            self._is_running = True

    @contextlib.contextmanager
    def _warn_of_errors(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            self._log(f"warning: {self._flag}: no profile: {error.message}")
