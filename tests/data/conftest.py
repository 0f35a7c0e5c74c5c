"""Fixtures for tests of data sets: conversion in this process, and small sets."""

import resource

import pytest

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
