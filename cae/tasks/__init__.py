"""What a fitted model is good for, one module a task.

To add one, write a module with a function `run(Subject) -> Section` and name it in `TASKS`.
"""

from collections.abc import Sequence
from types import ModuleType

from etils import epy

from cae.errors import unknown_name

# Tasks need TensorFlow, which takes seconds to import; they are looked up by name before.
with epy.lazy_imports():
    from cae.tasks import denoise, reconstruct

TASKS = {
    "denoise": denoise,
    "reconstruct": reconstruct,
}
"""What `--tasks` can name, in the order of the report."""


def find(names: Sequence[str]) -> list[ModuleType]:
    """Returns the tasks of those names in the report's order, all of them for no name; raises `UserError`."""
    for name in names:
        if name not in TASKS:
            raise unknown_name("--tasks", name, TASKS)
    return [task for name, task in TASKS.items() if not names or name in names]
