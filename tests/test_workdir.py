import dataclasses
import json

import pytest

from cae.config import Config
from cae.errors import UserError
from cae.workdir import (
    check_same_config,
    check_same_images,
    load_comparison_runs,
    load_run_config,
    lock_workdir,
    write_run_config,
)

DIGITS = {"name": "digits", "warning": None, "image_shape": [16, 16, 1], "train": 500}
DIGITS |= {"class_names": [], "splits": {}, "skipped": []}


# --- The lock ---------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_a_runs_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and not a run's folder"), lock_workdir(tmp_path):
        pass


def test_a_name_that_tensorflow_cannot_write_is_refused(tmp_path):
    for use in (load_run_config, lambda workdir: lock_workdir(workdir).__enter__()):
        with pytest.raises(UserError, match="has bytes that are not UTF-8"):
            use(tmp_path / "caf\udce9")
    assert not [*tmp_path.iterdir()]


def test_a_folder_is_locked_until_the_run_ends(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_workdir(tmp_path):
        with pytest.raises(UserError, match="is locked by another process"), lock_workdir(tmp_path):
            pass
        raise ZeroDivisionError
    with lock_workdir(tmp_path):
        pass


def test_a_folder_that_is_refused_is_not_left_locked(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError), lock_workdir(tmp_path):
        pass
    (tmp_path / "thesis.tex").unlink()
    with lock_workdir(tmp_path):
        pass


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"), lock_workdir(tmp_path / "file" / "run"):
        pass


def test_a_run_that_was_killed_while_it_wrote_its_config_can_be_started_again(tmp_path):
    (tmp_path / ".config.json.tmp").write_text('{"conf')
    with lock_workdir(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


# --- config.json ------------------------------------------------------------------------------------------------------


def test_config_json_is_read_back(tmp_path):
    config = Config(epochs=3, noise="gaussian:0.1")
    written = write_run_config(tmp_path, config, DIGITS)
    assert load_run_config(tmp_path) == written
    assert Config.from_dict(written["config"]) == config and written["dataset"] == DIGITS
    assert {"python", "tensorflow", "keras", "numpy"} <= written["versions"].keys()


def test_a_worker_that_does_not_write_gets_the_same_config(tmp_path):
    other = write_run_config(tmp_path, Config(), DIGITS, write=False)
    assert list(tmp_path.iterdir()) == [] and write_run_config(tmp_path, Config(), DIGITS) == other


def test_a_config_json_of_an_earlier_version_is_read(tmp_path):
    settings = {"dataset": "digits", "width": 8, "strategy": "single", "loss": "cross_entropy", "noise": "warp:0.5"}
    saved = {"settings": settings, "dataset": DIGITS, "versions": {"python": "3.11"}}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with lock_workdir(tmp_path):
        run_config = load_run_config(tmp_path)
    config = Config(
        dataset="digits", base_filters=8, distribution_strategy="one_device", loss="binary_crossentropy",
        noise="affine:0.5",
    )  # fmt: skip
    assert run_config.keys() == {"config", "dataset", "versions"} and Config.from_dict(run_config["config"]) == config
    check_same_config(run_config, dataclasses.asdict(config), ignore=set())


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", "null", '{"config": 1', '{"config": 1, "dataset": 1, "versions": 1}']
    + [f'{{"config": {{}}, "versions": {{}}, "dataset": {dataset}}}' for dataset in ("1", '{"image_shape": [28, 28]}')],
)
def test_a_config_json_of_another_program_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"is not the config\.json of a run"), lock_workdir(tmp_path):
        pass


def test_a_config_json_of_another_version_is_refused(tmp_path):
    saved = {"config": {}, "dataset": {**DIGITS}, "versions": {}}
    del saved["dataset"]["class_names"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=r"config\.json has no class_names of the data set; another version"):
        load_run_config(tmp_path)
    for config, message in (({"depth": 3}, "unknown field 'depth'"), ({"epochs": "3"}, "value of a wrong type")):
        with pytest.raises(UserError, match=f"{message}; another version of this program wrote it"):
            Config.from_dict(config)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"contains no run \(no config\.json\)"):
        load_run_config(tmp_path)


# --- Resuming ---------------------------------------------------------------------------------------------------------


def write_run(workdir, checkpoint="step-000000001", **fields):
    """Writes the config.json of a run that has a checkpoint."""
    write_run_config(workdir, Config(**fields), DIGITS)
    (workdir / "checkpoints" / checkpoint).mkdir(parents=True)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"noise": "gaussian:0.2"}, r"created with a different config: noise=None \(now gaussian:0\.2\)$"),
        ({"latent_dim": 8, "seed": 1}, r"latent_dim=32 \(now 8\), seed=0 \(now 1\)$"),
        ({"precision": "mixed_bfloat16"}, "precision"),
    ],
)
def test_another_config_is_refused_and_config_json_stays(tmp_path, fields, message):
    write_run(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=message):
        write_run_config(tmp_path, Config(**fields), DIGITS)
    assert (tmp_path / "config.json").read_text() == before


def test_another_config_is_refused_where_the_checkpoints_of_a_run_are_missing(tmp_path):
    """They may be put back, as the trainer asks for."""
    write_run_config(tmp_path, Config(), DIGITS)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match=r"latent_dim=32 \(now 8\)"):
        write_run_config(tmp_path, Config(latent_dim=8), DIGITS)
    assert load_run_config(tmp_path)["config"]["latent_dim"] == 32


def test_another_data_set_is_refused(tmp_path):
    write_run(tmp_path)
    with pytest.raises(UserError, match=r"dataset=digits \(now mnist\)"):
        write_run_config(tmp_path, Config(), DIGITS | {"name": "mnist"})
    with pytest.raises(UserError, match="other images in dataset=digits"):
        write_run_config(tmp_path, Config(), DIGITS | {"train": 501})


def test_fields_that_do_not_change_what_is_learned_may_differ(tmp_path):
    write_run(tmp_path)
    config = Config(epochs=200, max_steps=5, distribution_strategy="mirrored", data_dir="/elsewhere")
    write_run_config(tmp_path, config, DIGITS | {"warning": "another text"})
    assert json.loads((tmp_path / "config.json").read_text())["config"]["epochs"] == 200


def test_a_run_without_a_checkpoint_may_be_replaced(tmp_path):
    write_run(tmp_path, checkpoint="step-000000000-epoch-0000.tmp")  # It was killed while it saved its first.
    write_run_config(tmp_path, Config(latent_dim=8), DIGITS)
    assert Config.from_dict(load_run_config(tmp_path)["config"]).latent_dim == 8


# --- Evaluation -------------------------------------------------------------------------------------------------------


def test_an_evaluation_with_another_config_is_refused(tmp_path):
    run_config = write_run_config(tmp_path, Config(latent_dim=8), DIGITS)
    check_same_config(run_config, {"latent_dim": 8, "epochs": 3, "noise": "gaussian:1"}, ignore={"noise"})
    with pytest.raises(UserError, match=r"was trained with a different config: latent_dim=8 \(now 4\)"):
        check_same_config(run_config, {"latent_dim": 4}, ignore={"noise"})


def test_an_evaluation_with_other_images_is_refused(tmp_path):
    run_config = write_run_config(tmp_path, Config(), DIGITS)
    check_same_images(run_config, DIGITS | {"warning": "no network"})
    check_same_images(run_config, DIGITS | {"pixel_max": 255})  # Runs of earlier versions lack it.
    with pytest.raises(UserError, match="no longer has the images"):
        check_same_images(run_config, DIGITS | {"pixel_max": 1})
    with pytest.raises(UserError, match="--dataset=digits no longer has the images or the splits"):
        check_same_images(run_config, DIGITS | {"train": 501})


def test_runs_that_are_compared_are_named_by_their_folders(tmp_path):
    for name in ("run", "a/run", "b/other"):
        (tmp_path / name).mkdir(parents=True)
        run_config = write_run_config(tmp_path / name, Config(), DIGITS)
    folders = [str(tmp_path / name) for name in ("run", "a/run", "b/other")]
    assert load_comparison_runs(folders, run_config) == {
        folders[0]: tmp_path / "run",
        folders[1]: tmp_path / "a/run",
        "other": tmp_path / "b/other",
    }
    write_run_config(tmp_path / "run", Config(), DIGITS | {"image_shape": [32, 32, 3]})
    with pytest.raises(UserError, match="can't be compared: image shapes are 32x32x3 and 16x16x1"):
        load_comparison_runs(folders, run_config)


def test_runs_on_crops_of_any_size_are_compared_if_they_have_as_many_channels(tmp_path):
    run_configs = []
    for size, channels in ((16, 1), (32, 1), (16, 3)):
        folder = tmp_path / f"{size}x{channels}"
        folder.mkdir()
        config = Config(dataset="folder:photos", crop_size=size, model="unet")
        run_configs.append(write_run_config(folder, config, DIGITS | {"image_shape": [size, size, channels]}))
    assert load_comparison_runs([str(tmp_path / "32x1")], run_configs[0]) == {"32x1": tmp_path / "32x1"}
    with pytest.raises(UserError, match="can't be compared: image shapes are 16x16x3 and 16x16x1"):
        load_comparison_runs([str(tmp_path / "16x3")], run_configs[0])
