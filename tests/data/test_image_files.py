import errno
import os
from pathlib import Path

import pytest

from cae.data import image_files
from cae.errors import UserError


@pytest.fixture(autouse=True)
def create(tmp_path, monkeypatch):
    """Returns a function that creates empty files in the working directory."""

    def create(*names):
        for name in names:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).touch()

    monkeypatch.chdir(tmp_path)
    return create


def list_names(paths):
    """Returns the names and the paths of the listed files."""
    return {name: str(path) for name, path in image_files.list_images(paths)}


def test_files_are_listed_with_subfolders_and_without_hidden_ones(create):
    create("b.png", "sub/a.png", ".hidden", ".cache/a.png")
    assert [*list_names(".")] == ["b.png", "sub/a.png"]
    assert list_names("b.png") == {"b.png": "b.png"}


@pytest.mark.parametrize(
    "paths, listed",
    {
        # Names do not collide.
        "b/x.png,a": {"x.png": "b/x.png", "y.png": "a/y.png", "sub/x.png": "a/sub/x.png"},
        "a/sub,b/z.png": {"x.png": "a/sub/x.png", "z.png": "b/z.png"},
        # All names are paths below the deepest common folder.
        "b,a/sub/x.png": {"b/x.png": "b/x.png", "b/z.png": "b/z.png", "a/sub/x.png": "a/sub/x.png"},
        "a/sub/x.png,b/../c/x.png": {"a/sub/x.png": "a/sub/x.png", "c/x.png": "b/../c/x.png"},
        "c/x.png,c/more/x.png": {"x.png": "c/x.png", "more/x.png": "c/more/x.png"},
        # A file may not be called like another one's folder.
        "c/sub,a": {"c/sub": "c/sub", "a/y.png": "a/y.png", "a/sub/x.png": "a/sub/x.png"},
        # Each file is listed once.
        "b/z.png, ./b/z.png,b/../b/z.png,": {"z.png": "b/z.png"},
        "a/sub,a,linked": {"x.png": "a/sub/x.png", "y.png": "a/y.png"},
        # Commas in names.
        "b/z.png,d/x,y.png,d/x.png": {"z.png": "b/z.png", "x,y.png": "d/x,y.png", "x.png": "d/x.png"},
        "d/x,y.png": {"x,y.png": "d/x,y.png"},
        "d/x,y.png,c/more": {"x,y.png": "d/x,y.png", "x.png": "c/more/x.png"},
    }.items(),
)
def test_several_paths_are_listed_with_unique_names(create, paths, listed):
    create("a/sub/x.png", "a/y.png", "b/x.png", "b/z.png", "c/x.png", "c/more/x.png", "c/sub", "d/x,y.png", "d/x.png")
    os.symlink("a", "linked")
    assert list_names(paths) == listed


def test_links_are_followed_without_an_end_and_pipes_are_ignored(create):
    create("folder/sub/a.png", "other/b.png")
    links = {"loop": "loop", "up": "..", "missing.png": "nowhere.png", "sub/linked": "../../other", "pipe.png": "pipe"}
    for name, target in links.items():
        os.symlink(target, f"folder/{name}")
    os.mkfifo("folder/pipe")
    names = ["loop", "missing.png", "sub/a.png", "sub/linked/b.png", "up/other/b.png"]
    assert [*list_names("folder")] == names
    # Files that are linked twice within a folder are two, within several folders they are one.
    assert len(list_names("folder,other")) == len(names)


@pytest.mark.parametrize(
    "paths, message",
    [
        ("nowhere", "--images=nowhere: there is no such file or folder$"),
        ("empty", "contains no files"),
        ("pipe", "is neither a file nor a folder"),
        (",", "--images=,: there is no such file"),
        ("a.png,nowhere,a.png", "--images=nowhere: there is no such .* contains a comma can be given alone, or by its"),
        ("a.png," * 2000 + "b.png", "--images=b.png: there is no such file or folder"),
    ],
)
def test_path_without_files_is_refused(create, paths, message):
    create("a.png")
    Path("empty").mkdir()
    os.mkfifo("pipe")
    with pytest.raises(UserError, match=message):
        image_files.list_images(paths)


def test_a_folder_that_cannot_be_listed_is_not_left_out(create, monkeypatch):
    create("a.png", "closed/b.png", "sub/c.png")

    def scandir(path, scandir=os.scandir):
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    # Among images to predict, it is a file that cannot be read; a data set would lack its images.
    assert [*list_names(".")] == ["a.png", "closed", "sub/c.png"]
    with pytest.raises(UserError, match="the folder closed cannot be read: Permission denied"):
        list(image_files.walk_files(Path(".")))
    with pytest.raises(UserError, match="the folder closed cannot be read: Permission denied"):
        list_names("closed")
