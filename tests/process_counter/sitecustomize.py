"""Records every process of the test suite that imports TensorFlow, whichever process started it.

Python imports this module at its start if its folder is on PYTHONPATH, which `conftest.py` sets.
"""

import os
import sys


class ImportRecorder:
    """A finder of modules that finds none, but writes a line to a file when TensorFlow is imported."""

    # `tensorflow.python` is its first import; libraries look for `tensorflow` without importing it.
    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow.python":
            sys.meta_path.remove(self)
            with open(os.environ["TENSORFLOW_PROCESSES_FILE"], "a") as file:
                file.write(f"{os.environ.get('PYTEST_CURRENT_TEST', 'outside of any test')}\n")


if "TENSORFLOW_PROCESSES_FILE" in os.environ:
    sys.meta_path.insert(0, ImportRecorder())
