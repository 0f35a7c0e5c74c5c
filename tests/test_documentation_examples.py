"""The Python examples of the documentation run, those that extend the registries included."""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import re
import sys
import types
from unittest import mock

import pytest
from cli import ROOT
from documentation import ERRORS, FENCE, PAGES

import cae
from cae import metrics, models, tasks
from cae.data import noise, outlier_sets
from cae.latents import interpolation
from cae.outliers import scores, thresholds
from cae.outliers.detector import Detector
from cae.run import Run
from cae.tasks import baselines

OBJECTS = {"cae": cae, "detector": Detector, "run": Run}
RUN_FIELDS = {"model", "noise"}  # Which are called, and are no methods.
"""Names in examples whose methods are looked up."""

REGISTRIES = (
    noise.NOISES, models.MODELS, metrics.LOSSES, metrics.METRICS, scores.SCORES, thresholds.THRESHOLDS, tasks.TASKS,
    baselines.BASELINES, outlier_sets.OUTLIERS, interpolation.INTERPOLATORS,
)  # fmt: skip


def examples(path):
    """The Python examples of a page."""
    return [content for language, content in FENCE.findall(path.read_text()) if language == "python"]


EXAMPLES = [
    pytest.param(code, id=f"{path.stem}-{index}")
    for path in PAGES
    if path.stem != "extending"
    for index, code in enumerate(examples(path))
]

EXTENSIONS = [
    pytest.param(code, id=re.sub(r"\W+", "_", heading.lower()))
    for heading, section in re.findall(
        r"^## (.+?)$(.*?)(?=^## |\Z)", (ROOT / "docs/extending.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for language, code in FENCE.findall(section)
    if language == "python"
]


def check_example(code):
    """Raises one of `ERRORS` if code does not compile, or uses names of `cae` or arguments that do not exist."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "cae":
            module = importlib.import_module(node.module)
            for alias in node.names:
                exists = hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
                assert exists, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else None
            if owner in OBJECTS and node.func.attr not in RUN_FIELDS:
                parameters = inspect.signature(getattr(OBJECTS[owner], node.func.attr)).parameters
                if not any(each.kind == each.VAR_KEYWORD for each in parameters.values()):
                    assert {keyword.arg for keyword in node.keywords} <= parameters.keys(), ast.unparse(node)


@pytest.fixture(scope="module")
def folder_with_run(tmp_path_factory, trained_run):
    """A folder with the run of the examples, runs/denoise."""
    folder = tmp_path_factory.mktemp("examples")
    trained_run.copy(folder / "runs" / "denoise")
    return folder


def run_example(code, folder):
    """Runs code as a module of its own in a folder; registries are restored afterwards."""
    module = types.ModuleType("example")
    with contextlib.ExitStack() as stack:
        for registry in REGISTRIES:
            stack.enter_context(mock.patch.dict(registry))
        stack.enter_context(mock.patch.dict(sys.modules, example=module))
        stack.enter_context(contextlib.chdir(folder))
        exec(compile(code, "example", "exec"), vars(module))


@pytest.mark.parametrize("code", EXAMPLES)
def test_examples_run(code, folder_with_run):
    check_example(code)
    run_example(code, folder_with_run)


@pytest.mark.parametrize("code", EXTENSIONS)
def test_extensions_run(code, tmp_path):
    check_example(code)
    run_example(code, tmp_path)


@pytest.mark.parametrize(
    "code",
    [
        "{..., 'a': 1}",
        "from cae.config import Confing",
        "import cae.gone",
        "cae.lode(1)",
        "detector.discoveries(a, rates=1)",
    ],
)
def test_wrong_examples_are_found(code):
    with pytest.raises(ERRORS):
        check_example(code)


def test_examples_leave_registries_alone(tmp_path):
    run_example("from cae.data import noise\nnoise.NOISES['fog'] = None", tmp_path)
    assert "fog" not in noise.NOISES
