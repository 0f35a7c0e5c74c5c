"""Notes every process of the test suite that imports TensorFlow, however deep it was started.

Python imports this module at its start where its folder is on PYTHONPATH, as `conftest.py` sets it.
"""

import os
import sys


class ImportNoter:
    """A finder of modules that finds none, but notes in a file when TensorFlow is imported."""

    def find_spec(self, name, path=None, target=None):
        if name == "tensorflow.python":  # The first thing that it imports; libraries look whether it is there at all.
            sys.meta_path.remove(self)
            with open(os.environ["TENSORFLOW_PROCESSES_FILE"], "a") as file:
                file.write(f"{os.environ.get('PYTEST_CURRENT_TEST', 'outside of any test')}\n")


if "TENSORFLOW_PROCESSES_FILE" in os.environ:
    sys.meta_path.insert(0, ImportNoter())
