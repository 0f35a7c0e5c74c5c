import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cae.report import figures, tensorboard
from cae.report.projector import Projection
from cae.report.report import Section


@pytest.fixture
def section(random):
    image = figures.image_table(random.random((2, 2, 8, 8, 1)))
    results = {
        "score": "mse", "fpr": 0.25, "num_images": 3, "self_ensemble": True, "ratio": None, "rows": [{"mse": 1.0}],
        "sets": {"bl\nack": {"auroc": 0.5, "worst": False}, "white": {"auroc": 1.0}},
    }  # fmt: skip
    return Section("outliers", "Outliers", "AUROC 0.5", results, {"maps": ("Maps", image)}, scalars={"auroc": 0.5})


def summaries(folder):
    """Returns the step and the value of each summary, by tag."""
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {
        tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


def scalars(folder):
    last = {tag: values[-1][1] for tag, values in summaries(folder).items()}
    return {tag: float(value) for tag, value in last.items() if value.dtype == np.float32}


def test_headlines_tables_and_images_have_a_group_each(tmp_path, section):
    folder = tensorboard.write_evaluation(tmp_path, 7, section)
    assert folder == tmp_path / "tensorboard" / "eval"
    found = summaries(folder)
    assert {step for values in found.values() for step, _ in values} == {7}
    assert scalars(folder) == {
        "eval/outliers/fpr": 0.25, "eval/outliers/num_images": 3, "eval/outliers/auroc": 0.5,
        "eval_tables/outliers/sets/bl\\nack/auroc": 0.5, "eval_tables/outliers/sets/white/auroc": 1.0,
    }  # fmt: skip
    assert found.keys() - scalars(folder) == {"images/eval/maps", "eval/outliers"}
    assert found["eval/outliers"][0][1] == b"AUROC 0.5"


def test_an_evaluation_replaces_the_earlier_one_of_its_task_only(tmp_path, section):
    other = Section("denoise", "Denoising", results={"psnr": 20.0})
    (tmp_path / "tensorboard/eval/outliers").mkdir(parents=True)
    (tmp_path / "tensorboard/eval/outliers/events.out.tfevents.1.host").touch()  # Of earlier versions.
    for each in (section, other, dataclasses.replace(section, results={"fpr": 0.75}, scalars={}, figures={})):
        folder = tensorboard.write_evaluation(tmp_path, 7, each)
    assert scalars(folder) == {"eval/denoise/psnr": 20, "eval/outliers/fpr": 0.75}
    assert all(path.is_file() for path in folder.iterdir())


def test_predictions_are_a_run_of_their_own(tmp_path):
    section = Section("predictions/reconstruct", "Reconstruction", results={"mse": 0.5})
    assert scalars(tensorboard.write_evaluation(tmp_path, 7, section)) == {"predictions/reconstruct/mse": 0.5}


def test_the_projector_finds_latent_vectors_in_the_run(tmp_path, section, random):
    projection = Projection(random.normal(size=(4, 3)), np.zeros((4, 8, 8, 1), np.uint8))
    folder = tensorboard.write_evaluation(tmp_path, 7, dataclasses.replace(section, projection=projection))
    assert (folder / "projector_config.pbtxt").exists() and [*folder.glob("events*")]
