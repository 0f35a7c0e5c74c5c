"""The other side of `benchmarks.contestant`: a row's process, told when to measure."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from benchmarks.contestant import MARK


class Contestant:
    """A row's process, ready to measure; `missing` says why it can't be, or nothing."""

    def __init__(self, row: str, words: Sequence[str]):
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contestant", *words, f"--row={row}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.missing = self._answer().get("missing")
        if self.missing:
            self.end()

    def round(self) -> float:
        """Measures once, and returns what was done in a second."""
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        answer = self._answer()
        if "missing" in answer:
            raise RuntimeError(answer["missing"])
        return answer["amount"] / answer["seconds"]

    def end(self) -> None:
        """Lets the process end."""
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return {"missing": lines[-1] if lines else "its process ended"}
