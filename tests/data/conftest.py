"""What several tests of data sets need: records that are written in this process, small sets, and MNIST read once."""

import dataclasses
import functools

import pytest

from cae.config import Config
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
def few_lines(monkeypatch):
    """Makes the data set of drawn lines one of 700 images, not 70,000."""
    monkeypatch.setattr(lines, "IMAGES", 700)


@pytest.fixture
def mnist(tfds_dir):
    """MNIST in memory, each split read once for all tests of a process."""
    return _mnist(tfds_dir)


@functools.cache
def _mnist(tfds_dir):
    source = sources.open_source(Config(dataset="mnist", data_dir=tfds_dir))
    return dataclasses.replace(source, read=functools.cache(source.read))
