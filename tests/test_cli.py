"""How programs end: the exit code, and one line on stderr."""

import signal

import pytest
import tensorflow as tf
from absl import flags

from cae import cli
from cae.errors import UserError
from cae.preemption import Preempted


def call(main, *words):
    try:
        return cli.call(main, ["program.py", *words])
    finally:
        flags.FLAGS.unparse_flags()


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("returned, code", [(None, 0), (3, 3)])
def test_the_exit_code_is_what_the_program_returns(capsys, returned, code):
    assert call(lambda: returned) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error, code, message",
    [
        (UserError("--base_filters=0 must be\nat least 1"), 2, "--base_filters=0 must be at least 1"),
        (Preempted(signal.SIGTERM, "preempted"), 143, "preempted; rerun the same command to resume"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError("no space"), 1, "OSError: no space"),
        (MemoryError(), 1, "MemoryError:"),
        (tf.errors.UnknownError(None, None, "UserError: a corrupt record\n  in a graph"), 2, "a corrupt record"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), 1, "out of memory; use a smaller --batch_size"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(capsys, error, code, message):
    assert call(raising(error)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"program.py: {message}") and err.count("\n") == 1


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        call(raising(ZeroDivisionError()))


@pytest.mark.parametrize(
    "word, message",
    [
        ("--nonexistent=1", "Unknown command line flag 'nonexistent'"),
        ("word", "'word' is not a flag; flags look like --epochs=5"),
        ("--flagfile=/nonexistent.cfg", "/nonexistent.cfg"),
    ],
)
def test_bad_flags_are_reported_before_the_program_runs(capsys, word, message):
    assert call(lambda: pytest.fail("was called"), word) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1 and "Traceback" not in err
