"""The program, in this process, and its files in processes that have their runtime only."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from cli import ROOT, assert_one_line, call
from documentation import FENCE

import cae
from cae.export import __main__ as program
from cae.export import litert_files, onnx_files, parity
from cae.outliers.detector import Detector

FORMATS = "saved_model,onnx,litert,keras"


@pytest.fixture(scope="module")
def exported(trained_run, tmp_path_factory):
    """An export in all formats: the result of the program, and the folder."""
    folder = tmp_path_factory.mktemp("exported")
    words = (f"--workdir={trained_run.workdir}", f"--format={FORMATS}", "--output=new/run", "--parity_images=20")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(litert_files, "QUANTIZED", ("encode",))  # Each file takes a second.
        return call("cae.export", *words, folder=folder), folder / "new/run"


@pytest.fixture(scope="module")
def content(exported):
    return json.loads((exported[1] / "export.json").read_text())


def test_all_files_are_written_and_nothing_else(exported):
    (code, out, err), folder = exported
    assert (code, err) == (0, "") and "exported: new/run" in out and "detect, alpha 0.01: false positive rate" in out
    assert {path.name for path in folder.iterdir()} == {"export.json", "saved_model", "onnx", "litert", "model.keras"}
    functions = {"denoise", "encode", "decode", "reconstruct", "detect"}
    assert {path.stem for path in (folder / "onnx").iterdir()} == functions
    floats = {f"{name}_float32" for name in functions}
    assert {path.stem for path in (folder / "litert").iterdir()} == floats | {"encode_float16", "encode_int8"}
    assert [path.name for path in folder.parent.iterdir()] == ["run"], "no temporary folder is left"


def test_export_json_describes_and_measures(content, trained_run):
    detector = cae.load_detector(trained_run.workdir)
    assert content["image_shape"] == [28, 28, 1] and content["parity_images"] == 20
    assert {"tensorflow", "keras", "onnxruntime", "onnx_opset"} <= content["versions"].keys()
    detect = content["functions"]["detect"]
    assert detect["inputs"]["images"] == {"shape": ["batch", 28, 28, 1], "dtype": "float32", "range": [0, 1]}
    assert detect["outputs"]["is_inlier"] == {"shape": ["batch"], "dtype": "bool", "range": None}
    for file in content["files"]:
        assert file["milliseconds"] > 0 and file["bytes"] > 1000
        assert parity.largest_difference(file["largest_difference"]) < (2e-5 if file["precision"] == "float32" else 1)
    described = content["detector"]
    assert described["score"] == "fisher" and described["default_alpha"] == detector.alpha
    assert described["min_alpha"] == pytest.approx(1 / (len(detector.calibration_scores) + 1))
    for alpha, row in described["decisions"].items():
        assert set(row["different_decisions"].values()) == {0} and row["images"] == 256
        assert row["false_positive_rate"] < 3 * float(alpha) + 0.02
        assert row["interval_99"][0] <= float(alpha) <= row["interval_99"][1]


def test_decisions_are_those_of_the_detector_but_near_its_threshold(exported, trained_run, digits):
    detector = cae.load_detector(trained_run.workdir)
    detect = tf.saved_model.load(str(exported[1] / "saved_model")).signatures["detect_uint8"]
    outputs = detect(images=tf.constant(digits), alpha=tf.constant(0.05))
    scores, threshold = detector.scores(digits), detector.with_alpha(0.05).threshold.high
    np.testing.assert_allclose(outputs["score"], scores, rtol=1e-2, atol=1e-3)
    far = np.abs(scores / threshold - 1) > 1e-2
    np.testing.assert_array_equal(outputs["is_inlier"].numpy()[far], detector.is_inlier(digits, 0.05)[far])


def test_one_image_is_timed_in_python_and_in_a_file(exported, trained_run, tmp_path):
    words = (f"--workdir={trained_run.workdir}", "--rounds=2", "--calls=3", "--json=times.json")
    code, out, err = call("benchmarks.single_image", *words, f"--export={exported[1]}", folder=tmp_path)
    assert (code, err) == (0, "") and out.count("round 2 of 2") == 2
    rows = json.loads((tmp_path / "times.json").read_text())
    assert [(row["function"], row["program"]) for row in rows] == [
        ("denoise", "Python"), ("denoise", "ONNX"), ("detect", "Python"), ("detect", "ONNX"),
    ]  # fmt: skip
    assert all(0 < row["fastest ms"] <= row["slowest ms"] for row in rows) and rows[1]["ratio"] > 0
    _, _, err = call("benchmarks.single_image", words[0], "--export=none", folder=tmp_path)
    assert err.count("\n") == 1 and "--export=none has no onnx/denoise.onnx" in err


# --- Without this package ---------------------------------------------------------------------------------------------

RUNTIMES = ("import tensorflow", "import onnxruntime", "from ai_edge_litert", "import keras")

EXAMPLES = [code for language, code in FENCE.findall((ROOT / "docs/deployment.md").read_text()) if language == "python"]


@pytest.fixture
def place(exported, tmp_path, digits):
    """A folder with images and the export of the examples."""
    np.save(tmp_path / "images.npy", (digits[:30] / 255).astype(np.float32))
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports/denoise").symlink_to(exported[1])
    return tmp_path


def test_there_is_an_example_for_each_runtime():
    assert [next(name for name in RUNTIMES if name in code) for code in EXAMPLES] == [*RUNTIMES]


@pytest.mark.e2e
@pytest.mark.parametrize("code", EXAMPLES[:3], ids=[name.split()[-1] for name in RUNTIMES[:3]])
def test_examples_run_without_this_package(code, place):
    only = "" if "tensorflow" in code else "assert 'tensorflow' not in sys.modules"
    start = "import importlib.util, sys; assert importlib.util.find_spec('cae') is None"
    script = f"{start}\n{code}\n{only}\nnp.save('result.npy', is_inlier)"
    subprocess.run([sys.executable, "-I", "-c", script], cwd=place, check=True)
    signature = tf.saved_model.load(str(place / "exports/denoise/saved_model")).signatures["detect"]
    expected = signature(images=tf.constant(np.load(place / "images.npy")), alpha=tf.constant(0.05))["is_inlier"]
    np.testing.assert_array_equal(np.load(place / "result.npy"), expected)


def test_the_example_of_keras_computes_what_the_run_does(place, trained_run, monkeypatch):
    monkeypatch.chdir(place)
    variables = {}
    exec(EXAMPLES[3], variables)
    expected = cae.load(trained_run.workdir).model(np.load("images.npy"))
    np.testing.assert_array_equal(variables["denoised"], expected)


# --- Misuse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "--output=FOLDER is missing"),
        (("--output=there",), "--output=there exists; name another folder, or remove it"),
        (("--output=new", "--format=onx"), "unknown --format 'onx' (did you mean 'onnx'?); available: keras, litert"),
        (("--output=new", "--format="), "--format is empty; available: saved_model, onnx"),
        (("--output=b\udcff",), "has bytes that are not UTF-8"),
        (("--output=new", "--functions=denose"), "unknown --functions 'denose' (did you mean 'denoise'?)"),
        (("--output=new", "--functions=encode"), "--functions=encode needs latent vectors, and --model=unet has none"),
        (("--output=new", "--functions=detect"), "--functions=detect: --workdir="),
        (("--output=new", "--workdir=nowhere"), "--workdir=nowhere contains no run"),
        (("--output=new", "--base_filters=3"), "base_filters=8 (now 3)"),
        (("--output=new", "--parity_images=0"), "parity_images"),
    ],
)
def test_misuse_is_one_line_and_writes_nothing(words, message, unet_run, tmp_path):
    (tmp_path / "there").mkdir()
    assert_one_line(call("cae.export", f"--workdir={unet_run.workdir}", *words, folder=tmp_path), message)
    assert [path.name for path in tmp_path.iterdir()] == ["there"] and not [*(tmp_path / "there").iterdir()]


def test_a_missing_package_is_named_with_its_extra(unet_run, tmp_path, monkeypatch):
    monkeypatch.setattr(program.importlib.util, "find_spec", lambda name: None if name == "onnx" else object())
    words = (f"--workdir={unet_run.workdir}", "--output=new", "--format=saved_model,onnx")
    assert_one_line(call("cae.export", *words, folder=tmp_path), "--format=onnx needs onnx: pip install -e '.[onnx]'")


def test_another_version_s_config_is_refused(unet_run, tmp_path):
    run = unet_run.copy(tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["config"]["warp"] = 9
    (run / "config.json").write_text(json.dumps(config))
    message = "config.json has the unknown field 'warp'; another version of this program wrote it"
    assert_one_line(call("cae.export", "--workdir=run", "--output=new", folder=tmp_path), message)


def test_without_a_detector_the_other_functions_are_exported(unet_run, tmp_path):
    words = (f"--workdir={unet_run.workdir}", "--output=new", "--parity_images=2")
    code, out, err = call("cae.export", *words, folder=tmp_path)
    assert (code, err) == (0, "") and "detect is left out: there is no detector of the best model; run eval.py" in out
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"export.json", "saved_model"}


@pytest.mark.parametrize("precision, output, difference", [
    ("float32", lambda images: images, "0."),
    ("float32", lambda images: images[None], "inf"),  # Which would be broadcast.
    ("int8", lambda images: images[None], "inf"),
    ("float16", lambda images: np.nan * images, "nan"),
])  # fmt: skip
def test_a_file_that_computes_something_else_is_not_written(
    precision, output, difference, unet_run, tmp_path, monkeypatch
):
    write = onnx_files.write

    def write_wrongly(*args):
        (file,) = write(*args)
        object.__setattr__(file, "call", lambda images: {"denoised": output(images)})
        object.__setattr__(file, "precision", precision)
        return [file]

    monkeypatch.setitem(program.exporter.WRITERS, "onnx", write_wrongly)
    words = (f"--workdir={unet_run.workdir}", "--output=new", "--format=onnx", "--parity_images=2")
    result = call("cae.export", *words, folder=tmp_path)
    assert_one_line(result, f"--format=onnx: denoise computes something else than the model, by denoised {difference}")
    assert not [*tmp_path.iterdir()], "nothing is left, nothing temporary either"


def test_other_thresholds_become_conformal(unet_run, tmp_path, digits):
    run = cae.load(unet_run.copy(tmp_path / "run"))
    Detector.fit(run.model, digits[:50], digits[50:100], score="mse", method="sigma", step=run.step).save(run.workdir)
    detector, note = program.find_detector(run, is_named=True)
    assert detector.method == "sigma"
    assert note == "detect has a conformal threshold instead of --threshold_method=sigma"


@pytest.mark.parametrize("name", ["score", "p_value", "is_inlier"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_output_that_is_wrong_is_found_among_others(name, wrong):
    small = {"score": 1e-6, "p_value": 1e-2, "is_inlier": 0.0}
    assert parity.largest_difference(small) == 1e-6
    np.testing.assert_equal(parity.largest_difference(small | {name: wrong}), wrong)


def test_outputs_of_another_shape_differ_infinitely():
    expected = {"score": np.ones(3), "is_inlier": np.ones(3, bool)}
    assert parity.largest_differences(expected, expected) == {"score": 0.0}
    actual = {name: values[None] for name, values in expected.items()}
    assert parity.largest_differences(actual, expected) == {"score": np.inf, "is_inlier": np.inf}
