"""How benchmarks start, what they share, and the sweep over latent dimensions."""

import ast
import csv
import dataclasses
import json
import os

import numpy as np
import pytest
from cli import ROOT, assert_one_line, call, only_flags_of
from PIL import Image
from sklearn.decomposition import PCA

from benchmarks import beam_prediction, common, dataset_scaling, sweep
from cae.config import Config, config_from_flags
from cae.data import datasets
from cae.errors import UserError
from cae.run import Run

QUICK = ("--dataset=digits", "--image_size=12", "--base_filters=4", "--epochs=1")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.stem)
def test_programs_define_their_flags_before_main_runs(path):
    """Tests call main() with the flags of define_flags(): in real use the module's last lines do."""
    functions = {each.name for each in ast.parse(path.read_text()).body if isinstance(each, ast.FunctionDef)}
    last = ast.parse(path.read_text()).body[-1]
    is_program = isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"
    assert is_program == ("main" in functions) == ("define_flags" in functions)
    if is_program:
        assert [ast.unparse(each) for each in last.body][-2:] == ["define_flags()", "cli.run(main)"]


# --- What benchmarks share --------------------------------------------------------------------------------------------


def test_table_aligns_numbers_strings_and_blanks(capsys):
    table = common.Table({"name": "<8", "images/s": ">10,.1f", "ratio": ">8.0%"})
    table.add("conv", 1234.56, 0.5)
    table.add("unet", "n/a", None)
    assert capsys.readouterr().out.splitlines() == [
        "name      images/s   ratio",
        "conv       1,234.6     50%",
        "unet           n/a",
    ]
    assert table.rows[0] == {"name": "conv", "images/s": 1234.56, "ratio": 0.5}


def test_rounds_alternate_and_the_first_is_not_counted(capsys):
    calls, rates = [], {"a": iter([9.0, 1.0, 2.0]), "b": iter([9.0, 3.0, 4.0])}
    functions = {name: lambda name=name: calls.append(name) or next(rates[name]) for name in rates}
    assert common.run_rounds(functions, 2) == {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    assert calls == ["a", "b"] * 3
    assert capsys.readouterr().out.splitlines()[1] == "round 2 of 2, per second: a 2, b 4"


def make_counter(start):
    """Returns a function that counts; raises `UserError` for a negative start."""
    if start < 0:
        raise UserError(f"{start} is negative")
    numbers = iter(range(start, start + 10))
    return lambda: next(numbers)


@pytest.mark.e2e
def test_process_function_keeps_its_state_and_raises_errors_of_its_process():
    function = common.ProcessFunction(make_counter, 5)
    assert [function(), function()] == [5, 6]
    function.close()
    with pytest.raises(UserError, match="-3 is negative"):
        common.ProcessFunction(make_counter, -3)
    with pytest.raises(RuntimeError, match="ended with exit code 7"):
        common.ProcessFunction(os._exit, 7)


def test_config_flags_make_the_same_configuration():
    config = Config(dataset="digits", noise="gaussian:0.1/masking:0.5", jit_compile=True, epochs=3)
    words = common.config_flags(config)
    assert sorted(words) == ["--dataset=digits", "--epochs=3", "--jit_compile=True", "--noise=gaussian:0.1/masking:0.5"]
    from benchmarks import first_step

    with only_flags_of(first_step) as values:
        values(["program", *words])
        assert config_from_flags(values) == config


@pytest.mark.parametrize("words", [["0"], ["-2"], ["2.5"], ["2", ""], ["²"], []])
def test_words_that_are_not_sizes_are_refused(words):
    with pytest.raises(UserError, match=r"--sizes=.* must be a list of whole numbers of at least 1"):
        common.parse_sizes("--sizes", words, minimum=1)


def test_sizes_are_unique_and_in_ascending_order():
    assert common.parse_sizes("--sizes", ["16", "2", "16"], minimum=2) == [2, 16]


# --- The sweep over latent dimensions ---------------------------------------------------------------------------------


def run_sweep(*words, folder):
    """Runs the sweep on the digits in a folder of its own; returns its exit code, stdout and stderr."""
    return call("benchmarks.latent_dim_sweep", *QUICK, *words, folder=folder)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Runs of two dimensions and of more than there are principal components, and what was printed."""
    folder = tmp_path_factory.mktemp("swept")
    code, out, err = run_sweep("--latent_dims=150,2,2", folder=folder)
    assert code == 0 and err == "", err
    return folder / "runs/latent_dim_sweep", out


def read_table(folder):
    with (folder / "latent_dims.csv").open(newline="") as file:
        return {int(row["latent_dim"]): row for row in csv.DictReader(file)}


def test_every_dimension_has_a_run_and_all_have_a_table_and_a_figure(swept):
    folder, out = swept
    assert list(read_table(folder)) == [2, 150]
    for latent_dim in (2, 150):
        workdir = folder / f"latent_dim-{latent_dim}"
        assert json.loads((workdir / "config.json").read_text())["config"]["latent_dim"] == latent_dim
        assert all((workdir / name).exists() for name in ("metrics.jsonl", "tensorboard/train", "checkpoints"))
        assert f"latent_dim {latent_dim:>4}  MSE {float(read_table(folder)[latent_dim]['mse']):.5f}" in out
    assert Image.open(folder / "latent_dims.png").format == "PNG"
    paths = ("table: runs/latent_dim_sweep/latent_dims.csv", "figure: runs/latent_dim_sweep/latent_dims.png")
    assert "\n".join(paths) in out


def test_errors_are_those_of_the_best_model_and_of_pca(swept):
    folder, _ = swept
    dataset = datasets.open_dataset(Config(dataset="digits", image_size=12))
    train, test = (dataset.load(split)[0].astype(np.float32) / 255 for split in ("train", "test"))
    flat = test.reshape(len(test), -1)
    row = read_table(folder)[2]
    output = Run.load(folder / "latent_dim-2").model(test).numpy()
    assert float(row["mse"]) == pytest.approx(np.square(output - test).mean(), rel=1e-4)
    exact = PCA(2, svd_solver="covariance_eigh").fit(train.reshape(len(train), -1))
    kept = exact.inverse_transform(exact.transform(flat))
    assert float(row["pca_mse"]) == pytest.approx(np.square(kept - flat).mean(), rel=1e-3)
    assert float(row["mse_over_pca_mse"]) == pytest.approx(float(row["mse"]) / float(row["pca_mse"]))
    seconds = json.loads((folder / "latent_dim-2/metrics.jsonl").read_text())["epoch_seconds"]
    assert row["epochs"] == "1" and float(row["minutes"]) == pytest.approx(seconds / 60)


def test_more_dimensions_than_pixels_have_no_pca_beside_them(swept):
    folder, out = swept
    row = read_table(folder)[150]
    assert row["pca_mse"] == row["mse_over_pca_mse"] == "" and float(row["mse"]) > 0
    assert "no such PCA" in out


def test_a_repeated_sweep_computes_only_results_that_are_missing(swept):
    folder, _ = swept
    before = read_table(folder)
    (folder / "latent_dim-2/result.json").unlink()
    code, out, err = run_sweep("--latent_dims=2,150", folder=folder.parents[1])
    assert code == 0 and out.count("training already complete (1 epochs") == 1 and "epoch 1/1" not in out, err
    assert read_table(folder) == before


def test_results_of_another_configuration_are_not_used(swept):
    workdir = swept[0] / "latent_dim-2"
    same = Config(dataset="digits", image_size=12, base_filters=4, epochs=1, latent_dim=2)
    content = (workdir / "result.json").read_text()
    assert sweep.load_or_compute(same, workdir, lambda: pytest.fail("it is saved"))["latent_dim"] == 2
    longer = dataclasses.replace(same, epochs=2)
    assert sweep.load_or_compute(longer, workdir, lambda: {"mse": 0.5}) == {"mse": 0.5, "epochs": 2}
    (workdir / "result.json").write_text(content)
    with pytest.raises(UserError, match="seed=0"):
        sweep.load_or_compute(dataclasses.replace(same, seed=3), workdir, dict)


@pytest.mark.parametrize(
    "words, message",
    [
        (("--latent_dims=2,many",), "--latent_dims=2,many must be a list of whole numbers of at least 1"),
        (("--model=unet",), "--model=unet has no latent vector"),
    ],
)
def test_bad_flags_are_reported_in_one_line(words, message, tmp_path):
    assert_one_line(run_sweep(*words, folder=tmp_path), message)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", ["--normal_classes=0", "--classes=1"])
def test_protocols_of_classes_refuse_a_data_set_without_classes_in_one_line(flag, tmp_path):
    words = ("--dataset=lines", "--normal_classes=-0", flag, "--workdir=run")
    message = "--dataset=lines must have two classes or more, such as mnist or a folder with a subfolder for each class"
    assert_one_line(call("benchmarks.one_class", *words, folder=tmp_path), message)


def test_training_on_sets_in_a_folder_leaves_what_is_in_it(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_scaling, "EVAL_IMAGES", 20)
    monkeypatch.setattr(dataset_scaling, "TRAIN_COMMAND", ("sh", "-c", "exit 3"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes").touch()
    words = (f"--folder={tmp_path}", "--sizes=200")
    code, _, err = call("benchmarks.dataset_scaling", *words, folder=tmp_path)
    assert code == 2 and "failed with exit code 3" in err
    assert (tmp_path / "run/notes").exists() and {path.name for path in tmp_path.glob("[!.]*")} == {"run", "200"}


def test_rates_leave_out_what_each_program_takes_to_start():
    rates = beam_prediction.Rates()
    assert rates.add("a", 1000, 12.0) is rates.add("b", 500, 3.0) is None
    # 5,000 images more in 10 s more; 100 in 2 s.
    assert (rates.add("a", 6000, 22.0), rates.add("b", 600, 5.0)) == (500, 50)
