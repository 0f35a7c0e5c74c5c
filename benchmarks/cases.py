"""The cases of `benchmarks.throughput`: what each measures, in which unit, and how its process is set up."""

import dataclasses
import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.common import measure_seconds
from cae import runtime
from cae.config import Config
from cae.data import datasets

ROUND_SECONDS, MAX_STEPS_PER_ROUND = 1.5, 64

# Units of cases whose function takes a number of steps, which is chosen so that a round takes `ROUND_SECONDS`.
STEP_UNITS = ("steps", "forward", "batches")


@dataclasses.dataclass(frozen=True)
class Case:
    """A line of the table.

    Attributes:
      title: Its name in the table.
      factory: Module and function that make the measured function of a configuration and a data set; by name, since
        TensorFlow and PyTorch take seconds to import.
      unit: What a round counts: training 'steps', 'forward' passes, 'batches' read, 'flops', or seconds that are
        'input_bound'.
      options: Keyword arguments of the factory.
      overrides: Fields of the configuration that differ.
      default_runtime: Whether TensorFlow and malloc keep their defaults, which `cae` changes.
    """

    title: str
    factory: str
    unit: str = "steps"
    options: Mapping[str, bool | str] = dataclasses.field(default_factory=dict)
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    default_runtime: bool = False


_TWO_REPLICAS = {"distribution_strategy": "mirrored", "logical_cpus": 2}
_FUSED = {"fused": True}

CASES = {
    "train": Case("training step, with noise", "tf_cases.train"),
    "train_xla": Case("training step, XLA", "tf_cases.train", overrides={"jit_compile": True}),
    "train_bfloat16": Case("training step, bfloat16", "tf_cases.train", overrides={"precision": "mixed_bfloat16"}),
    "train_float16": Case("training step, float16", "tf_cases.train", overrides={"precision": "mixed_float16"}),
    "train_mirrored": Case("training step, two logical replicas", "tf_cases.train", overrides=_TWO_REPLICAS),
    "fit": Case("Keras fit on arrays, no noise", "tf_cases.fit"),
    "fit_noise": Case("Keras fit, the same noise", "tf_cases.fit", options={"on_arrays": False}),
    "fit_default": Case("Keras fit on arrays, default runtime", "tf_cases.fit", default_runtime=True),
    "torch": Case("PyTorch, eager", "torch_cases.train"),
    "torch_fused": Case("PyTorch, channels last, fused Adam", "torch_cases.train", options=_FUSED),
    "torch_compile": Case("PyTorch, the same, torch.compile", "torch_cases.train", options=_FUSED | {"compiled": True}),
    "torch_bfloat16": Case("PyTorch, fused, bfloat16", "torch_cases.train", options=_FUSED | {"bfloat16": True}),
    "forward": Case("forward pass", "tf_cases.forward", "forward"),
    "torch_forward": Case("forward pass, PyTorch", "torch_cases.forward", "forward"),
    "input_pipeline": Case("input pipeline, with noise", "tf_cases.read_batches", "batches"),
    "input_bound": Case("input-bound time of a training step", "tf_cases.measure_input_bound", "input_bound"),
    "gemm": Case("float32 GEMM, TensorFlow", "flops.multiply", "flops", {"dtype": "float32"}),
    "gemm_numpy": Case("float32 GEMM, NumPy", "flops.multiply_numpy", "flops"),
    "gemm_bfloat16": Case("bfloat16 GEMM, TensorFlow", "flops.multiply", "flops", {"dtype": "bfloat16"}),
}


def make_round(case: Case, config: Config) -> Callable[[], float]:
    """Sets this process up for a case and returns a function that measures a round: the amount done per second.

    Raises:
      UserError: The case can't be measured with this configuration.
      ModuleNotFoundError: Its package is not installed.
    """
    module, name = case.factory.split(".")
    if case.default_runtime:
        os.environ.pop("TF_ENABLE_ONEDNN_OPTS", None)
    else:
        runtime.retain_freed_memory()
    config = dataclasses.replace(config, **case.overrides)
    factory = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    function = factory(config, datasets.open_dataset(config), **case.options)
    if case.unit not in STEP_UNITS:
        return function
    function(2)  # Traces and compiles.
    num_steps = round(2 * ROUND_SECONDS / measure_seconds(function, 2))
    num_steps = max(1, min(MAX_STEPS_PER_ROUND, num_steps))
    return lambda: num_steps / measure_seconds(function, num_steps)
