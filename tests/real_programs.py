"""How tests start the real programs, as people do."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(program, *words, folder, seconds=600):
    """Runs a program, or a module after '-m', in a folder of its own; returns its exit code, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, *([program] if program == "-m" else [str(ROOT / program)]), *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    return done.returncode, done.stdout, done.stderr
