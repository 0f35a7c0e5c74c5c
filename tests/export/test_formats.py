"""Every family of models and every score in every format, run by the runtime of the format."""

import dataclasses
from collections import OrderedDict

import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from small_detectors import CALIBRATION, TEST, TRAIN
from small_scores import CosineAutoencoder
from tf2onnx import optimizer as tf2onnx_optimizer

from cae import models
from cae.errors import UserError
from cae.export import keras_file, litert_files, onnx_files, saved_model
from cae.export.functions import ExportFunction, make_functions, rebuild_in_float32
from cae.export.graph_detector import GraphDetector
from cae.models import MODELS
from cae.outliers.detector import Detector
from cae.outliers.scores import SCORES, HOGScore

SHAPE = (14, 13, 1)

SIZES = [
    (28, 28), (45, 62), (1, 1), (300, 200), (1, 2), (2, 1), (3, 3), (5, 4), (7, 31), (16, 9), (27, 28), (28, 27),
    (33, 33), (64, 48), (99, 100), (100, 99), (150, 1), (1, 151), (199, 299), (256, 77),
]  # fmt: skip


def build(tiny, name, random, shape=SHAPE):
    """Returns a model whose weights are all in use, those that are initialized with zeros, too."""
    latent = {} if MODELS[name].has_latents else {"latent_dim": type(tiny).latent_dim}
    model = models.build_model(dataclasses.replace(tiny, model=name, **latent), shape)
    for variable in model.variables:
        variable.assign_add(0.05 * random.normal(size=variable.shape))
    return model


def functions_of(name, model):
    spec = MODELS[name]
    names = ["denoise", "encode", "decode", "reconstruct"] if spec.has_latents else ["denoise"]
    return make_functions(names, model, spec.free_sides)


def inputs_of(function, model, images):
    return {"codes": model.encode(images).numpy()} if function.name == "decode" else {"images": images}


@pytest.mark.parametrize("name", MODELS)
def test_files_compute_what_the_model_does(name, tiny, tmp_path, random, monkeypatch):
    if name == "vae":  # Whose layers are those of conv.
        monkeypatch.setattr(litert_files, "QUANTIZED", ())
    model, images = build(tiny, name, random), random.random((7, *SHAPE), np.float32)
    functions = functions_of(name, model)
    for writer in (saved_model, onnx_files, keras_file, litert_files):
        written = writer.write(functions, model, tmp_path, images)
        assert {each.function.name for each in written} == {each.name for each in functions}
        for each in written:
            inputs = inputs_of(each.function, model, images)
            (output,) = each.call(**inputs).values()
            (expected,) = each.function(**inputs).values()
            tolerance = {"float32": 1e-5, "float16": 1e-2, "int8": 0.2}[each.precision] * max(1, np.abs(expected).max())
            np.testing.assert_allclose(output, expected, atol=tolerance, err_msg=each.path)
            assert np.array_equal(output, expected) or writer is not keras_file
    if name != "vae":
        details = Interpreter(str(tmp_path / "litert/denoise_int8.tflite")).get_tensor_details()
        assert np.mean([each["dtype"] in (np.int8, np.int32) for each in details]) > 0.8, "integers inside"


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.free_sides])
def test_images_of_any_size_are_denoised_as_by_the_model(name, tiny, tmp_path, random):
    model = build(tiny, name, random, (28, 28, 1))
    functions = functions_of(name, model)
    files = [writer.write(functions, model, tmp_path, None)[0] for writer in (saved_model, onnx_files)]
    for size in SIZES:
        images = random.random((2, *size, 1), np.float32)
        expected = model(images).numpy()
        for file in files:
            np.testing.assert_allclose(file.call(images=images)["denoised"], expected, atol=1e-5, err_msg=f"{size}")


def test_images_keep_their_dimensions_in_whatever_order_tf2onnx_optimizes(tiny, tmp_path, random, monkeypatch):
    # The order of a loop over a set: in one conversion of about eighty the last operation is an Identity no longer
    # when tf2onnx inserts the Squeeze after it, and the output keeps five dimensions.
    optimizers = dict(tf2onnx_optimizer._optimizers)
    identity = optimizers.pop("remove_identity")
    names = list(optimizers)
    names.insert(names.index("reshape_optimizer"), "remove_identity")
    reordered = OrderedDict((name, optimizers.get(name, identity)) for name in names)
    monkeypatch.setattr(tf2onnx_optimizer, "_optimizers", reordered)
    model = build(tiny, "dncnn", random, (28, 28, 1))
    (file,) = onnx_files.write(functions_of("dncnn", model), model, tmp_path, None)
    images = random.random((2, 27, 28, 1), np.float32)
    np.testing.assert_allclose(file.call(images=images)["denoised"], model(images), atol=1e-5)


def test_dimensions_have_names_and_bytes_are_images_in_tensorflow(tiny, tmp_path, random):
    model = build(tiny, "dncnn", random)
    functions = functions_of("dncnn", model)
    onnx_files.write(functions, model, tmp_path, None)
    graph = onnx.load(tmp_path / "onnx/denoise.onnx").graph
    for value, name in ((graph.input[0], "images"), (graph.output[0], "denoised")):
        dimensions = [each.dim_param or each.dim_value for each in value.type.tensor_type.shape.dim]
        assert (value.name, dimensions) == (name, ["batch", "height", "width", 1])
    saved_model.write(functions, model, tmp_path, None)
    signatures = tf.saved_model.load(str(tmp_path / "saved_model")).signatures
    assert set(signatures) == {"denoise", "denoise_uint8"}
    images = random.integers(0, 256, (2, *SHAPE), np.uint8)
    outputs = signatures["denoise_uint8"](images=tf.constant(images))["denoised"]
    np.testing.assert_allclose(outputs, model(images / np.float32(255)), atol=1e-6)


@pytest.mark.parametrize("writer", [onnx_files, litert_files])
def test_what_cannot_be_converted_is_refused_by_name(writer, tmp_path):
    def call(images):
        return {"denoised": tf.math.igamma(images, images)}

    function = ExportFunction("denoise", call, (tf.TensorSpec([None, *SHAPE], tf.float32, "images"),))
    with pytest.raises(UserError, match=f"--format={writer.NAME}: denoise can't be converted: .*Igamma"):
        writer.write([function], CosineAutoencoder(), tmp_path, np.zeros([1, *SHAPE], np.float32))


@pytest.mark.parametrize("score", SCORES)
def test_every_detector_decides_alike_in_every_format(score, tmp_path, monkeypatch):
    monkeypatch.setattr(HOGScore, "n_neighbors", 4)  # Each is eliminated by a step of the graph.
    model, images = CosineAutoencoder(), (TEST[:50] / 255).astype(np.float32)
    images[0, 5, 5] = np.nan
    model.image_shape, model.latent_dim = TEST.shape[1:], 9
    graph_detector = GraphDetector(model, Detector.fit(model, TRAIN, CALIBRATION, score=score), CALIBRATION)
    (function,) = make_functions(["detect"], model, False, graph_detector)
    inputs = {"images": images, "alpha": np.array(0.05, np.float32)}
    expected = function(**inputs)
    for writer in (saved_model, onnx_files, litert_files):
        (written,) = writer.write([function], model, tmp_path, images)
        outputs = written.call(**inputs)
        assert outputs.keys() == expected.keys() and outputs["is_inlier"].dtype == bool
        np.testing.assert_allclose(outputs["score"], expected["score"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(outputs["anomaly_map"], expected["anomaly_map"], rtol=1e-4, atol=1e-5)
        assert not outputs["is_inlier"][0] and outputs["is_inlier"][1:].any(), "NaN is an outlier"
        differs = outputs["is_inlier"] != expected["is_inlier"]
        np.testing.assert_allclose(expected["score"][differs], graph_detector.threshold(0.05).high, rtol=1e-4)


def test_a_model_in_mixed_precision_is_exported_in_float32(tiny, random):
    mixed = dataclasses.replace(tiny, precision="mixed_bfloat16")
    trained = models.build_model(mixed, SHAPE)
    rebuilt = rebuild_in_float32(mixed, trained, SHAPE)
    images = random.random((3, *SHAPE), np.float32)
    assert {layer.compute_dtype for layer in rebuilt._flatten_layers()} == {"float32"}
    difference = np.abs(rebuilt(images).numpy() - trained(images).numpy()).max()
    assert 0 < difference < 0.05
    for mine, theirs in zip(rebuilt.get_weights(), trained.get_weights()):
        np.testing.assert_array_equal(mine, theirs)
