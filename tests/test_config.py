import dataclasses

import pytest
from absl import flags
from cli import only_flags_of

import train
from cae import metrics, models
from cae.config import Config, config_from_flags, define_config_flags, explicit_flags
from cae.data import noise
from cae.errors import UserError
from cae.workdir import workdir_from_flags


@pytest.fixture
def values():
    fresh = flags.FlagValues()
    flags.DEFINE_multi_string("flagfile", None, "", flag_values=fresh)
    define_config_flags(fresh)
    return fresh


def parse(values, *words):
    values(["train.py", *words])
    return config_from_flags(values)


# --- Flags ------------------------------------------------------------------------------------------------------------


def test_documented_defaults(values):
    config = parse(values)
    expected = {
        "dataset": "mnist", "fallback_dataset": None, "model": "conv", "latent_dim": 32, "base_filters": 32,
        "noise": None, "loss": "mse", "learning_rate": 1e-3, "lr_schedule": "constant", "epochs": 100,
        "max_steps": None, "batch_size": 128, "precision": "float32", "distribution_strategy": "auto", "seed": 0,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected
    assert config == Config()


def test_every_field_has_a_flag_with_a_help_text(values):
    for field in dataclasses.fields(Config):
        assert values[field.name].help and values[field.name].default == field.default


def test_help_texts_list_the_names_of_registries():
    registries = {"model": models.MODELS, "loss": metrics.LOSSES, "noise": noise.NOISES}
    with only_flags_of(train):
        for name, registry in registries.items():
            assert flags.FLAGS[name].help.endswith(f" Names: {', '.join(registry)}.")


def test_later_flags_override_a_flagfile(values, tmp_path):
    path = tmp_path / "example.cfg"
    path.write_text("# why\n--epochs=7\n--noise=gaussian:0.5\n--workdir=runs/example\n")
    config = parse(values, f"--flagfile={path}", "--epochs=3")
    assert (config.epochs, config.noise) == (3, "gaussian:0.5")
    assert explicit_flags(values) == {"epochs": 3, "noise": "gaussian:0.5"}
    assert str(workdir_from_flags(values)) == "runs/example"


def test_the_default_workdir(values, monkeypatch):
    parse(values)
    assert str(workdir_from_flags(values)) == "runs/default"
    parse(values, "--workdir=~/runs/a")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(workdir_from_flags(values)) == "/home/someone/runs/a"


@pytest.mark.parametrize("word", ["--width=8", "--strategy=single", "--pictures_every=3"])
def test_a_flag_of_an_earlier_version_is_unknown(values, word):
    with pytest.raises(flags.UnrecognizedFlagError, match="Unknown command line flag"):
        parse(values, word)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"latent_dim": 0}, "--latent_dim=0 must be at least 1"),
        ({"base_filters": -3}, "--base_filters=-3 must be at least 1"),
        ({"image_size": 0}, "--image_size=0 must be at least 1"),
        ({"max_steps": 0}, "--max_steps=0 must be at least 1"),
        ({"channels": 2}, "--channels=2 must be 1"),
        ({"learning_rate": 0.0}, "--learning_rate=0.0 must lie between"),
        *(
            ({each.name: float(value)}, f"--{each.name}={value} must be a finite number")
            for each in dataclasses.fields(Config)
            if each.type is float
            for value in ("nan", "inf", "-inf")
        ),
        ({"precision": "float16"}, "unknown --precision 'float16'.*; available: .*mixed_float16"),
        ({"lr_schedule": "cosin"}, "did you mean 'cosine'"),
        ({"distribution_strategy": "multiworker"}, "did you mean 'multi_worker_mirrored'"),
        (
            {"distribution_strategy": "mirrored", "logical_cpus": 3},
            "--batch_size=128 is not divisible by 3 replicas; use 129",
        ),
        ({"logical_cpus": 2}, "needs --distribution_strategy=mirrored"),
        ({"regularizer_weight": 0.5}, "--regularizer_weight=0.5 needs --regularizer=acai"),
        ({"regularizer_end_weight": 0.0}, "--regularizer_end_weight=0.0 needs --regularizer=acai"),
        ({"seed": -1}, "--seed=-1 must be at least 0"),
        ({"seed": 2**31}, "--seed=2147483648 must be less than"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(wrong, message):
    with pytest.raises(UserError, match=message):
        Config(**wrong)


# --- Configurations of earlier versions -------------------------------------------------------------------------------


def test_a_saved_config_is_read_back():
    config = Config(epochs=3, noise="gaussian:0.1", max_steps=7)
    assert Config.from_dict(dataclasses.asdict(config)) == config


def test_fields_that_are_missing_have_their_defaults():
    assert Config.from_dict({"epochs": 3}) == Config(epochs=3)


def test_fields_and_values_with_earlier_names_are_read():
    saved = {
        "classes": "0,1", "width": 8, "strategy": "multiworker", "records_dir": "cache", "checkpoint_minutes": 5.0,
        "pictures_every": 3, "loss": "cross_entropy", "noise": "mask:0.3+warp:0.5/stripes:0.1,gaussian:0.2",
    }  # fmt: skip
    assert Config.from_dict(saved) == Config(
        normal_classes="0,1", base_filters=8, distribution_strategy="multi_worker_mirrored", cache_dir="cache",
        checkpoint_interval_minutes=5.0, image_summary_epochs=3, loss="binary_crossentropy",
        noise="masking:0.3+affine:0.5/column_noise:0.1,gaussian:0.2",
    )  # fmt: skip
    assert Config.from_dict({"strategy": "single", "loss": "psnr"}) == Config(
        distribution_strategy="one_device", loss="neg_psnr"
    )


def test_a_config_of_this_version_is_not_changed():
    config = Config(noise="masking:0.3+affine:0.5/column_noise:0.1", loss="mse")
    assert Config.from_dict(dataclasses.asdict(config)) == config


def test_an_unknown_field_is_an_error():
    with pytest.raises(UserError, match="unknown field 'colour'"):
        Config.from_dict({"colour": "red"})
