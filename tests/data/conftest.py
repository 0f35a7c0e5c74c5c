"""What several tests of data sets need: records that are written in this process, and small sets."""

import functools

import pytest

from cae.data import converted, lines, sources

in_a_process_of_its_own = converted._apart


@pytest.fixture(autouse=True)
def written_in_this_process(monkeypatch):
    """Has converted data sets written in this process, without the seconds that another interpreter takes to start."""
    monkeypatch.setattr(converted, "_apart", lambda work, *arguments: work(*arguments))


@pytest.fixture
def written_apart(written_in_this_process, monkeypatch):
    """Has converted data sets written in a process of its own, as in real use."""
    monkeypatch.setattr(converted, "_apart", in_a_process_of_its_own)


@pytest.fixture
def digits_once(monkeypatch):
    """Has the embedded digits of a size enlarged once for all tests of a process."""
    monkeypatch.setattr(sources, "_digits", _digits)


_digits = functools.cache(sources._digits)


@pytest.fixture
def few_lines(monkeypatch):
    """Makes the data set of drawn lines one of 700 images, not 70,000."""
    monkeypatch.setattr(lines, "IMAGES", 700)
