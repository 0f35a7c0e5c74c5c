"""Checks of documentation pages: links, commands, flags and paths that do not exist."""

import contextlib
import functools
import importlib
import importlib.util
import itertools
import re
import shlex
import tomllib
from pathlib import Path

from absl import flags
from cli import ROOT, only_flags_of

from cae import metrics, models, tasks
from cae.config import config_from_flags, explicit_flags
from cae.data import noise
from cae.errors import UserError
from cae.latents import interpolation
from cae.outliers import scores, thresholds

PAGES = [ROOT / "README.md", ROOT / "BUILD.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.cfg"))
PROGRAMS = ("train.py", "eval.py", "-m cae.predict", "-m cae.export", "-m cae.demo", "-m cae.beam")

FLAG_CHECKS = {
    "tasks": tasks.check_task_names,
    "score": lambda name: name and scores.get_score(name),
    "threshold_method": thresholds.get_threshold_method,
    "interpolation_weights": interpolation.parse_weights,
}
"""Checks of flags that are not fields of the configuration."""

ERRORS = (
    AssertionError, AttributeError, ImportError, KeyError, OSError, SyntaxError, SystemExit, ValueError, UserError,
    flags.Error,
)  # fmt: skip
"""What programs and checks raise for a command or an example that is wrong."""

# --- Markdown ---------------------------------------------------------------------------------------------------------

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def without_fences(text):
    """The text with fenced code replaced by as many empty lines."""
    return FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text)


def anchors(text):
    """The anchors that GitHub gives to headings: lower case, hyphens for spaces, a number for repeated ones."""
    found = []
    for heading in HEADING.findall(without_fences(text)):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.append(f"{anchor}-{count}" if count else anchor)
    return found


def dead_links(text, folder):
    """The targets of links and images, relative to a folder, that do not exist."""
    dead = []
    for target in LINK.findall(INLINE_CODE.sub("", without_fences(text))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = folder / path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text() if path else text)):
            dead.append(target)
    return dead


# --- Commands ---------------------------------------------------------------------------------------------------------

COMMAND = re.compile(
    r"(?:\.venv/bin/)?(?:python3? (?:\S+\.py|-m \S+|-c )|make\b|tensorboard --|pip install).*", re.DOTALL
)


def commands_in(text):
    """Yields the words of every command in fenced and inline code."""
    lines = []
    for _, content in FENCE.findall(text):
        # A line within a quoted script may end with the quote.
        lines += [line.strip().removeprefix("exec ").rstrip("'") for line in content.splitlines()]
    lines += [" ".join(code.split()) for code in INLINE_CODE.findall(without_fences(text))]
    for line in lines:
        if COMMAND.fullmatch(line):
            yield shlex.split(line, comments=True)


def check_command(words):
    """Raises one of `ERRORS` for a command that would be refused; does not run it."""
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
        assert rest[0] in PROGRAMS, f"there is no {rest[0]}"
        check_flags(importlib.import_module(rest[0].removesuffix(".py")), rest[1:])


def check_make(words):
    makefile = (ROOT / "Makefile").read_text()
    for word in words:
        name, is_variable, value = word.partition("=")
        pattern = rf"\$\({name}\)" if is_variable else rf"^{name}:"
        assert re.search(pattern, makefile, re.MULTILINE), f"there is no {name} in the Makefile"
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
        flags.FLAGS.unparse_flags()  # TensorBoard's parser also reads absl's flags.


def check_module(name, *words):
    assert importlib.util.find_spec(name), f"there is no module {name}"
    if name == "pytest":
        assert all((ROOT / word).exists() for word in words), f"there is no {words}"
    elif name.startswith(("benchmarks.", "cae.")):
        check_flags(program_module(name), words)


def program_module(name):
    """Returns the module that defines the flags of a program: of a package that is its `__main__`."""
    if importlib.util.find_spec(name).submodule_search_locations is None:
        return importlib.import_module(name)
    return importlib.import_module(f"{name}.__main__")


def check_flags(module, words):
    """Parses flags and flagfiles as the program does, and looks up the names in their values."""
    with contextlib.chdir(ROOT), only_flags_of(module) as values:
        assert values(["program", *words]) == ["program"], f"{words} are not all flags"
        if "latent_dim" in values:
            config = config_from_flags(values)
            models.check_model_flags(config.model, explicit_flags(values))
            metrics.get_loss(config.loss)
            for text in (config.noise or "none").split(","):
                noise.parse_noise(None if text == "none" else text)
        for name, check in FLAG_CHECKS.items():
            if name in values:
                check(values[name].value)
        for name, names in (("cases", "CASES"), ("recipes", "RECIPES")):
            if name in values:
                unknown = set(values[name].value) - set(vars(module).get(names) or module.cases.CASES)
                assert not unknown, f"--{name} does not know {unknown}"


def command_of(path):
    """The words of the command in a configuration's header, without a remark in brackets."""
    (line,) = re.findall(r"^# Command: (.*)$", path.read_text(), re.MULTILINE)
    return shlex.split(line.partition(" (")[0])


PATH = re.compile(r"(?:cae|configs|benchmarks|tests|docs)/[\w/.-]+")

FOREIGN_FLAGS = {"requeue", "signal", "help", "helpfull"}
"""Flags of Slurm and absl."""


def benchmark_names():
    """The names of the benchmarks that are programs: modules, and packages with a `__main__`."""
    modules = [path.stem for path in sorted((ROOT / "benchmarks").glob("*.py")) if "cli.run(" in path.read_text()]
    return modules + [path.parent.name for path in sorted((ROOT / "benchmarks").glob("*/__main__.py"))]


@functools.cache
def all_flags():
    """The names of the flags of all programs."""
    found = set(FOREIGN_FLAGS)
    names = [
        "train",
        "eval",
        "cae.predict",
        "cae.export",
        "cae.demo",
        "cae.beam",
        *(f"benchmarks.{name}" for name in benchmark_names()),
    ]
    for name in names:
        with only_flags_of(program_module(name)) as values:
            found |= set(values)
    return found


def missing_names(text, known_flags):
    """The files and the flags in inline code that do not exist."""
    missing = []
    for code in INLINE_CODE.findall(without_fences(text)):
        if PATH.fullmatch(code) and not (ROOT / code).exists():
            missing.append(code)
        if code.startswith("--"):
            words = [word for word in code.split() if word.startswith("--")]
            missing += [word for word in words if word[2:].partition("=")[0] not in known_flags]
    return missing
