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
