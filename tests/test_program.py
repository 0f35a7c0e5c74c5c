"""How programs end: the exit code, and one line on stderr."""

import signal

import pytest
import tensorflow as tf
from absl import flags

from cae import program
from cae.errors import UserError
from cae.interrupts import Interrupted


def call(main, *words):
    try:
        return program.call(main, ["program.py", *words])
    finally:
        flags.FLAGS.unparse_flags()


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("returned, code", [(None, 0), (3, 3)])
def test_a_program_ends_with_what_it_returns(capsys, returned, code):
    assert call(lambda: returned) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error, code, told",
    [
        (UserError("--width=0 must be\nat least 1"), 2, "--width=0 must be at least 1"),
        (Interrupted(signal.SIGTERM, "interrupted at step 3"), 143, "interrupted at step 3; the same command goes on"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError("no space"), 1, "OSError: no space"),
        (MemoryError(), 1, "MemoryError:"),
        (tf.errors.UnknownError(None, None, "UserError: a damaged record\n  in a graph"), 2, "a damaged record"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM"), 1, "out of memory; a smaller --batch_size, --width or"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(capsys, error, code, told):
    assert call(raising(error)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"program.py: {told}") and err.count("\n") == 1


def test_a_fault_of_the_code_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        call(raising(ZeroDivisionError()))


@pytest.mark.parametrize("word, told", [("--nothing=1", "Unknown command line flag 'nothing'"), ("word", "no flag")])
def test_words_that_are_no_flags_are_told_before_the_program_runs(capsys, word, told):
    assert call(lambda: pytest.fail("was called"), word) == 2
    assert told.replace("no flag", "'word' is not a flag") in capsys.readouterr().err
