"""Runs commands one after the other, each in a process of its own, and keeps what was done, so that it can resume."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from benchmarks.results import records
from benchmarks.results.definition import FOLDERS, Command, fill, read_output
from cae.errors import UserError
from cae.io_utils import atomic_write

LOCK = Path(tempfile.gettempdir()) / "cae_results.lock"
"""One for the machine: two measurements at once would slow each other down."""

POLL_SECONDS = 0.5


class CommandError(Exception):
    """A command failed; the message is its last line."""


@contextlib.contextmanager
def lock(path: Path = LOCK) -> Iterator[None]:
    """A context in which no other process of this machine measures.

    Raises:
      UserError: Another one does.
    """
    file_lock = filelock.FileLock(path, timeout=0)
    try:
        file_lock.acquire()
    except filelock.Timeout as error:
        raise UserError(f"another process is measuring, and holds {path}; wait until it has ended") from error
    except PermissionError as error:
        raise UserError(f"{path} belongs to another user; remove it if nobody is measuring") from error
    with file_lock:
        yield


@contextlib.contextmanager
def interrupt_on_sigterm() -> Iterator[None]:
    """A context in which SIGTERM is what Ctrl-C is: the command under way saves its state."""
    handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@dataclasses.dataclass(frozen=True)
class Workspace:
    """Where commands run and what they are given.

    Attributes:
      runs: The folder of runs, of logs and of what was done.
      folders: Folders by the names of `definition.FOLDERS` that commands have in braces.
      data_dir: The value of --data_dir; None for the default.
      any_commit: Whether what was done at another commit counts as done.
      needs_commit: Whether code that differs from its commit is refused, since pages show the figures.
      python: The first words of each command.
    """

    runs: Path
    folders: Mapping[str, str]
    data_dir: str | None = None
    any_commit: bool = False
    needs_commit: bool = False
    python: Sequence[str] = (sys.executable,)

    def is_done(self, commit: str | None, command: str) -> bool:
        """Returns whether what a command has measured at a commit needs no other measurement."""
        return self.any_commit or records.is_current(commit, command)

    def display(self, command: Command, seed: int) -> str:
        """Returns a command as a table's file has it: without folders of this machine."""
        return "python " + self.display_path(command.words, seed)

    def display_path(self, text: str, seed: int) -> str:
        """Returns a text in which placeholders are replaced, but not by folders of this machine."""
        folders = {name: f"path/to/{name}" for name in FOLDERS}
        return fill(text, {"seed": str(seed), "runs": "runs"} | folders)

    def fill(self, text: str, seed: int) -> str:
        """Returns a text in which placeholders are replaced."""
        return fill(text, {"seed": str(seed), "runs": str(self.runs)} | self.folders)

    def argv(self, command: Command, seed: int) -> list[str]:
        """Returns the words to run."""
        words = [self.fill(word, seed) for word in shlex.split(command.words)]
        return [*self.python, *words]

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of commands, not all of which have --data_dir."""
        return os.environ | ({"TFDS_DATA_DIR": self.data_dir} if self.data_dir else {})


def choose_runs(folder: Path, any_commit: bool) -> Path:
    """Returns the folder of runs of this code, below that of all: what was trained by other code is not resumed.

    Args:
      folder: The folder of all runs; those in it have the names of the commits at which they were begun.
      any_commit: Whether the newest one is taken, whatever its commit.
    """
    newest_first = sorted(folder.glob("*/"), key=lambda path: path.stat().st_mtime, reverse=True)
    fitting = [path for path in newest_first if any_commit or records.is_current(path.name, "train.py")]
    return (fitting or [folder / (records.current_commit() or "unknown")])[0]


class Journal:
    """What was done of each command: a file for each in the folder `done` of the runs, which rows share."""

    def __init__(self, workspace: Workspace):
        self._workspace, self._failed, self._run_now = workspace, {}, set()

    def run(self, command: Command, seed: int, tick: Callable[[float], None]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Runs a command, unless that was done.

        Args:
          command: The command.
          seed: Of the row.
          tick: Is called with the seconds since its last call while the command runs.

        Returns:
          command, commit, date, minutes and load, as in a table's file, and the machine it ran on; and the content of
          what it has written by name. Minutes of interrupted attempts count where they are resumed.

        Raises:
          CommandError: It failed, now or before.
          UserError: The code differs from its commit, and the workspace needs one.
        """
        display = self._workspace.display(command, seed)
        if display in self._failed:
            raise CommandError(self._failed[display])
        path = self._path(display)
        entry = json.loads(path.read_text()) if path.exists() else {}
        if not self._is_usable(entry, command):
            if entry and command.resumes:
                shutil.rmtree(self._workspace.fill(command.resumes, seed), ignore_errors=True)
            self._forget_results(command, seed)
            entry = {}
        if not entry.get("outputs"):
            if self._workspace.needs_commit:
                records.check_committed()
            entry = self._continue(command, seed, entry or self._begin(display), path, tick)
        outputs = entry.pop("outputs")
        return {"machine": dict.fromkeys(records.machine())} | entry, outputs

    def forget(self, commands: Iterable[Command], seed: int) -> bool:
        """Forgets what an earlier process has done, but for trainings, and returns whether there was anything.

        It may have lacked a package or data that is there now.
        """
        displays = {self._workspace.display(command, seed) for command in commands if not command.resumes}
        for display in displays - self._run_now:
            self._path(display).unlink(missing_ok=True)
        return bool(displays - self._run_now)

    def _is_usable(self, entry: Mapping[str, Any], command: Command) -> bool:
        """Returns whether what was done of a command counts; if unfinished, where it is resumed on its machine."""
        if not entry or not self._workspace.is_done(entry["commit"], entry["command"]):
            return False
        # Minutes of two machines would add up. Older entries do not name theirs.
        is_resumable = command.resumes and entry.get("machine") in (None, records.machine())
        return bool(entry.get("outputs") or is_resumable)

    def _forget_results(self, command: Command, seed: int) -> None:
        """Forgets what commands have made of the folder that this one makes: they evaluate what it makes anew."""
        if command.resumes:
            name = re.escape(self._workspace.display_path(command.resumes, seed))
            for path in (self._workspace.runs / "done").glob("*.json"):
                if re.search(rf"{name}(?![\w.-])", json.loads(path.read_text())["command"]):
                    path.unlink()

    def _path(self, display: str) -> Path:
        return self._workspace.runs / "done" / f"{hashlib.sha256(display.encode()).hexdigest()[:16]}.json"

    def _begin(self, display: str) -> dict[str, Any]:
        return {
            "command": display,
            "commit": records.current_commit(),
            "date": records.today(),
            "minutes": 0.0,
            "load": [records.load_average()] * 2,
            "machine": records.machine(),
        }

    def _continue(
        self, command: Command, seed: int, entry: dict[str, Any], path: Path, tick: Callable[[float], None]
    ) -> dict[str, Any]:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        self._run_now.add(entry["command"])
        try:
            argv, log = self._workspace.argv(command, seed), path.with_suffix(".log")
            execute(argv, log, tick, self._workspace.environment)
            outputs = {name: Path(self._workspace.fill(each, seed)) for name, each in command.reads.items()}
            entry["outputs"] = {name: read_output(each) for name, each in outputs.items() if each.exists()}
        except CommandError as error:
            self._failed[entry["command"]] = str(error)
            raise
        finally:
            entry["minutes"] += (time.monotonic() - start) / 60
            entry["load"] = [entry["load"][0], records.load_average()]
            with atomic_write(path) as file:
                file.write(json.dumps(entry) + "\n")
        return entry


def _is_running(process: subprocess.Popen) -> bool:
    """Returns whether a process still runs after `POLL_SECONDS`."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(POLL_SECONDS)
    return process.returncode is None


def execute(argv: Sequence[str], log: Path, tick: Callable[[float], None], environment: Mapping[str, str]) -> None:
    """Runs a program in the repository's root, with these environment variables and its output in a file.

    An interruption is passed on once, and what it saves is waited for.

    Raises:
      CommandError: Its exit code is not 0.
    """
    with log.open("w") as file:
        # In a group of its own, it gets no Ctrl-C but the one that is passed on.
        process = subprocess.Popen(argv, cwd=records.ROOT, stdout=file, stderr=file, env=environment, process_group=0)
        try:
            while _is_running(process):
                tick(POLL_SECONDS)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if process.returncode:
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        raise CommandError(f"exit code {process.returncode}: {lines[-1]} (log: {log})")
