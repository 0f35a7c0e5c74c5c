import json

import pytest
from absl import flags

from cae import config
from cae.errors import UserError


@pytest.fixture
def values():
    fresh = flags.FlagValues()
    flags.DEFINE_multi_string("flagfile", None, "", flag_values=fresh)
    config.define_flags(fresh)
    return fresh


def parse(values, *words):
    values(["train.py", *words])
    return config.from_flags(values)


def test_the_defaults_are_those_that_people_rely_on(values):
    settings = parse(values)
    expected = {
        "dataset": "mnist", "fallback_dataset": None, "model": "conv", "latent_dim": 32, "width": 32, "noise": None,
        "loss": "mse", "learning_rate": 1e-3, "lr_schedule": "constant", "epochs": 100, "batch_size": 128,
        "precision": "float32", "strategy": "auto", "seed": 0,
    }  # fmt: skip
    assert {name: getattr(settings, name) for name in expected} == expected


def test_later_words_win_over_a_flagfile(values, tmp_path):
    path = tmp_path / "mine.cfg"
    path.write_text("# why\n--epochs=7\n--noise=gaussian:0.5\n")
    settings = parse(values, f"--flagfile={path}", "--epochs=3")
    assert (settings.epochs, settings.noise) == (3, "gaussian:0.5")
    assert config.said_settings(values) == {"epochs": 3, "noise": "gaussian:0.5"}


@pytest.mark.parametrize(
    "words, folder",
    [
        (["--flagfile=configs/denoise.cfg"], "runs/denoise"),
        (["--flagfile", "configs/autoencoder.cfg", "--epochs=5"], "runs/autoencoder"),
        (["--epochs=5"], "runs/default"),
    ],
)
def test_a_run_is_named_after_its_flagfile(values, words, folder):
    values(["train.py"])
    assert str(config.workdir_from_flags(values, ["train.py", *words])) == folder


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"latent_dim": 0}, "--latent_dim=0 must be at least 1"),
        ({"width": -3}, "--width=-3 must be at least 1"),
        ({"image_size": 0}, "--image_size=0 must be at least 1"),
        ({"channels": 2}, "--channels=2 must be 1"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0 must lie between"),
        ({"learning_rate": float("nan")}, "--learning_rate=nan must lie between"),
        ({"precision": "float16"}, "unknown --precision 'float16'.*mixed_float16"),
        ({"lr_schedule": "cosin"}, "did you mean 'cosine'"),
        ({"strategy": "mirrored", "logical_cpus": 3}, "--batch_size=128 cannot be shared out evenly over 3.*129"),
        ({"logical_cpus": 2}, "needs --strategy=mirrored"),
        ({"seed": -1}, "--seed=-1"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_could(wrong, told):
    with pytest.raises(UserError, match=told):
        config.Config(**wrong)


def test_a_record_gives_back_the_settings(tmp_path):
    settings = config.Config(epochs=3, noise="gaussian:0.1")
    config.claim(tmp_path, settings, {"name": "mnist", "warning": None})
    assert config.settings_of(config.read_record(tmp_path)) == settings


def trained(tmp_path, **changes):
    """A folder with a run that has a checkpoint."""
    config.claim(tmp_path, config.Config(**changes), {"name": "digits", "warning": None})
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-1.index").touch()


@pytest.mark.parametrize(
    "change, told",
    [
        ({"noise": "gaussian:0.2"}, r"noise \(None there, gaussian:0.2 now\)"),
        ({"latent_dim": 8}, r"latent_dim \(32 there, 8 now\)"),
        ({"precision": "mixed_bfloat16"}, "precision"),
    ],
)
def test_another_run_is_refused_and_the_record_stays(tmp_path, change, told):
    trained(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=told):
        config.claim(tmp_path, config.Config(**change), {"name": "digits", "warning": None})
    assert (tmp_path / "config.json").read_text() == before


def test_another_data_set_is_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(UserError, match=r"dataset \(digits there, mnist now\)"):
        config.claim(tmp_path, config.Config(), {"name": "mnist", "warning": None})


def test_what_learning_does_not_depend_on_may_differ(tmp_path):
    trained(tmp_path)
    other = config.Config(epochs=200, strategy="mirrored", data_dir="/elsewhere")
    config.claim(tmp_path, other, {"name": "digits", "warning": "another text"})
    assert json.loads((tmp_path / "config.json").read_text())["settings"]["epochs"] == 200


def test_a_run_without_a_checkpoint_may_be_replaced(tmp_path):
    config.claim(tmp_path, config.Config(), {"name": "digits", "warning": None})
    config.claim(tmp_path, config.Config(latent_dim=8), {"name": "digits", "warning": None})
    assert config.settings_of(config.read_record(tmp_path)).latent_dim == 8


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds something else than a run"), config.open_workdir(tmp_path):
        pass


def test_a_folder_is_held_until_the_run_ends_in_whatever_way(tmp_path):
    with pytest.raises(ZeroDivisionError), config.open_workdir(tmp_path):
        with pytest.raises(UserError, match="being written by another run"), config.open_workdir(tmp_path):
            pass
        raise ZeroDivisionError
    with config.open_workdir(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), config.open_workdir(tmp_path / "file" / "run"):
        pass


@pytest.mark.parametrize("content", ["", "{}", "[1]", "null", '{"settings": 1'])
def test_a_config_json_of_another_program_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match="is not the record of a run"), config.open_workdir(tmp_path):
        pass


def test_a_folder_without_a_run_has_nothing_to_evaluate(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        config.read_record(tmp_path)
