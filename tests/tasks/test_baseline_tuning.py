"""Parameters of baselines are searched once for the same images, baselines, grids and versions."""

import dataclasses
import importlib.metadata
import json
import os

import numpy as np
import pytest
from cli import assert_one_line, call
from sklearn.model_selection import ParameterGrid

from cae import io_utils
from cae.tasks import baseline_tuning, baselines, denoising_benchmark
from cae.tasks.baseline_tuning import TuningCache
from cae.tasks.baselines import Baseline


def choose_params(position):
    """Returns parameters of each baseline, those at a position of its grid."""
    return {name: list(ParameterGrid(baseline.param_grid))[position] for name, baseline in baselines.BASELINES.items()}


PARAMS = choose_params(-1)


@pytest.fixture
def pairs(random):
    clean = random.random((3, 12, 12, 1), np.float32)
    return clean, (clean + 0.1).astype(np.float32)


@pytest.fixture
def cache(tmp_path, pairs):
    """A cache that contains parameters for the pairs."""
    cache = TuningCache(tmp_path / "cache")
    cache.write(*pairs, PARAMS)
    return cache


def files(cache):
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def test_written_parameters_are_read(cache, pairs):
    assert cache.read(*pairs) == PARAMS
    (path,) = files(cache)
    assert path.stat().st_size < 4096 and json.loads(path.read_text()) == PARAMS


def change_noise(pairs, patch):
    return pairs[0], pairs[1] + np.float32(1e-6)


def change_images(pairs, patch):
    return pairs[0][::-1], pairs[1]


def remove_an_image(pairs, patch):
    return pairs[0][:2], pairs[1][:2]


def change_shape(pairs, patch):
    return tuple(each.reshape(3, 9, 16, 1) for each in pairs)


def change_grid(pairs, patch):
    median = baselines.BASELINES["median"]
    patch.setitem(baselines.BASELINES, "median", Baseline(median.denoise, {"size": (3, 5, 7, 9)}))
    return pairs


def add_baseline(pairs, patch):
    patch.setitem(baselines.BASELINES, "none", Baseline(lambda image: image, {}))
    return pairs


def change_version(pairs, patch):
    version = importlib.metadata.version
    patch.setattr(
        baseline_tuning.importlib.metadata, "version", lambda name: version(name) + ".1" * (name == "scikit-image")
    )
    return pairs


def change_code(pairs, patch):
    patch.setattr(baseline_tuning.inspect, "getsource", lambda module: f"# {module}")
    return pairs


@pytest.mark.parametrize(
    "change",
    [change_noise, change_images, remove_an_image, change_shape, change_grid, add_baseline, change_version,
     change_code],
)  # fmt: skip
def test_the_key_has_all_that_the_best_parameters_depend_on(cache, pairs, change, monkeypatch):
    with monkeypatch.context() as patch:
        changed = change(pairs, patch)
        assert cache.read(*changed) is None
        params = choose_params(0)
        cache.write(*changed, params)
        assert cache.read(*changed) == params
    # Neither file replaces the other.
    assert cache.read(*pairs) == PARAMS and len(files(cache)) == 2


def edit(change):
    def damage(path):
        saved = json.loads(path.read_text())
        change(saved)
        path.write_text(json.dumps(saved))

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
        edit(lambda saved: saved.pop("median")),
        edit(lambda saved: saved.update(median={"size": 4})),
        edit(lambda saved: saved.update(median={"size": 3, "sigma": 1})),
        edit(lambda saved: saved.update(median="3")),
        edit(lambda saved: saved.update(median=None)),
    ],
)
def test_a_corrupt_file_is_ignored_and_written_again(cache, pairs, damage):
    (path,) = files(cache)
    damage(path)
    assert cache.read(*pairs) is None
    cache.write(*pairs, PARAMS)
    assert cache.read(*pairs) == PARAMS and files(cache) == [path]


def test_a_folder_that_is_not_writable_means_no_cache(tmp_path, pairs):
    (tmp_path / "file").write_text("not a folder")
    cache = TuningCache(tmp_path / "file")
    cache.write(*pairs, PARAMS)
    assert cache.read(*pairs) is None and (tmp_path / "file").read_text() == "not a folder"
    TuningCache(None).write(*pairs, PARAMS)
    assert TuningCache(None).read(*pairs) is None


def test_a_full_disk_leaves_no_partial_file(cache, pairs, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(io_utils.os, "replace", fail)
    cache.write(pairs[0] / 2, pairs[1], PARAMS)
    assert len(files(cache)) == 1


@pytest.mark.parametrize(
    "variable, expected",
    [("/some/where", "/some/where/cae"), ("", "/home/me/.cache/cae"), ("here", "/home/me/.cache/cae")],
)
def test_the_default_folder_follows_the_xdg_specification(variable, expected, monkeypatch):
    """A relative path is to be ignored."""
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert os.fspath(baseline_tuning.default_cache_dir()) == expected
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert os.fspath(baseline_tuning.default_cache_dir()) == "/home/me/.cache/cae"


# --- In an evaluation -------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(context, monkeypatch, tmp_path):
    """An evaluation on one noise with two baselines."""
    two = {name: baselines.BASELINES[name] for name in ("median", "gaussian")}
    monkeypatch.setattr(baselines, "BASELINES", two)
    changes = {"class_names": [], "comparison_runs": {}, "noises": ["salt_pepper:0.5"]}
    return dataclasses.replace(context, cache_dir=tmp_path / "cache", **changes)


@pytest.fixture
def searches(monkeypatch):
    """The number of images of each search."""
    counts, grid_search = [], baselines.grid_search

    def count(baseline, clean, noisy):
        counts.append(len(clean))
        return grid_search(baseline, clean, noisy)

    monkeypatch.setattr(baselines, "grid_search", count)
    return counts


def run_baselines(context):
    results = denoising_benchmark.run_benchmark(context, context.noises, example_index=0)
    return [result for result in results if result.method in baselines.BASELINES]


def test_a_second_evaluation_does_not_search_and_has_the_same_results(quick, searches):
    first = run_baselines(quick)
    assert searches == [8] * 2  # Two baselines, on all eight images.
    second = run_baselines(quick)
    assert len(searches) == 2
    for before, after in zip(first, second, strict=True):
        assert (after.noise, after.method, after.params) == (before.noise, before.method, before.params)
        np.testing.assert_array_equal(after.metrics["mse"], before.metrics["mse"])
        assert after.seconds > 0  # Denoising itself is not cached.


def test_only_new_noises_are_searched_on_the_requested_number_of_images(quick, searches):
    quick = dataclasses.replace(quick, baseline_tuning_images=3)
    run_baselines(quick)
    assert searches == [3] * 2
    run_baselines(dataclasses.replace(quick, noises=["salt_pepper:0.5", "gaussian:0.3"]))
    assert searches == [3] * 4


# --- Flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word, message",
    [
        ("--baseline_tuning_images=0", "flag --baseline_tuning_images=0: 0 is not a positive integer"),
        ("--kmeans_n_init=0", "flag --kmeans_n_init=0: 0 is not a positive integer"),
        ("--tsne_images=4", "flag --tsne_images=4: must be 0, for no t-SNE, or at least 5"),
        ("--tsne_images=-1", "flag --tsne_images=-1: must be 0, for no t-SNE, or at least 5"),
        ("--tsne_images=many", "flag --tsne_images=many"),
    ],
)
def test_invalid_flags_have_a_message_of_one_line(word, message, tmp_path):
    assert_one_line(call("eval.py", word, folder=tmp_path), message)
