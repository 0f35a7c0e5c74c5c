import dataclasses

import numpy as np
import pytest

from cae.tasks import interpolate

WEIGHTS = np.array([0, 0.25, 0.5, 1])


@pytest.fixture
def context(context):
    """The context of the task; its model decodes an image of value v as one of v / 2."""
    return dataclasses.replace(context, interpolation_weights=WEIGHTS, interpolation_pairs=6)


def constant_images(values):
    return np.asarray(values, np.float32)[..., None, None, None] * np.ones((12, 12, 1), np.float32)


def test_paths_are_decoded_from_latent_vectors_or_blended_from_pixels(context):
    paths = interpolate.interpolate_all_methods(context.run, constant_images([[0.2, 0.8]]), WEIGHTS)
    assert paths.keys() == {"lerp", "slerp", "pixel_blend"}
    np.testing.assert_allclose(paths["lerp"][0, :, 0, 0, 0], [0.1, 0.175, 0.25, 0.4], atol=1e-6)
    np.testing.assert_allclose(paths["pixel_blend"][0, :, 0, 0, 0], [0.2, 0.35, 0.5, 0.8], atol=1e-6)
    # Mean and largest value of a constant image are equal: two such vectors are parallel, with no arc between them.
    np.testing.assert_allclose(paths["slerp"], paths["lerp"], atol=1e-6)


def test_metrics_of_constant_images_by_hand(context):
    section = interpolate.run(context)
    rows = {(row["pair_type"], row["method"]): row for row in section.results["methods"]}
    assert {pair_type for pair_type, _ in rows} == {"same_class", "different_class"}
    for row in rows.values():
        assert row["max_step_ratio"] == pytest.approx(1, abs=1e-3)  # Constant images change evenly.
        assert {"confidence", "num_distinct_labels", "nn_distance_ratio"} <= row.keys()
    assert rows["different_class", "pixel_blend"]["endpoint_mse"] == pytest.approx(0, abs=1e-9)
    assert section.results["test_nn_distance"] == pytest.approx(0, abs=1e-2)  # Test images are training images here.
    assert len(section.tables["interpolate_by_weight"]) == 2 * 3 * len(WEIGHTS)
    assert 0 <= section.results["frac_closer_than_pixel_blend"] <= 1
    assert section.animations["interpolate_closed_path"][1].shape == (4 * interpolate.STEPS_PER_ANCHOR, 12, 12, 1)
    assert section.figures.keys() == {
        "interpolate", "interpolate_grid", "interpolate_closed_path", "interpolate_nn_distance_ratio",
        "interpolate_confidence",
    }  # fmt: skip


def test_the_endpoint_error_is_that_of_the_decoded_images(context):
    section = interpolate.run(dataclasses.replace(context, class_names=[]))
    row = next(row for row in section.results["methods"] if row["method"] == "lerp")
    assert row["pair_type"] == "any" and "confidence" not in row
    # Images are halved: errors are among (v / 2)^2.
    assert 0 < row["endpoint_mse"] <= (7 * 30 / 255 / 2) ** 2


def test_weights_without_0_and_1_have_no_endpoint_error(context):
    section = interpolate.run(dataclasses.replace(context, interpolation_weights=np.array([0.4, 0.6])))
    assert all("endpoint_mse" not in row for row in section.results["methods"])


def test_closer_than_pixel_blend_means_a_ratio_closer_to_one():
    # Between the end points 0.85 is farther from 1 than 1.1 is; the end points do not count.
    ratios = np.array([9, 0.85, 1.05, 0.8, 9]), np.array([1, 1.1, 1.2, 1.1, 1])
    fractions = interpolate.compare_with_pixel_blend(np.array([0, 0.25, 0.5, 0.75, 1]), *ratios)
    assert fractions == pytest.approx({"frac_closer_than_pixel_blend": 1 / 3, "frac_below_pixel_blend": 1})


def test_a_data_sets_own_metric_is_reported_beside_the_others(context):
    shapes = []

    def metric(paths):
        shapes.append(paths.shape)
        return {"mean_distance": 0.25, "smoothness": 0.5, "undefined": None}

    section = interpolate.run(dataclasses.replace(context, interpolation_metric=metric))
    assert section.results["mean_distance"] == 0.25 and shapes == [(6, 16, 12, 12, 1)]
    assert "undefined" not in section.results
    # `smoothness` is that of the lines data set (ACAI), which is not the step ratio.
    assert "max step ratio 1" in section.headline and "smoothness 0.5" in section.headline


def test_the_task_encodes_the_same_images_as_the_pipeline(context):
    images, _ = context.load("test")
    batch = next(iter(context.batches("test", None, range(3))))
    latents = context.run.encode(images[:3])
    np.testing.assert_allclose(latents, context.run.model.encode(batch["image"]), atol=1e-6)
