"""The rows of `benchmarks.speed`: what is measured, in which units, and how a process of its own has to be set up."""

import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping

from cae import config
from cae.data import sources
from cae.errors import UserError

ROUND_SECONDS, MOST_STEPS = 1.5, 64

Round = Callable[[], tuple[float, float]]
"""Measures once: how much was done, in steps, operations, or seconds of waiting, and in how many seconds."""

STEPS = ("steps", "forward", "batches")
"""Units of what takes so many steps; anything else measures a round by itself."""


@dataclasses.dataclass(frozen=True)
class Row:
    """What stands in a line, and what measures it.

    maker: module and function, by name since TensorFlow or PyTorch take seconds to import, of (settings, data set) and
    the options; unit: of what a round counts, 'steps' of training, 'forward', 'batches' read, 'operations', or
    'waiting', in seconds; flags: that its process gets besides; as_it_comes: without what `cae` sets TensorFlow and
    memory to; needs: a package.
    """

    title: str
    maker: str
    unit: str = "steps"
    options: Mapping[str, bool | str] = dataclasses.field(default_factory=dict)
    flags: tuple[str, ...] = ()
    as_it_comes: bool = False
    needs: str = "tensorflow"

    def make(self, settings: config.Config, source: sources.Source) -> Round:
        """Returns what measures a round."""
        module, name = self.maker.split(".")
        made = getattr(importlib.import_module(f"benchmarks.{module}"), name)(settings, source, **self.options)
        return timed(made) if self.unit in STEPS else made


def timed(run: Callable[[int], None]) -> Round:
    """Returns a round of about `ROUND_SECONDS` of something that takes so many steps."""
    run(2)  # Traces and compiles.
    start = time.perf_counter()
    run(2)
    steps = max(1, min(MOST_STEPS, round(2 * ROUND_SECONDS / (time.perf_counter() - start))))

    def measured() -> tuple[float, float]:
        start = time.perf_counter()
        run(steps)
        return steps, time.perf_counter() - start

    return measured


def _torch(title: str, **options: bool) -> Row:
    return Row(title, "torch_steps.training", options=options, needs="torch")


_BEST = {"channels_last": True, "fused": True}

ROWS: dict[str, Row] = {
    "ours": Row("our step, noise in the pipeline", "ours.training"),
    "ours_compiled": Row("the same, compiled by XLA", "ours.training", flags=("--jit_compile",)),
    "ours_bfloat16": Row("the same, mixed_bfloat16", "ours.training", flags=("--precision=mixed_bfloat16",)),
    "ours_float16": Row("the same, mixed_float16", "ours.training", flags=("--precision=mixed_float16",)),
    "ours_two": Row(
        "the same, two logical replicas", "ours.training", flags=("--strategy=mirrored", "--logical_cpus=2")
    ),
    "fit": Row("Keras fit on arrays, no noise", "ours.fit"),
    "fit_noise": Row("Keras fit, the same noise", "ours.fit_with_noise"),
    "fit_as_it_comes": Row("Keras fit on arrays, TensorFlow as it comes", "ours.fit", as_it_comes=True),
    "torch_eager": _torch("PyTorch, eager"),
    "torch_best": _torch("PyTorch, channels last, fused Adam", **_BEST),
    "torch_compiled": _torch("PyTorch, the same, compiled", **_BEST, compiled=True),
    "torch_bfloat16": _torch("PyTorch, channels last, fused, bfloat16", **_BEST, bfloat16=True),
    "forward": Row("forward pass alone, ours", "ours.forward", "forward"),
    "torch_forward": Row("forward pass alone, PyTorch", "torch_steps.forward", "forward", needs="torch"),
    "reading": Row("input pipeline alone, with noise", "ours.reading", "batches"),
    "waiting": Row("time that the step waits for data", "ours.waiting", "waiting"),
    "product": Row("float32 matrix product, TensorFlow", "flops.product", "operations", {"dtype": "float32"}),
    "product_numpy": Row("float32 matrix product, NumPy", "flops.numpy_product", "operations"),
    "product_bfloat16": Row("bfloat16 matrix product", "flops.product", "operations", {"dtype": "bfloat16"}),
}
"""What `--rows` can name."""


def check(names: list[str]) -> list[str]:
    """Returns the names of rows in the table's order, all for none; raises `UserError` for an unknown one."""
    for name in names:
        if name not in ROWS:
            raise UserError(f"--rows: '{name}' is not known; known are {', '.join(ROWS)}")
    return [name for name in ROWS if name in names] if names else list(ROWS)
