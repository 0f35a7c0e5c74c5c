"""What README.md, BUILD.md and configs/ say holds: links lead somewhere, commands parse, snippets of code compile."""

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import itertools
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from programs import ROOT, only_flags_of

import cae
import eval as eval_program
import train as train_program
from benchmarks import rows, time_to_error
from cae import config, metrics, models, tasks
from cae.data import noise
from cae.errors import UserError
from cae.latents import mixing
from cae.outliers import scores, thresholds
from cae.outliers.detector import Detector

DOCUMENTS = [ROOT / "README.md", ROOT / "BUILD.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.cfg"))

CHECKS = {
    "tasks": tasks.check,
    "score": lambda name: scores.find(name, True),
    "threshold": thresholds.find,
    "mixing": mixing.degrees,
    "rows": rows.check,
    "ways": time_to_error.named,
}
"""What says whether a flag's value is known, where it is not a setting of a run."""

FAULTS = (
    AssertionError, AttributeError, ImportError, KeyError, OSError, SyntaxError, SystemExit, ValueError, UserError,
    flags.Error,
)  # fmt: skip
"""What programs, and checks of commands and code, raise where something does not hold."""

INSTANCES = {"detector": Detector}
"""Names in snippets, and what they are instances of."""


# --- Markdown ---------------------------------------------------------------------------------------------------------

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def without_fences(text):
    """The text with as many lines, but empty ones where code was."""
    return FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)


def anchors(text):
    """What GitHub names headings: lower case, hyphens for spaces, no other punctuation, a number where one is there."""
    found = []
    for heading in HEADING.findall(without_fences(text)):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        seen = sum(each == anchor or re.fullmatch(rf"{re.escape(anchor)}-\d+", each) is not None for each in found)
        found.append(f"{anchor}-{seen}" if seen else anchor)
    return found


def broken_links(text, folder):
    """The targets of links and pictures, relative to a folder, that are not there."""
    found = []
    for target in LINK.findall(INLINE.sub("", without_fences(text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = folder / path
        if not there.exists() or (anchor and anchor not in anchors(there.read_text() if path else text)):
            found.append(target)
    return found


# --- Commands ---------------------------------------------------------------------------------------------------------

COMMAND = re.compile(
    r"(?:\.venv/bin/)?(?:python3? (?:\S+\.py|-m \S+|-c )|make\b|tensorboard --|pip install).*", re.DOTALL
)


def commands_in(text):
    """The words of every command in a document's fences, line by line, and in its sentences."""
    lines = []
    for _, content in FENCE.findall(text):
        # Within a quoted script a line may end with the quote.
        lines += [line.strip().removeprefix("exec ").rstrip("'") for line in content.splitlines()]
    lines += [" ".join(code.split()) for code in INLINE.findall(without_fences(text))]
    for line in lines:
        if COMMAND.fullmatch(line):
            yield shlex.split(line, comments=True)


def check_command(words):
    """Raises an exception that says what of a command does not hold; nothing of it is run."""
    program, *rest = (word for word in words if word not in ("...", "--help"))
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        check_make(rest)
    elif program == "pip":
        check_pip(rest)
    elif program == "tensorboard":
        check_tensorboard(rest)
    elif rest[0] == "-c":
        compile(rest[1], "command", "exec")
    elif rest[0] == "-m":
        check_module(*rest[1:])
    else:
        check_flags({"train.py": train_program, "eval.py": eval_program}[rest[0]], rest[1:])


def check_make(words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, value = word.partition("=")
        known = rf"\$\({name}\)" if is_variable else rf"^{name}:"
        assert re.search(known, makefile, re.MULTILINE), f"Makefile knows no {name}"
        if Path(value).suffix in (".lock", ".cfg"):
            assert (ROOT / value).is_file(), f"there is no {value}"


def check_pip(words):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for option, value in itertools.pairwise(words):
        if option == "-r":
            assert (ROOT / value).is_file(), f"there is no {value}"
        for extra in re.findall(r"\[(\w+)\]", value):
            assert extra in extras, f"pyproject.toml has no extra {extra}"


def check_tensorboard(words):
    from tensorboard.plugins.core.core_plugin import CorePluginLoader
    from tensorboard.program import TensorBoard

    try:
        TensorBoard(plugins=[CorePluginLoader()]).configure(["tensorboard", *words])
    finally:
        flags.FLAGS.unparse_flags()  # Its parser takes those of absl, too.


def check_module(module, *words):
    assert importlib.util.find_spec(module), f"there is no module {module}"
    if module == "pytest":
        assert all((ROOT / word).exists() for word in words), f"there is no {words}"
    elif module.startswith("benchmarks."):
        check_flags(importlib.import_module(module), words)


def check_flags(module, words):
    """Reads flags and flagfiles as the program does, and looks up the names that they hold."""
    with contextlib.chdir(ROOT), only_flags_of(module) as values:
        assert values(["program", *words]) == ["program"], f"{words} are not all flags"
        if "latent_dim" in values:
            settings = config.from_flags(values)
            models.find(settings.model, config.said_settings(values))
            metrics.find_loss(settings.loss)
            for recipe in (settings.noise or "none").split(","):
                noise.parse(None if recipe == "none" else recipe)
        for name, check in CHECKS.items():
            if name in values:
                check(values[name].value)


def command_of(path):
    """The words of the command in a configuration's header, without what is said of it in brackets."""
    (line,) = re.findall(r"^# Command: (.*)$", path.read_text(), re.MULTILINE)
    return shlex.split(line.partition(" (")[0])


PATH = re.compile(r"(?:cae|configs|benchmarks|tests|docs)/[\w/.-]+")

OTHERS_FLAGS = {"requeue", "signal", "help"}
"""Slurm's, and absl's."""


def benchmarks():
    """The names of the benchmarks that are programs."""
    return [path.stem for path in sorted((ROOT / "benchmarks").glob("*.py")) if "program.run(" in path.read_text()]


@functools.cache
def flags_of_all():
    """The names of the flags of all programs."""
    found = set(OTHERS_FLAGS)
    for module in (
        train_program,
        eval_program,
        *(importlib.import_module(f"benchmarks.{name}") for name in benchmarks()),
    ):
        with only_flags_of(module) as values:
            found |= set(values)
    return found


def missing_names(text, known_flags):
    """The files, and the flags of no program, that sentences name but that are not there."""
    found = []
    for code in INLINE.findall(without_fences(text)):
        if PATH.fullmatch(code) and not (ROOT / code).exists():
            found.append(code)
        if code.startswith("--"):
            words = [word for word in code.split() if word.startswith("--")]
            found += [word for word in words if word[2:].partition("=")[0] not in known_flags]
    return found


# --- Snippets ---------------------------------------------------------------------------------------------------------


def snippets(text):
    return [content for language, content in FENCE.findall(text) if language == "python"]


def check_snippet(code):
    """Raises an exception where code does not compile, or takes something that is not there, of `cae` or a detector."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "cae":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}"), (
                    alias.name
                )
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else None
            if owner in INSTANCES or owner == "cae":
                function = getattr(INSTANCES.get(owner, cae), node.func.attr)
                known = inspect.signature(function).parameters
                assert {keyword.arg for keyword in node.keywords} <= known.keys(), ast.unparse(node)


# --- The documents ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(path):
    assert broken_links(path.read_text(), path.parent) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_can_be_read_by_their_programs(path):
    found = {}
    for words in commands_in(path.read_text()):
        try:
            check_command(words)
        except FAULTS as error:
            found[" ".join(words)] = f"{type(error).__name__}: {error}"
    assert found == {}


def test_every_program_and_benchmark_is_documented():
    commands = [" ".join(words) for path in DOCUMENTS for words in commands_in(path.read_text())]
    # The two that are left out are started by others.
    wanted = [f"-m benchmarks.{name}" for name in benchmarks() if name not in ("contestant", "first_step")]
    missing = [each for each in ("train.py", "eval.py", *wanted) if not any(each in command for command in commands)]
    assert len(wanted) >= 9 and missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_flags_that_are_named_are_there(path):
    assert missing_names(path.read_text(), flags_of_all()) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_configurations_command_takes_it(path):
    words = command_of(path)
    assert f"--flagfile=configs/{path.name}" in words
    check_command(words)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_snippets_compile_and_take_what_is_there(path):
    for code in snippets(path.read_text()):
        check_snippet(code)


def test_the_snippet_that_adds_a_noise_adds_it(monkeypatch):
    (code,) = (code for code in snippets((ROOT / "README.md").read_text()) if "NOISES" in code)
    there = vars(noise).copy()
    exec(compile(code, "README.md", "exec"), there)
    (added,) = there["NOISES"]
    monkeypatch.setattr(noise, "NOISES", noise.NOISES | there["NOISES"])
    corrupt = noise.parse(f"{added}:0.5")
    hazy = corrupt(np.zeros([200, 4, 4, 1], np.float32), [0, 0]).numpy()
    # Half of black and half of a grey from 0 to 1, the same in the whole image.
    np.testing.assert_array_equal(hazy, np.broadcast_to(hazy[:, :1, :1], hazy.shape))
    assert hazy.mean() == pytest.approx(0.25, abs=0.03) and 0.45 < hazy.max() <= 0.5


# --- What would be found ----------------------------------------------------------------------------------------------


def test_what_links_nowhere_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# There is one\n\n```\n# No heading\n```\n\n## There is one\n")
    text = "[a](other.md) [b](other.md#there-is-one-1) [c](#here) ![d](https://host/picture.png)\n\n# Here!\n"
    assert broken_links(text, tmp_path) == []
    for target in ("gone.png", "other.md#no-heading", "#there", "gone.md#here"):
        assert broken_links(f"{text}[e]({target})", tmp_path) == [target]


def test_a_name_of_nothing_is_found():
    text = "`cae/config.py` and `configs/` `--epochs=3 --width=2` `epochs/cae`"
    assert missing_names(text, {"epochs", "width"}) == []
    assert missing_names(f"{text} `cae/confing.py` `--epochs=3 --with=2`", {"epochs", "width"}) == [
        "cae/confing.py", "--with=2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        "python train.py --flagfile=configs/gone.cfg",
        "python train.py --epoch=5",
        "python train.py --model=cnov",
        "python train.py --noise=gausian:0.5",
        "python train.py --epochs=5 denoise",
        "python train.py --score=mse",
        "python eval.py --tasks=denoize",
        "python predict.py",
        "python -m benchmarks.gone",
        "python -m benchmarks.speed --rows=torhc",
        "python -m benchmarks.survival --epochs=3",
        ".venv/bin/python -m pytest tests/test_gone.py",
        "python -c 'import'",
        "make tset",
        "make denoise EPOCH=5",
        "make denoise CONFIG=configs/gone.cfg",
        "tensorboard --logdirs=runs",
        "pip install -e '.[gone]'",
        "pip install --require-hashes -r gone.lock",
    ],
)
def test_a_command_that_does_not_hold_is_found(command):
    (words,) = commands_in(f"```\n{command}  # Why.\n```\n")
    with pytest.raises(FAULTS):
        check_command(words)
    assert not flags.FLAGS.is_parsed()


@pytest.mark.parametrize(
    "code",
    [
        "{..., 'a': 1}",
        "from cae.config import Confing",
        "import cae.gone",
        "cae.load(1)",
        "detector.alarms(a, rates=1)",
    ],
)
def test_a_snippet_that_does_not_hold_is_found(code):
    with pytest.raises(FAULTS):
        check_snippet(code)
