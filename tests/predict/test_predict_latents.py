import numpy as np
import pytest

from cae.predict import latents
from cae.predict.preprocess import Preprocessed
from cae.tasks import interpolate

WEIGHTS = np.array([0, 0.25, 0.5, 1])


@pytest.fixture
def images():
    values = {"a.png": 51, "b.png": 102, "c.png": 204, "d.png": 255}
    return {name: Preprocessed(np.full((12, 12, 1), value, np.uint8), "", ()) for name, value in values.items()}


def test_images_are_interpolated_in_their_order(run, images):
    two = dict(list(images.items())[:2])
    section = latents.interpolate(two, run, WEIGHTS)
    assert [*section.figures] == ["interpolate", "interpolate_closed_path"]
    assert section.headline == "interpolation between a.png and b.png"
    frames = section.animations["interpolate"][1]
    # From the first to the second and back: 0.2 and 0.4 of white, halved.
    assert frames.shape[0] == 2 * interpolate.STEPS_PER_ANCHOR
    assert frames[0].mean() == pytest.approx(0.1) and frames[interpolate.STEPS_PER_ANCHOR].mean() == pytest.approx(0.2)
    assert "interpolate_grid" in latents.interpolate(images, run, WEIGHTS).figures


@pytest.mark.parametrize("batch_size", [512, 3])
def test_images_have_their_latent_vectors_in_a_table(run, images, batch_size, monkeypatch):
    monkeypatch.setattr(latents, "BATCH_SIZE", batch_size)
    section = latents.reconstruct(images, run, num_examples=3)
    rows = section.tables["reconstruct"]
    assert [row["file"] for row in rows] == [*images]
    assert [row["latent_0"] for row in rows] == pytest.approx([0.2, 0.4, 0.8, 1.0], abs=1e-5)
    assert rows[3]["mse"] == pytest.approx(0.25, rel=1e-5)
    # (0.1^2 + 0.2^2 + 0.4^2 + 0.5^2) / 4
    assert section.results == {"num_images": 4, "mse": pytest.approx(0.115, rel=1e-5)}


def test_skipped_images_are_left_out_and_names_are_escaped(run, images):
    predictor = latents.SectionPredictor(None, None, min_images=4)
    for name, image in images.items():
        predictor.predict(name, None, image)
    predictor.skip("a.png", ValueError())
    predictor.skip("never taken.png", ValueError())
    assert predictor.finish() == []
    named = dict(zip(["caf\udce9", "a\nb"], images.values()))
    assert [row["file"] for row in latents.reconstruct(named, run, 1).tables["reconstruct"]] == [
        "caf\\udce9",
        "a\\nb",
    ]
    assert latents.interpolate(named, run, WEIGHTS).headline == "interpolation between caf\\udce9 and a\\nb"


def test_too_few_images_write_nothing():
    predictor = latents.SectionPredictor(None, latents.interpolate, min_images=2)
    predictor.predict("a.png", None, Preprocessed(np.zeros((12, 12, 1), np.uint8), "", ()))
    assert predictor.finish() == []
