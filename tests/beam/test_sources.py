"""The names that files of folders and patterns have."""

import pytest

from cae.beam.paths import list_files
from cae.beam.sources import find_patterns


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("day1", ["a.png", "deep/b.png"]),
        ("day1/", ["a.png", "deep/b.png"]),
        ("day[2]/", ["c.png"]),
        ("day*/", ["day1/a.png", "day1/deep/b.png", "day[2]/c.png"]),
        ("day*/**", ["day1/a.png", "day1/deep/b.png", "day[2]/c.png"]),
        ("day1/d*/", ["deep/b.png"]),
        ("day?/a.*", ["day1/a.png"]),
        ("*/", ["day1/a.png", "day1/deep/b.png", "day[2]/c.png"]),
    ],
)
def test_names_are_relative_to_the_folder_in_which_the_pattern_begins(given, names, tmp_path, monkeypatch):
    # Folders above it may be hidden, and their names are no parts of those of files.
    folder = tmp_path / ".hidden"
    for name in ("day1/a.png", "day1/deep/b.png", "day[2]/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    monkeypatch.chdir(folder)
    patterns = find_patterns([given])
    assert sorted(map(patterns.name, list_files(*patterns.patterns))) == names


def test_folders_above_what_is_named_may_be_hidden_and_those_below_are_ignored(tmp_path):
    for name in (".staging/day1/a.png", "day2/b.png", "day2/.cache/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    patterns = find_patterns([str(tmp_path / ".staging/day1"), str(tmp_path / "day2")])
    files = list_files(patterns.patterns[0]) + list_files(patterns.patterns[1])
    kept = sorted(patterns.name(path) for path in files if not patterns.is_ignored(path))
    assert kept == [".staging/day1/a.png", "day2/b.png"]
    assert not patterns.is_ignored("hdfs://host/day2/b.png"), "of a file system that names files in another way"
