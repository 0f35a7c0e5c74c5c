"""Progress without a terminal; the clock and the printing thread are replaced."""

import io
import sys
import time

import joblib
import pytest

from cae import progress


@pytest.fixture(autouse=True)
def enable(monkeypatch):
    """Enables progress, which other tests disable, as in a program."""
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.setattr(progress._printer, "is_enabled", True)


@pytest.fixture
def clock(monkeypatch):
    """Replaces the clock; `clock.pass_time(seconds)` advances it, and polls as often as the printing thread does."""

    class Clock:
        now = 100.0

        def pass_time(self, seconds):
            for _ in range(round(seconds / progress._POLL_SECONDS)):
                self.now += progress._POLL_SECONDS
                printer.print_if_due()

    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(progress.threading, "Thread", lambda **_: type("Thread", (), {"start": lambda self: None})())
    printer = progress._Printer()
    printer.is_enabled = True
    monkeypatch.setattr(progress, "_printer", printer)
    return clock


def test_work_that_is_counted_says_how_much_is_left(clock, capsys):
    with progress.phase("denoising", 10, "image") as bar:
        clock.pass_time(3.5)
        assert capsys.readouterr().err == ""
        clock.pass_time(0.5)
        assert capsys.readouterr().err == "denoising: 0 of 10 images\n"
        bar.update(4)
        clock.pass_time(4)  # 8 seconds for 4 images: 12 for 6.
        assert capsys.readouterr().err == "denoising: 4 of 10 images, 12 s left\n"
    clock.pass_time(60)
    assert capsys.readouterr().err == ""


def test_the_innermost_phase_speaks_and_other_lines_put_it_off(clock, capsys):
    with progress.phase("evaluating"):
        clock.pass_time(3)
        with progress.phase("t-SNE"):
            clock.pass_time(1)
            assert capsys.readouterr().err == "t-SNE: 1 s\n"
            progress.write_line("a result")
            clock.pass_time(3.5)
        clock.pass_time(0.5)
        out, err = capsys.readouterr()
        assert (out, err) == ("a result\n", "evaluating: 8 s\n")


def test_lines_of_long_work_are_further_apart_and_what_was_done_before_does_not_count(clock, capsys):
    bar = progress.start("epoch 3/9", 1000, "image", initial=400)
    clock.pass_time(600)
    capsys.readouterr()
    bar.update(100)
    bar.set_description_str("epoch 4/9")
    clock.pass_time(300)
    lines = capsys.readouterr().err.splitlines()
    assert 20 <= len(lines) <= 300 / 10
    assert lines[-1].startswith("epoch 4/9: 500 of 1,000 images, ")  # 900 seconds for 100 images, about.
    bar.close()
    bar.close()
    clock.pass_time(100)
    assert capsys.readouterr().err == ""


def test_progress_can_be_disabled(clock, capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with progress.phase("fitting", 3, "score") as bar:
        bar.update()
        clock.pass_time(10)
    assert capsys.readouterr().err == ""


def test_a_library_is_silent_and_a_program_is_not(clock, capsys):
    progress._printer.is_enabled = False
    with progress.phase("denoising"):
        clock.pass_time(10)
        assert capsys.readouterr().err == ""
    with progress.program("eval.py"):
        clock.pass_time(4)
        with progress.phase("t-SNE"):
            clock.pass_time(4)
    assert capsys.readouterr().err == "eval.py: 4 s\nt-SNE: 4 s\n" and not progress.is_program()


def test_a_worker_that_leaves_the_lines_to_another_is_silent(clock, capsys):
    with progress.program("train.py"):
        progress.stop_lines()
        with progress.phase("validation"):
            clock.pass_time(60)
    assert capsys.readouterr().err == "" and progress.is_program()


def test_an_error_ends_a_phase(clock, capsys):
    with pytest.raises(ValueError, match="wrong"), progress.phase("fitting"):
        raise ValueError("wrong")
    clock.pass_time(10)
    assert capsys.readouterr().err == ""


def test_the_thread_prints_and_ends(monkeypatch, capsys):
    monkeypatch.setattr(progress, "MAX_SILENT_SECONDS", 0.02)
    monkeypatch.setattr(progress, "_POLL_SECONDS", 0.01)
    with progress.phase("waiting"):
        deadline = time.monotonic() + 10
        while not (err := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert err.startswith("waiting: 0 s")


def test_a_terminal_has_a_bar(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.phase("fitting"), progress.phase("train.py", bar=False):
        pass
    with progress.phase("denoising", 3, "image", delay=0.0, keep=True) as bar:
        bar.update(3)
    assert "fitting ..." in terminal.getvalue() and "denoising: 100%" in terminal.getvalue()
    assert "train.py" not in terminal.getvalue()


def test_jobs_return_their_results_in_order(clock):
    jobs = (joblib.delayed(pow)(base, 2) for base in (3, 1, 2))
    assert progress.parallel_map(jobs, 3, "squaring", "number") == [9, 1, 4]
