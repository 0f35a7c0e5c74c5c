import dataclasses

import numpy as np
import pytest

from cae.data import pipeline
from cae.tasks import interpolate, own
from cae.tasks.fitted import Fitted
from cae.tasks.subject import Interpolation

DEGREES = np.array([0, 0.25, 0.5, 1])


@pytest.fixture
def asked(subject):
    """The task's subject, whose model decodes an image of value v as one of v / 2."""
    return dataclasses.replace(subject, interpolation=Interpolation(DEGREES, pairs=6, seed=0))


def images_of(values):
    return np.asarray(values, np.float32)[..., None, None, None] * np.ones((12, 12, 1), np.float32)


def test_ways_decode_the_mixture_and_blend_the_pixels(subject):
    ways = interpolate.ways(subject.trained.model, images_of([[0.2, 0.8]]), DEGREES)
    np.testing.assert_allclose(ways["linear"][0, :, 0, 0, 0], [0.1, 0.175, 0.25, 0.4], atol=1e-6)
    np.testing.assert_allclose(ways["pixel blend"][0, :, 0, 0, 0], [0.2, 0.35, 0.5, 0.8], atol=1e-6)
    # Mean and largest value of a flat image are alike: two such vectors are parallel, and have no arc between them.
    np.testing.assert_allclose(ways["spherical"], ways["linear"], atol=1e-6)


def test_a_path_is_measured_by_hand(asked):
    section = interpolate.run(asked)
    rows = {(row["pairs"], row["method"]): row for row in section.results["methods"]}
    assert {kind for kind, _ in rows} == {"within", "between"}
    for row in rows.values():
        assert row["smoothness"] == pytest.approx(1, abs=1e-3)  # Flat images change evenly.
    assert rows["between", "pixel blend"]["endpoint_mse"] == pytest.approx(0, abs=1e-9)
    assert section.results["usual_distance"] == pytest.approx(0, abs=1e-2)  # Test images are training images here.
    assert len(section.tables["interpolate_by_degree"]) == 2 * 3 * len(DEGREES)
    assert 0 <= section.results["closer_than_blend"] <= 1
    ring = section.animations["interpolate_ring"][1]
    assert ring.shape == (4 * interpolate.RING_STEPS, 12, 12, 1)


def test_endpoints_are_held_to_the_real_images(asked):
    asked = dataclasses.replace(asked, class_names=[])
    values = np.arange(8) * 30 / 255
    section = interpolate.run(asked)
    row = next(row for row in section.results["methods"] if row["method"] == "linear")
    assert row["pairs"] == "any" and "confidence" not in row
    # Images are halved: errors lie among (v / 2)^2.
    assert 0 < row["endpoint_mse"] <= (values[-1] / 2) ** 2


def test_degrees_without_the_ends_have_no_endpoint_error(asked):
    inner = dataclasses.replace(asked.interpolation, degrees=np.array([0.4, 0.6]))
    section = interpolate.run(dataclasses.replace(asked, interpolation=inner))
    assert all("endpoint_mse" not in row for row in section.results["methods"])


def test_closer_is_nearer_to_a_ratio_of_one():
    def rows(method, ratios):
        return [
            {"pairs": "between", "method": method, "degree": degree, "distance_ratio": ratio}
            for degree, ratio in zip([0, 0.25, 0.5, 0.75, 1], ratios)
        ]

    # Between the ends 0.85 is farther from 1 than 1.1 is; the ends themselves do not count.
    told = rows("linear", [9, 0.85, 1.05, 0.8, 9]) + rows("pixel blend", [1, 1.1, 1.2, 1.1, 1])
    found = interpolate.shares(told)
    assert found == pytest.approx({"closer_than_blend": 1 / 3, "below_blend": 1})


def test_a_data_set_that_knows_is_asked(asked):
    seen = []

    def judge(between):
        seen.append(between.shape)
        return {"mean_distance": 0.25}

    results = interpolate.run(
        dataclasses.replace(asked, interpolation=dataclasses.replace(asked.interpolation, judge=judge))
    ).results
    assert results["mean_distance"] == 0.25 and seen == [(6, 16, 12, 12, 1)]


@pytest.fixture
def pictures():
    values = {"a.png": 51, "b.png": 102, "c.png": 204, "d.png": 255}
    return {name: Fitted(np.full((12, 12, 1), value, np.uint8), "", ()) for name, value in values.items()}


def test_ones_own_pictures_are_mixed_in_their_order(subject, pictures):
    two = dict(list(pictures.items())[:2])
    section = own.interpolate(subject.trained.model, two, DEGREES)
    assert [*section.figures] == ["interpolated", "interpolate_ring"]
    frames = section.animations["interpolated"][1]
    # To and fro: 0.2 and 0.4 of white, halved.
    assert frames.shape[0] == 2 * interpolate.RING_STEPS
    assert frames[0].mean() == pytest.approx(0.1) and frames[interpolate.RING_STEPS].mean() == pytest.approx(0.2)
    assert "interpolate_grid" in own.interpolate(subject.trained.model, pictures, DEGREES).figures


def test_ones_own_pictures_have_their_latent_vectors_in_a_table(subject, pictures):
    section = own.reconstruct(subject.trained.model, pictures, most_shown=3)
    rows = section.tables["reconstructed"]
    assert [row["file"] for row in rows] == [*pictures]
    assert [row["latent_0"] for row in rows] == pytest.approx([0.2, 0.4, 0.8, 1.0], abs=1e-5)
    assert rows[3]["mse"] == pytest.approx(0.25, rel=1e-5)


def test_batches_are_what_the_pipeline_gives(subject):
    # The model's own images through the pipeline and through the task are the same vectors.
    images, labels = subject.read("test")
    batch = next(iter(pipeline.evaluation_batches(images, labels, classes=3, corrupt=None, batch_size=8, seed=0)))
    ours = interpolate.encode(subject.trained.model, images.astype(np.float32) / 255)
    np.testing.assert_allclose(ours, subject.trained.model.encode(batch["image"]), atol=1e-6)
