"""Settings of denoisers are searched once for the same images, methods, choices and versions."""

import dataclasses
import importlib.metadata
import json
import os

import numpy as np
import pytest
from programs import assert_one_line, call

from cae.tasks import classical, matrix, tuning
from cae.tasks.classical import Method
from cae.tasks.tuning import TuningCache

SETTINGS = {name: method.settings()[-1] for name, method in classical.METHODS.items()}


@pytest.fixture
def pairs(random):
    clean = random.random((3, 12, 12, 1), np.float32)
    return clean, (clean + 0.1).astype(np.float32)


@pytest.fixture
def cache(tmp_path, pairs):
    """A cache that holds the settings for the pairs."""
    cache = TuningCache(tmp_path / "cache")
    cache.write(*pairs, SETTINGS)
    return cache


def files(cache):
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def test_what_was_written_is_read(cache, pairs):
    assert cache.read(*pairs) == SETTINGS
    (path,) = files(cache)
    assert path.stat().st_size < 4096 and json.loads(path.read_text())["settings"] == SETTINGS


def changed_noise(pairs, patch):
    return pairs[0], pairs[1] + np.float32(1e-6)


def changed_images(pairs, patch):
    return pairs[0][::-1], pairs[1]


def fewer_images(pairs, patch):
    return pairs[0][:2], pairs[1][:2]


def other_sides(pairs, patch):
    return tuple(each.reshape(3, 9, 16, 1) for each in pairs)


def changed_choices(pairs, patch):
    method = classical.METHODS["median"]
    patch.setitem(classical.METHODS, "median", Method(method.denoise, {"size": (3, 5, 7, 9)}))
    return pairs


def another_method(pairs, patch):
    patch.setitem(classical.METHODS, "none", Method(lambda image: image, {}))
    return pairs


def another_version(pairs, patch):
    version = importlib.metadata.version
    patch.setattr(tuning.importlib.metadata, "version", lambda name: version(name) + ".1" * (name == "scikit-image"))
    return pairs


def changed_code(pairs, patch):
    patch.setattr(tuning.inspect, "getsource", lambda module: f"# {module}")
    return pairs


@pytest.mark.parametrize(
    "change",
    [changed_noise, changed_images, fewer_images, other_sides, changed_choices, another_method, another_version,
     changed_code],
)  # fmt: skip
def test_whatever_the_choice_depends_on_is_part_of_the_key(cache, pairs, change, monkeypatch):
    with monkeypatch.context() as patch:
        other = change(pairs, patch)
        assert cache.read(*other) is None
        settings = {name: method.settings()[0] for name, method in classical.METHODS.items()}
        cache.write(*other, settings)
        assert cache.read(*other) == settings
    # Neither takes the place of the other.
    assert cache.read(*pairs) == SETTINGS and len(files(cache)) == 2


def rewritten(change):
    def damage(path):
        held = json.loads(path.read_text())
        change(held)
        path.write_text(json.dumps(held))

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
        lambda path: path.write_text("[1]"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text("null"),
        rewritten(lambda held: held.pop("settings")),
        rewritten(lambda held: held["settings"].pop("median")),
        rewritten(lambda held: held["settings"].update(median={"size": 4})),
        rewritten(lambda held: held["settings"].update(median="3")),
        rewritten(lambda held: held["key"].update(noisy="0")),
    ],
)
def test_a_damaged_or_foreign_file_is_ignored_and_written_again(cache, pairs, damage):
    (path,) = files(cache)
    damage(path)
    assert cache.read(*pairs) is None
    cache.write(*pairs, SETTINGS)
    assert cache.read(*pairs) == SETTINGS and files(cache) == [path]


def test_a_folder_that_cannot_be_written_loses_nothing(tmp_path, pairs):
    (tmp_path / "file").write_text("no folder")
    cache = TuningCache(tmp_path / "file")
    cache.write(*pairs, SETTINGS)
    assert cache.read(*pairs) is None and (tmp_path / "file").read_text() == "no folder"
    TuningCache(None).write(*pairs, SETTINGS)
    assert TuningCache(None).read(*pairs) is None


def test_a_full_disk_leaves_no_half_of_a_file(cache, pairs, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(tuning.os, "replace", full)
    cache.write(pairs[0] / 2, pairs[1], SETTINGS)
    assert len(files(cache)) == 1


@pytest.mark.parametrize(
    "variable, told", [("/some/where", "/some/where/cae"), ("", "/home/me/.cache/cae"), ("here", "/home/me/.cache/cae")]
)
def test_the_users_own_folder_is_that_of_the_xdg_specification(variable, told, monkeypatch):
    """A relative path is to be ignored."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert os.fspath(tuning.default_cache_dir()) == told
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert os.fspath(tuning.default_cache_dir()) == "/home/me/.cache/cae"


# --- In an evaluation -------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(subject, monkeypatch, tmp_path):
    """An evaluation under a noise, with two methods."""
    chosen = {name: classical.METHODS[name] for name in ("median", "gaussian")}
    monkeypatch.setattr(classical, "METHODS", chosen)
    changed = {"class_names": [], "others": {}, "noises": ["salt_pepper:0.5"], "cache_dir": tmp_path / "cache"}
    return dataclasses.replace(subject, **changed)


@pytest.fixture
def searched(monkeypatch):
    """The numbers of images of every search."""
    counts, search = [], classical.best_setting

    def counted(method, clean, noisy):
        counts.append(len(clean))
        return search(method, clean, noisy)

    monkeypatch.setattr(classical, "best_setting", counted)
    return counts


def cells(subject):
    return [cell for cell in matrix.measure(subject, subject.noises, specimen=0) if cell.method in classical.METHODS]


def test_a_second_evaluation_does_not_search_again_and_says_the_same(quick, searched):
    first = cells(quick)
    assert searched == [8] * 2  # Two methods, on all eight images.
    again = cells(quick)
    assert len(searched) == 2
    assert [(cell.noise, cell.method, cell.setting) for cell in again] == [
        (cell.noise, cell.method, cell.setting) for cell in first
    ]
    for one, other in zip(first, again):
        np.testing.assert_array_equal(one.qualities["mse"], other.qualities["mse"])
    # The methods have run all the same.
    assert all(cell.seconds > 0 for cell in again)


def test_what_is_new_alone_is_searched_on_as_many_images_as_are_asked_for(quick, searched):
    quick = dataclasses.replace(quick, baseline_tuning_images=3)
    cells(quick)
    assert searched == [3] * 2
    cells(dataclasses.replace(quick, noises=["salt_pepper:0.5", "gaussian:0.3"]))
    assert searched == [3] * 4


# --- Flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, told",
    [
        ("--baseline_tuning_images=0", "flag --baseline_tuning_images=0: 0 is not a positive integer"),
        ("--kmeans_n_init=0", "flag --kmeans_n_init=0: 0 is not a positive integer"),
        ("--tsne_images=4", "flag --tsne_images=4: must be 0, for no t-SNE, or at least 5"),
        ("--tsne_images=-1", "flag --tsne_images=-1: must be 0, for no t-SNE, or at least 5"),
        ("--tsne_images=many", "flag --tsne_images=many"),
    ],
)
def test_flags_that_cannot_be_are_told_in_one_line(word, told, tmp_path):
    assert_one_line(call("eval.py", word, folder=tmp_path), told)
