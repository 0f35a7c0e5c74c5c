"""The machines of a run with --strategy=multiworker, as TF_CONFIG names them."""

import dataclasses
import json
import os

from cae.errors import UserError

_EXAMPLE = '{"cluster": {"worker": ["host-a:12345", "host-b:12345"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The addresses of all workers, and which of them this process is."""

    workers: tuple[str, ...]
    index: int


def is_chief(strategy: str) -> bool:
    """Returns whether this process is the one of all that writes; raises `UserError` where TF_CONFIG does not say."""
    return strategy != "multiworker" or read().index == 0


def read() -> Cluster:
    """Returns the cluster that TF_CONFIG names; raises `UserError` where it names none."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        described = json.loads(text)
        workers, task = described["cluster"]["worker"], described["task"]
        if set(described["cluster"]) != {"worker"} or task["type"] != "worker":
            raise ValueError
        workers, index = tuple(map(str, workers)), int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        what = f"is '{text}'" if text else "is not set"
        raise UserError(
            f"--strategy=multiworker: the environment variable TF_CONFIG {what}; it must look like {_EXAMPLE}"
        ) from error
    if not 0 <= index < len(workers):
        raise UserError(f"--strategy=multiworker: TF_CONFIG names {len(workers)} workers, but none of index {index}")
    return Cluster(workers, index)
