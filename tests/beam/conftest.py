"""An export that is made in a moment, and the program, in this process."""

import json

import pytest
from beam_files import encode_png
from cli import call, only_flags_of
from small_detectors import CALIBRATION, MODEL, NOISE, TEST, TRAIN, fit

from cae.beam import __main__ as program
from cae.data.resizing import border_background
from cae.export import manifest, saved_model
from cae.export.functions import make_functions
from cae.export.graph_detector import GraphDetector


@pytest.fixture(scope="session")
def graph_detector():
    return GraphDetector(MODEL, fit("mse"), CALIBRATION)


@pytest.fixture(scope="session")
def export(graph_detector, tmp_path_factory):
    """The folder of an export of `small_detectors.MODEL`."""
    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODEL, "image_shape", (12, 12, 1), raising=False)
        patch.setattr(MODEL, "latent_dim", 4, raising=False)
        functions = make_functions(["denoise", "encode", "detect"], MODEL, False, graph_detector)
        saved_model.write(functions, MODEL, folder, TRAIN)
    content = manifest.describe_functions(functions) | {"detector": manifest.describe_detector(graph_detector)}
    content |= {"image_shape": [12, 12, 1], "background": border_background(TRAIN)}
    content |= {"files": [{"format": "saved_model"}]}
    (folder / "export.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="session")
def images():
    """Images by name: 60 that a detector was made for, and 5 that it was not."""
    return {f"{index:02}.png": image for index, image in enumerate([*TEST[:60], *NOISE[:5]])}


@pytest.fixture
def folder(images, tmp_path):
    """A working directory with the images' files in images/."""
    (tmp_path / "images").mkdir()
    for name, image in images.items():
        (tmp_path / "images" / name).write_bytes(encode_png(image))
    return tmp_path


@pytest.fixture
def predict(export, folder):
    """Runs the program, and returns its exit code, stdout and stderr."""

    def predict(*words):
        return call("cae.beam", f"--saved_model={export}", "--output=out", *words, folder=folder)

    return predict


@pytest.fixture
def program_flags():
    """The program's flags, which are not parsed yet."""
    with only_flags_of(program) as values:
        yield values
