"""The JSON files of tables: for each row its measurements, with commands, commits, load, versions and figures.

`{"ROW": [{"seed", "commands": [{"command", "commit", "date", "minutes", "load", "remark"}], "versions", "processor",
"cores", "figures"}]}`; what was not recorded is null. `load` is the load average over a minute at the start and the end
of a command. Versions, processor and cores are those of the first command, whose minutes pages show.
"""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cae.errors import UserError
from cae.io_utils import atomic_write
from cae.runtime import cpu_flags

ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / "benchmarks/tables"

PACKAGES = ("tensorflow", "keras", "numpy")

CODE = ("train.py", "eval.py", "cae", "configs", "benchmarks", ":!benchmarks/results", ":!benchmarks/tables")
"""What figures depend on, as Git's pathspecs; comments do not count."""

SHARED_CODE = ("train.py", "eval.py", "cae")
"""The part on which the figures of all commands depend."""

VECTOR_INSTRUCTIONS = {"avx512_bf16": "AVX-512 BF16", "avx512f": "AVX-512", "avx2": "AVX2"}
"""The flags of Linux for instructions on which speed depends, the widest first."""

DIRTY = "-dirty"
"""Behind the commit of code that was changed since."""

Record = dict[str, Any]


def load_table(name: str, folder: Path = TABLES) -> dict[str, list[Record]]:
    """Returns the measurements of a table by row; none where the file does not exist."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def save_record(name: str, row: str, record: Record, folder: Path) -> None:
    """Adds a measurement to a table's file, in place of an earlier one with the same seed."""
    content = load_table(name, folder)
    others = [other for other in content.get(row, []) if other["seed"] != record["seed"]]
    content[row] = sorted([*others, record], key=lambda each: each["seed"])
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / f"{name}.json") as file:
        file.write(format_table(content))


def format_table(content: Mapping[str, Sequence[Record]]) -> str:
    """Returns the content of a table's file: a figure a line, everything else of a measurement in short lines."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    # Lists of numbers, then dicts without others in them, stand in one line, but for the figures.
    for inner in (r"([\[])\n\s+([^\[\]{}]*?)\n\s+(\])", r'(?<!"figures": )(\{)\n\s+([^{}]*?)\n\s+(\})'):
        text = re.sub(inner, lambda match: match[1] + re.sub(r"\n\s+", " ", match[2]) + match[3], text)
    return text + "\n"


def machine() -> dict[str, Any]:
    """Returns versions of Python and of packages, the processor and the number of its cores that may be used."""
    versions = {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"versions": versions, "processor": _processor(), "cores": len(os.sched_getaffinity(0))}


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return describe_processor(found[1] if found else platform.processor(), cpu_flags())


def describe_processor(name: str, flags: Collection[str]) -> str:
    """Returns a processor's name and its widest vector instructions, which the same name may or may not have."""
    vectors = [title for flag, title in VECTOR_INSTRUCTIONS.items() if flag in flags]
    return " with ".join([name, *vectors[:1]])


def load_average() -> float:
    """Returns the number of processes that were ready to run, mean over a minute."""
    return round(os.getloadavg()[0], 2)


def today() -> str:
    """Returns the date, in ISO format."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def current_commit() -> str | None:
    """Returns the commit of the code as it is now, with `DIRTY` where it was changed since; None without Git."""
    commit = _git("rev-parse", "--short=7", "HEAD")
    return commit and (commit if _is_committed(CODE) else commit + DIRTY)


def check_committed() -> None:
    """Raises `UserError` if the code differs from its commit now."""
    if (current_commit() or "").endswith(DIRTY):
        raise UserError(
            "the code differs from its commit: commit it, new files too, since every figure of the pages has a commit"
        )


def is_current(commit: str | None, command: str | None = None) -> bool:
    """Returns whether the code is now that of a commit, but for comments: all of it, or what a command depends on."""
    code, head = CODE if command is None else find_code(command), _git("rev-parse", "HEAD")
    return bool(commit and head) and _is_unchanged(commit, head, code) and _is_committed(code)


def find_code(command: str) -> Sequence[str]:
    """Returns what the figures of a command depend on: its configurations, and only benchmarks on other benchmarks."""
    benchmarks = [each for each in CODE if "benchmarks" in each and "-m benchmarks." in command]
    return *SHARED_CODE, *re.findall(r"\bconfigs/\w+\.cfg", command), *benchmarks


def _is_committed(code: Sequence[str]) -> bool:
    # Without a cache: measuring takes hours, in which files may be edited.
    return _has_no_changes("HEAD", "--", *code) and not _git("ls-files", "--others", "--exclude-standard", "--", *code)


@functools.cache
def _is_unchanged(commit: str, head: str, code: Sequence[str]) -> bool:
    return _has_no_changes(commit, head, "--", *code)


def _has_no_changes(*words: str) -> bool:
    return _git("diff", "--quiet", "--ignore-matching-lines=^ *#", *words) is not None


def _git(*words: str) -> str | None:
    """Returns what a command of Git prints; None where it fails."""
    try:
        return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
