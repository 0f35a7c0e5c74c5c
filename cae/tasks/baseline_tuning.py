"""A cache on disk of the best parameters of baselines, so that they are searched once for the same images."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from sklearn.model_selection import ParameterGrid

from cae.io_utils import atomic_write
from cae.tasks import baselines
from cae.tasks.baselines import Params

PACKAGES = ("numpy", "pywavelets", "scikit-image", "scipy")
"""What the baselines compute with."""

FOLDER = "baseline_params"


def default_cache_dir() -> Path | None:
    """Returns the folder of this program's cache.

    Returns:
      `$XDG_CACHE_HOME/cae`, or `~/.cache/cae` where that variable is not an absolute path; None for a user who has no
      home.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (root if root.is_absolute() else Path("~/.cache").expanduser()) / "cae"
    except RuntimeError:
        return None


@dataclasses.dataclass(frozen=True)
class TuningCache:
    """The best parameters for pairs of images, a small JSON file for each set of pairs.

    A file that can't be read or written costs a search, and nothing else.

    Attributes:
      folder: Where the files are, which need not exist; None for no cache.
    """

    folder: Path | None

    def read(self, clean: np.ndarray, noisy: np.ndarray) -> dict[str, Params] | None:
        """Looks up the best parameters for pairs of images.

        Args:
          clean: Images, float32 `[n, height, width, channels]` in 0..1.
          noisy: The same images with noise.

        Returns:
          The parameters of each of `baselines.BASELINES` by name; None where there is no valid file for these images,
          baselines, parameter grids and versions.
        """
        if self.folder is None:
            return None
        try:
            saved = json.loads(self._path(clean, noisy).read_text())
            is_valid = all(saved[name] in ParameterGrid(each.param_grid) for name, each in baselines.BASELINES.items())
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return saved if is_valid else None

    def write(self, clean: np.ndarray, noisy: np.ndarray, params: Mapping[str, Params]) -> None:
        """Saves the best parameters for pairs of images, if the folder is writable.

        Args:
          clean: Images, as `read` takes them.
          noisy: The same images with noise.
          params: The parameters of each of `baselines.BASELINES` by name.
        """
        if self.folder is None:
            return
        path = self._path(clean, noisy)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                json.dump(params, file, indent=2)

    def _path(self, clean: np.ndarray, noisy: np.ndarray) -> Path:
        """Returns the file whose name is a digest of all that the best parameters depend on.

        The pixels stand for data set, split, number of images, noise and seed, and for whatever else may change them:
        other images under the same file names, or random numbers of another version of TensorFlow.
        """
        key = {
            "shape": clean.shape,
            "clean": _digest(np.ascontiguousarray(clean, np.float32)),
            "noisy": _digest(np.ascontiguousarray(noisy, np.float32)),
            "param_grids": {name: baseline.param_grid for name, baseline in baselines.BASELINES.items()},
            "code": _digest(inspect.getsource(baselines).encode()),
            "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        }
        return self.folder / FOLDER / f"{_digest(json.dumps(key, sort_keys=True).encode())}.json"


def _digest(content: bytes | np.ndarray) -> str:
    return hashlib.sha256(content).hexdigest()
