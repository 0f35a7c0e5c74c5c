"""Best settings of denoisers without learning, cached on disk so that they are searched once for the same images."""

import dataclasses
import hashlib
import importlib.metadata
import inspect
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cae.tasks import classical
from cae.tasks.classical import Setting

PACKAGES = ("numpy", "pywavelets", "scikit-image", "scipy")
"""What the denoisers compute with."""

FOLDER = "denoiser_settings"


def default_cache_dir() -> Path | None:
    """Returns the folder in which this program may cache, `cae` in the user's own one.

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
    """The best settings for pairs of images that were searched before, a small JSON file for each set of pairs.

    Nothing is lost with it: what cannot be read is searched again, and what cannot be written is not kept.

    Attributes:
      folder: Where the files are, which need not exist; None for no cache.
    """

    folder: Path | None

    def read(self, clean: np.ndarray, noisy: np.ndarray) -> dict[str, Setting] | None:
        """Looks up the best settings for pairs of images.

        Args:
          clean: Images, float32 [n, height, width, channels] in 0..1.
          noisy: The same images with noise.

        Returns:
          The setting of each of `classical.METHODS` by name, or None where they have to be searched: there is no file
          for just these images, methods, choices and versions, or none that can be read.
        """
        if self.folder is None:
            return None
        key = _key(clean, noisy)
        try:
            held = json.loads(self._path(key).read_text())
            if held["key"] != key:
                return None
            return {name: _choice(method, held["settings"][name]) for name, method in classical.METHODS.items()}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def write(self, clean: np.ndarray, noisy: np.ndarray, settings: Mapping[str, Setting]) -> None:
        """Keeps the best settings for pairs of images, if the folder can be written.

        Args:
          clean: Images, as `read` takes them.
          noisy: The same images with noise.
          settings: The setting of each of `classical.METHODS` by name.
        """
        if self.folder is None:
            return
        key = _key(clean, noisy)
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own, so that evaluations at the same time do not write to one file.
            descriptor, partial = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(json.dumps({"key": key, "settings": _plain(settings)}, indent=2) + "\n")
                os.replace(partial, path)
            except BaseException:
                Path(partial).unlink(missing_ok=True)
                raise
        except OSError:
            return

    def _path(self, key: dict[str, Any]) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / FOLDER / f"{digest[:32]}.json"


def _key(clean: np.ndarray, noisy: np.ndarray) -> dict[str, Any]:
    """Returns all that the choice depends on, as JSON has it.

    The pixels themselves stand for data set, split, number of images, noise and seed, and for whatever else may change
    them: a folder's pictures under the same names, or random numbers of another version of TensorFlow.
    """
    return {
        "shape": list(clean.shape),
        "clean": _digest(clean),
        "noisy": _digest(noisy),
        "choices": {name: _plain(method.choices) for name, method in classical.METHODS.items()},
        "code": hashlib.sha256(inspect.getsource(classical).encode()).hexdigest(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _digest(images: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(images, np.float32)).hexdigest()


def _plain(value: Any) -> Any:
    """Returns a value as it is read back from JSON; what JSON does not have becomes its text."""
    return json.loads(json.dumps(value, default=repr))


def _choice(method: classical.Method, held: Any) -> Setting:
    """Returns the setting of a method that a file names; raises `ValueError` where the method has no such setting."""
    for setting in method.settings():
        if _plain(setting) == held:
            return setting
    raise ValueError(f"{held} is none of the method's settings")
