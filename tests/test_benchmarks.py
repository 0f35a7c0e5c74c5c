"""How benchmarks start, and the sweep over latent sizes."""

import ast
import csv
import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from programs import ROOT, assert_one_line, call
from sklearn.decomposition import PCA

from benchmarks import latent_sizes, series
from cae import runs
from cae.config import Config
from cae.data import sources
from cae.errors import UserError

QUICK = ("--dataset=digits", "--image_size=12", "--width=4", "--epochs=1")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_what_is_started_as_a_program_defines_its_flags_before_it_runs(path):
    """Tests call main() with the flags of define_flags(): in real use the module's last lines do."""
    functions = {each.name for each in ast.parse(path.read_text()).body if isinstance(each, ast.FunctionDef)}
    last = ast.parse(path.read_text()).body[-1]
    started = isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"
    assert started == ("main" in functions) == ("define_flags" in functions)
    if started:
        assert [ast.unparse(each) for each in last.body][-2:] == ["define_flags()", "program.run(main)"]


def sweep(*words, folder):
    """Runs the sweep on the embedded digits in a folder of its own; returns its exit code, stdout and stderr."""
    return call("benchmarks.latent_sizes", *QUICK, *words, folder=folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Runs of two numbers and of more than there are principal components, and what was said."""
    folder = tmp_path_factory.mktemp("swept")
    code, out, err = sweep("--sizes=150,2,2", folder=folder)
    assert code == 0 and err == "", err
    return folder / "runs/latent_sizes", out


def table(folder):
    with (folder / "sizes.csv").open(newline="") as file:
        return {int(row["latent_dim"]): row for row in csv.DictReader(file)}


def test_every_size_has_a_run_of_its_own_and_all_have_a_table_and_a_figure(swept):
    folder, out = swept
    assert list(table(folder)) == [2, 150]
    for size in (2, 150):
        one = folder / f"latent_dim-{size}"
        assert json.loads((one / "config.json").read_text())["settings"]["latent_dim"] == size
        assert all((one / name).exists() for name in ("metrics.jsonl", "tensorboard/train", "checkpoints"))
        assert f"latent_dim {size:>4}  MSE {float(table(folder)[size]['mse']):.5f}" in out
    assert Image.open(folder / "sizes.png").format == "PNG"
    assert "table: runs/latent_sizes/sizes.csv\nfigure: runs/latent_sizes/sizes.png" in out


def test_errors_are_those_of_the_best_model_and_of_principal_components(swept):
    folder, _ = swept
    source = sources.open_source(Config(dataset="digits", image_size=12))
    train, test = (source.read(split)[0].astype(np.float32) / 255 for split in ("train", "test"))
    flat = test.reshape(len(test), -1)
    row = table(folder)[2]
    output = runs.load(folder / "latent_dim-2").model(test).numpy()
    assert float(row["mse"]) == pytest.approx(np.square(output - test).mean(), rel=1e-4)
    exact = PCA(2, svd_solver="covariance_eigh").fit(train.reshape(len(train), -1))
    kept = exact.inverse_transform(exact.transform(flat))
    assert float(row["pca_mse"]) == pytest.approx(np.square(kept - flat).mean(), rel=1e-3)
    assert float(row["mse_to_pca"]) == pytest.approx(float(row["mse"]) / float(row["pca_mse"]))
    seconds = json.loads((folder / "latent_dim-2/metrics.jsonl").read_text())["seconds"]
    assert row["epochs"] == "1" and float(row["minutes"]) == pytest.approx(seconds / 60)


def test_more_numbers_than_pixels_have_no_principal_components_beside_them(swept):
    folder, out = swept
    row = table(folder)[150]
    assert row["pca_mse"] == row["mse_to_pca"] == "" and float(row["mse"]) > 0
    assert "no such PCA" in out


def test_what_is_done_is_not_done_again_and_what_is_missing_is(swept):
    folder, _ = swept
    before = table(folder)
    (folder / "latent_dim-2/size.json").unlink()
    code, out, err = sweep("--sizes=2,150", folder=folder.parents[1])
    assert code == 0 and out.count("already trained for 1 epochs") == 1 and "epoch 1/1" not in out, err
    assert table(folder) == before


def test_what_is_done_with_other_settings_is_no_result(swept):
    path = swept[0] / "latent_dim-2/size.json"
    same = Config(dataset="digits", image_size=12, width=4, epochs=1, latent_dim=2)
    assert series.result_of(same, path)["latent_dim"] == 2
    assert series.result_of(dataclasses.replace(same, epochs=2), path) is None
    with pytest.raises(UserError, match=r"seed \(0 there, 3 now\)"):
        series.result_of(dataclasses.replace(same, seed=3), path)


@pytest.mark.parametrize(
    "words, told",
    [
        (("--sizes=2,many",), "--sizes: 'many' must be a whole number of at least 1"),
        (("--model=unet",), "--model=unet has no latent vector whose sizes could be tried; conv"),
    ],
)
def test_bad_input_is_one_line(words, told, tmp_path):
    assert_one_line(sweep(*words, folder=tmp_path), told)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", [["0"], ["-2"], ["2.5"], ["2", ""], ["²"], []])
def test_what_can_be_no_size_is_refused(words):
    with pytest.raises(UserError, match="--sizes"):
        latent_sizes.parse(words)


def test_sizes_are_taken_once_and_in_order():
    assert latent_sizes.parse(["16", "2", "16"]) == [2, 16]
