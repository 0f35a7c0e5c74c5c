"""Fixtures for tests of data sets: conversion in this process, small sets, and records."""

import dataclasses
import resource

import numpy as np
import pytest
from record_sets import CLASSES, DIGITS, in_chunks

import cae
from cae.data import lines, record_cache

run_in_subprocess = record_cache.run_in_subprocess


@pytest.fixture(autouse=True)
def convert_in_process(monkeypatch):
    """Converts data sets in this process, without the seconds that a new interpreter takes to start."""
    monkeypatch.setattr(record_cache, "run_in_subprocess", lambda function, *arguments: function(*arguments))


@pytest.fixture
def convert_in_subprocess(convert_in_process, monkeypatch):
    """Converts data sets in a subprocess, as programs do."""
    monkeypatch.setattr(record_cache, "run_in_subprocess", run_in_subprocess)


@pytest.fixture
def few_lines(monkeypatch):
    """Makes the data set of lines one of 700 images instead of 70,000."""
    monkeypatch.setattr(lines, "NUM_IMAGES", 700)


@pytest.fixture
def limit_file_size():
    """Limits the size of the files that a test writes, which fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def always(tmp_path):
    """The configuration of digits that are streamed, with a cache of the test's own."""
    return dataclasses.replace(DIGITS, streaming="always", cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def data(random):
    """Images that are not square, and their labels."""
    return random.integers(0, 256, (100, 12, 13, 3), np.uint8), random.integers(0, 3, 100)


@pytest.fixture
def folder(data, tmp_path):
    cae.write_records(tmp_path / "set", in_chunks(*data), CLASSES)
    return tmp_path / "set"
