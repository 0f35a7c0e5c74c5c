import sys

import pytest
from absl import logging


@pytest.fixture(autouse=True)
def keep_captured_stderr_open(monkeypatch):
    """Uvicorn closes all handlers of logs, and absl's closes its stream, unless that is the process' own stderr."""
    monkeypatch.setattr(logging.get_absl_handler().python_handler, "stream", sys.__stderr__)
